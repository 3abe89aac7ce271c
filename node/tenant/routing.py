"""A local router over the replicas of a service: each connection, or request, goes to one that is well.

    router = Router(RouteSettings(http=True), report=print)
    router.update(upstreams)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(router.serve, "127.0.0.1", 8000)
        ...
        await router.drain(10)

What is decided is in `balancing`, how a request is passed on in `proxying`. Here are the sockets, the looks at
health, and what is counted.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import trio

from fondaco.node.tenant import bounds
from fondaco.node.tenant.balancing import Balancer, Change, Health, Standing
from fondaco.node.tenant.forwarding import join
from fondaco.node.tenant.upstreams import Upstream
from fondaco.protocol.errors import FondacoError, Refused

log = logging.getLogger("fondaco.tenant")
NONE, ADDRESS, COOKIE = STICKY = ("none", "address", "cookie")
PROBE_S = 3.0
"""What does not answer a probe within this time is not well."""
LOOK_S = 0.25
"""The longest wait before it is looked whether a probe is due: replicas come and go meanwhile."""
FULL_S = 0.1
"""Wait where the system has no room for one more connection."""
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    http: bool = True
    """Pass on requests one by one; else connections."""
    sticky: str = NONE
    weights: Mapping[str, int] = field(default_factory=dict)
    """By replica; 1 unless given."""
    health_path: str = "/"
    """What probes ask for over HTTP; an answer below 500 is a good one."""
    answer_s: float = 60.0
    """Time from a request to the first line of its answer."""


@dataclass(slots=True)
class Counts:
    """Since the start."""

    connections: int = 0
    requests: int = 0
    """Answered by a replica; in TCP mode, connections that were carried."""
    retried: int = 0
    """Times that a request, or connection, went on to another replica."""
    failed: int = 0
    """Answered by the router itself, or dropped: nobody could serve it, or it could not be said again."""


Told = Callable[[Change], None]


def _quiet(change: Change) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class Attempt:
    """One replica's turn with a request, or a connection."""

    router: Router
    name: str
    upstream: Upstream
    standing: Standing
    started: float

    def succeeded(self) -> None:
        """It answered, just now."""
        now = trio.current_time()
        took_ms = (now - self.started) * 1_000
        self.router.tell(self.router.balancer.succeed(self.name, self.standing, took_ms, now=now))

    def failed(self, why: object) -> None:
        """It could not be reached, or broke off."""
        log.info("%s: %s", self.name, why)
        self.router.tell(self.router.balancer.fail(self.name, self.standing, now=trio.current_time()))


class Router:
    """Listens, and passes on; `serve` it."""

    def __init__(
        self,
        settings: RouteSettings,
        *,
        report: Told = _quiet,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.balancer = Balancer(uniform)
        self.upstreams: dict[str, Upstream] = {}
        self.counts = Counts()
        self.open = 0
        """Connections from clients."""
        self.draining = False
        self._report = report
        self._idle: set[trio.CancelScope] = set()
        self._places = trio.Semaphore(bounds.ROUTE_CONNECTIONS)
        self._listening = trio.CancelScope()
        self._ended = trio.Event()

    # Replicas

    def update(self, upstreams: Mapping[str, Upstream]) -> None:
        """These are the replicas from now on; what is under way at others ends as it would have."""
        known = {
            name: kept
            for name, kept in self.upstreams.items()
            if name in upstreams and upstreams[name].identity == kept.identity
        }
        for name, gone in self.upstreams.items():
            if name not in known:
                gone.close()
        self.upstreams = {name: known.get(name, found) for name, found in upstreams.items()}
        identities = {name: one.identity for name, one in self.upstreams.items()}
        self.balancer.update(identities, self.settings.weights, now=trio.current_time())

    def tell(self, change: Change | None) -> None:
        if change is not None:
            log.info("%s is %s", change.replica, change.health)
            if change.health is Health.DOWN and change.replica in self.upstreams:
                self.upstreams[change.replica].clear()
            self._report(change)

    async def begin(self, tried: set[str], *, wanted: str = "", key: str = "") -> Attempt | None:
        """The next replica's turn, once there is a place; None when all had theirs. Hand it to `end`."""
        full = {name for name, one in self.upstreams.items() if not one.places.value}
        name = self.balancer.pick(tried=tried | full, wanted=wanted, key=key)
        if name is None:
            name = self.balancer.pick(tried=tried, wanted=wanted, key=key)
        if name is None:
            return None
        upstream = self.upstreams[name]
        standing = self.balancer.begin(name)
        if tried:
            self.counts.retried += 1
        tried.add(name)
        try:
            await upstream.places.acquire()
        except BaseException:
            self.balancer.end(standing)
            raise
        return Attempt(self, name, upstream, standing, trio.current_time())

    def end(self, attempt: Attempt) -> None:
        """The turn is over, however it went."""
        attempt.upstream.places.release()
        self.balancer.end(attempt.standing)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[trio.CancelScope]:
        """While a client's connection is idle: `drain` ends it there."""
        with trio.CancelScope() as scope:
            self._idle.add(scope)
            if self.draining:
                scope.cancel()
            try:
                yield scope
            finally:
                self._idle.discard(scope)

    # Sockets

    async def serve(
        self, host: str, port: int, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Accept until drained or cancelled; reports the port taken. Raises `Refused` `route.listen`."""
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise Refused("route.listen", f"cannot listen on {host}:{port}: {error.strerror or error}") from None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.watch_health)
                task_status.started(listeners[0].socket.getsockname()[1])
                async with trio.open_nursery() as handlers:
                    with self._listening:
                        async with trio.open_nursery() as accepting:
                            for listener in listeners:
                                accepting.start_soon(self._accept, listener, handlers)
                self._ended.set()
                nursery.cancel_scope.cancel()
        finally:
            for one in self.upstreams.values():
                one.close()

    async def drain(self, patience_s: float) -> bool:
        """Take no more connections, and let those there are come to their end; whether all did in time."""
        self.draining = True
        self._listening.cancel()
        for scope in list(self._idle):
            scope.cancel()
        with trio.move_on_after(patience_s):
            await self._ended.wait()
        return self._ended.is_set()

    async def _accept(self, listener: trio.SocketListener, handlers: trio.Nursery) -> None:
        """Whoever comes when all places are taken waits in the kernel."""
        async with listener:
            while True:
                await self._places.acquire()
                try:
                    local = await listener.accept()
                except OSError as error:
                    self._places.release()
                    if error.errno not in _FULL:
                        raise
                    await trio.sleep(FULL_S)
                except BaseException:
                    self._places.release()
                    raise
                else:
                    handlers.start_soon(self._accepted, local)

    async def _accepted(self, local: trio.SocketStream) -> None:
        self.counts.connections += 1
        self.open += 1
        try:
            async with local:
                if self.settings.http:
                    from fondaco.node.tenant.proxying import serve_http

                    await serve_http(self, local)
                else:
                    await self._carry(local)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a client went away")
        finally:
            self.open -= 1
            self._places.release()

    async def _carry(self, local: trio.SocketStream) -> None:
        """TCP: the first replica that takes the connection has it until its end."""
        key = self.client_key(local)
        tried = set[str]()
        while (attempt := await self.begin(tried, key=key)) is not None:
            try:
                try:
                    remote = await attempt.upstream.connect()
                except FondacoError as error:
                    attempt.failed(error)
                    continue
                attempt.succeeded()
                self.counts.requests += 1
                try:
                    await join(local, remote)
                finally:
                    with trio.CancelScope(shield=True):
                        await remote.aclose()
                return
            finally:
                self.end(attempt)
        self.counts.failed += 1

    def client_key(self, local: trio.SocketStream) -> str:
        """What makes a client come to the same replica, where it is to."""
        return client_address(local) if self.settings.sticky == ADDRESS else ""

    # Health

    async def watch_health(self) -> None:
        """Probe what is due, until cancelled."""
        under_way = set[str]()
        async with trio.open_nursery() as nursery:

            async def probe(name: str) -> None:
                try:
                    await self.probe(name)
                finally:
                    under_way.discard(name)

            while True:
                now = trio.current_time()
                for name in self.balancer.due(now=now):
                    if name not in under_way:
                        under_way.add(name)
                        nursery.start_soon(probe, name)
                for one in self.upstreams.values():
                    one.sweep()
                await trio.sleep(LOOK_S if under_way else min(LOOK_S, max(0.01, self.balancer.next_due() - now)))

    async def probe(self, name: str) -> None:
        """Ask one replica how it is, as a client would."""
        upstream, standing = self.upstreams.get(name), self.balancer.replicas.get(name)
        if upstream is None or standing is None:  # gone since it was due
            return
        began = trio.current_time()
        try:
            with trio.fail_after(PROBE_S):
                remote = await upstream.connect()
                try:
                    if self.settings.http:
                        from fondaco.node.tenant.proxying import ask

                        await ask(remote, self.settings.health_path)
                finally:
                    with trio.CancelScope(shield=True):
                        await remote.aclose()
        except (FondacoError, trio.TooSlowError, trio.BrokenResourceError) as error:
            log.debug("%s: %s", name, error)
            self.tell(self.balancer.fail(name, standing, now=trio.current_time(), probe=True))
        else:
            now = trio.current_time()
            took_ms = (now - began) * 1_000
            self.tell(self.balancer.succeed(name, standing, took_ms, now=now, probe=True))

    def figures(self) -> dict[str, object]:
        """What is counted, and how each replica is."""
        counts = self.counts
        return {
            "connections": counts.connections,
            "open": self.open,
            "requests": counts.requests,
            "retried": counts.retried,
            "failed": counts.failed,
            "replicas": {
                name: {
                    "lease": one.identity,
                    "health": one.health.value,
                    "weight": one.weight,
                    "latency_ms": None if one.latency_ms is None else round(one.latency_ms, 1),
                    "in_flight": one.in_flight,
                    "served": one.served,
                    "failed": one.failed,
                }
                for name, one in self.balancer.replicas.items()
            },
        }


def client_address(local: trio.SocketStream) -> str:
    """Where a client connects from; empty for one that is gone already."""
    try:
        return str(local.socket.getpeername()[0])
    except OSError:
        return ""
