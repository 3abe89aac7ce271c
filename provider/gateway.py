"""What a tenant reaches: `/fondaco/lease/1`, served for the leases of one agent.

Only the lease's tenant comes past the handshake. A handler accepts its call once it knows that it can serve it, so
that a denial arrives as the call's own error.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any

import trio

from fondaco.protocol import channel_calls as calls
from fondaco.protocol import channel_exec, codec, limits
from fondaco.protocol.channel import Called, ServerSession
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.nonces import SeenNonces
from fondaco.protocol.records import LeaseState
from fondaco.protocol.scalars import Hash, LeaseId
from fondaco.provider.agent import Agent
from fondaco.provider.duplex import Duplex
from fondaco.provider.executing import Places, carry, tell_exit
from fondaco.provider.leases import LeaseWork, Phase
from fondaco.provider.ports import Stream
from fondaco.provider.runtimes.port import KILLED, Command, LogLine, WorkloadId, parse_workload_id, workload_id
from fondaco.provider.together import closing, run_all
from fondaco.provider.usage import USAGE_EVERY_S, Traffic, usages

log = logging.getLogger("fondaco.provider")
CHUNK_BYTES = 64 * limits.KIB
LINGER_S = 5.0
"""How long the tenant has to say that it is done as well."""
Handler = Callable[[LeaseId, Any, Duplex], Awaitable[None]]


class Gateway:
    """Serves streams; hand `serve` to the host as the handler of `channel.PROTOCOL`."""

    def __init__(self, agent: Agent, *, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._agent = agent
        self._random = random
        self._seen = SeenNonces()
        self._open: Counter[str] = Counter()
        self._commands = Places()
        self._handlers: dict[str, tuple[type, Handler]] = {
            calls.PUT_MANIFEST: (calls.PutManifest, self._put_manifest),
            calls.STATUS: (calls.StatusRequest, self._status),
            calls.LOGS: (calls.LogsRequest, self._logs),
            calls.EVENTS: (calls.EventsRequest, self._events),
            calls.USAGE: (calls.UsageRequest, self._usage),
            calls.FORWARD: (calls.ForwardRequest, self._forward),
            channel_exec.EXEC: (channel_exec.ExecRequest, self._exec),
        }

    async def serve(self, stream: Stream) -> None:
        """Serve one call. Raises `PeerFault` for a peer that breaks the protocol, nothing else."""
        peer = stream.peer
        if self._open[peer] >= limits.CHANNEL_STREAMS_PER_PEER or self._open.total() >= limits.CHANNEL_STREAMS:
            await stream.reset()
            return
        self._open[peer] += 1
        try:
            await self._serve(stream)
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    async def _serve(self, stream: Stream) -> None:
        agent = self._agent
        session = ServerSession(
            agent.chain.id,
            agent.signer,
            tenant_peer=stream.peer,
            provider_peer=agent.config.peer,
            nonce=Hash(self._random(32)),
            seen=self._seen,
        )
        duplex = Duplex(stream, session)
        try:
            lease, called = await duplex.greet(agent.await_lease)
            handler, params = self._handler(called)
            if not agent.started:
                raise Unreachable("provider.starting", "the provider has just started", hint="try again soon")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(duplex.pump)
                nursery.start_soon(_cancel_when_lost, duplex, nursery.cancel_scope)
                await _answer(duplex, lambda: handler(lease, params, duplex))
                nursery.cancel_scope.cancel()
        except Refused as error:
            log.info("call refused", extra={"peer": stream.peer, "code": error.code})
            await duplex.fail(error)
        except Unreachable as error:
            await duplex.fail(error)
        finally:
            await duplex.aclose()
        if isinstance(duplex.error, PeerFault):
            raise duplex.error

    def _handler(self, called: Called) -> tuple[Handler, Any]:
        entry = self._handlers.get(called.method)
        if entry is None:
            raise Refused("channel.method", f"this provider does not know the method {called.method[:64]!r}")
        kind, handler = entry
        return handler, codec.decode(called.params, kind, limit=limits.CHANNEL_REQUEST_BYTES)

    def _work(self, lease: LeaseId) -> LeaseWork:
        work = self._agent.work(lease)
        record = self._agent.chain.lease(lease)
        if work is None or record is None or record.state is LeaseState.CLOSED:
            raise Refused("lease.closed", "the lease is over")
        return work

    # --- Methods

    async def _put_manifest(self, lease: LeaseId, params: calls.PutManifest, duplex: Duplex) -> None:
        attempt = await self._work(lease).hand_over(params)
        await duplex.accept()
        async with closing(attempt.follow()) as progress:
            async for item in progress:
                await duplex.send(codec.encode(item))

    async def _status(self, lease: LeaseId, _params: calls.StatusRequest, duplex: Duplex) -> None:
        work = self._agent.work(lease)
        if work is None:
            status = calls.Status(lease=lease, phase=Phase.CLOSED.value, detail="the lease is over", services=())
        else:
            status = await work.status()
        await duplex.accept()
        await duplex.send(codec.encode(status))

    async def _logs(self, lease: LeaseId, params: calls.LogsRequest, duplex: Duplex) -> None:
        work = self._work(lease)
        workloads = _workloads(work, params.service)
        tail = None if params.tail is None else min(params.tail, limits.LOG_TAIL_LINES)
        sources = self._sources(workloads, tail, params)
        with _following(work, params.follow):
            await duplex.accept()
            senders = [partial(_send_lines, workload, lines, duplex) for workload, lines in sources]
            if params.follow:
                await run_all(senders)
            else:
                for send in senders:
                    await send()

    def _sources(
        self, workloads: list[WorkloadId], tail: int | None, params: calls.LogsRequest
    ) -> list[tuple[WorkloadId, AsyncIterator[LogLine]]]:
        """The logs asked for; of those that have no previous one only if all have none is that an error."""
        found: list[tuple[WorkloadId, AsyncIterator[LogLine]]] = []
        missing: Refused | None = None
        for workload in workloads:
            try:
                lines = self._agent.runtime.logs(
                    workload, tail=tail, follow=params.follow, previous=params.previous
                )
                found.append((workload, lines))
            except Refused as error:
                if error.code != "logs.no_previous":
                    raise
                missing = error
        if not found and missing is not None:
            raise missing
        return found

    async def _events(self, lease: LeaseId, params: calls.EventsRequest, duplex: Duplex) -> None:
        work = self._agent.work(lease)
        if work is None:  # over, and still told of for a while
            await duplex.accept()
            await _send_all(self._agent.events.of(lease).after(params.after), duplex)
            return
        with _following(work, params.follow):
            await duplex.accept()
            if not params.follow:
                await _send_all(work.events.after(params.after), duplex)
                return
            async with closing(work.events.follow(params.after)) as events:
                async for event in events:
                    await duplex.send(codec.encode(event))

    async def _usage(self, lease: LeaseId, params: calls.UsageRequest, duplex: Duplex) -> None:
        work = self._work(lease)
        workloads = _workloads(work, params.service)
        with _following(work, params.follow):
            await duplex.accept()
            await _send_all(await usages(self._agent.runtime, workloads, work.traffic), duplex)
            while params.follow:
                await trio.sleep(USAGE_EVERY_S)
                workloads = _workloads(self._work(lease), params.service)
                await _send_all(await usages(self._agent.runtime, workloads, work.traffic), duplex)

    async def _forward(self, lease: LeaseId, params: calls.ForwardRequest, duplex: Duplex) -> None:
        work = self._work(lease)
        if not any(name == params.service for name, _ in work.services()):
            raise Refused("workload.unknown", f"this lease runs no service {params.service!r}")
        workload = workload_id(lease, params.service)
        socket, traffic = await self._agent.runtime.dial(workload, params.port), work.traffic[workload]
        async with socket:
            await duplex.accept()
            ways = (partial(way, duplex, socket, traffic) for way in (_to_workload, _from_workload))
            await run_all(ways)

    async def _exec(self, lease: LeaseId, params: channel_exec.ExecRequest, duplex: Duplex) -> None:
        work = self._work(lease)
        channel_exec.check(params)
        if not any(name == params.service and params.replica < count for name, count in work.services()):
            raise Refused("workload.unknown", f"this lease runs no {params.service!r} {params.replica}")
        command = Command(argv=params.argv, env=params.env, terminal=params.terminal)
        workload = workload_id(lease, params.service, params.replica)
        with self._commands.one(lease):
            async with self._agent.runtime.execute(workload, command) as execution:
                await duplex.accept()
                code = await carry(execution, params, duplex)
        if code == KILLED:
            self._work(lease)  # with its lease, perhaps: then that is what the tenant hears
        await tell_exit(code, duplex)


async def _cancel_when_lost(duplex: Duplex, scope: trio.CancelScope) -> None:
    await duplex.lost.wait()
    scope.cancel()


async def _answer(duplex: Duplex, handle: Callable[[], Awaitable[None]]) -> None:
    """Run a handler and end the call as it ended; its errors are the tenant's to hear."""
    try:
        await handle()
        await duplex.end()
    except (Refused, Unreachable) as error:
        await duplex.fail(error)
        return
    except PeerFault as error:
        await duplex.fail(error)  # unless the pump has reset the stream already
        return
    with trio.move_on_after(LINGER_S):
        await duplex.finished.wait()


def _workloads(work: LeaseWork, service: str) -> list[WorkloadId]:
    found = [
        workload_id(work.id, name, replica)
        for name, count in work.services()
        for replica in range(count)
        if service in ("", name)
    ]
    if not found:
        raise Refused("workload.unknown", f"this lease runs no service {service!r}" if service else "nothing runs")
    return found


@contextlib.contextmanager
def _following(work: LeaseWork, follow: bool) -> Iterator[None]:
    """Hold one of the places that a lease has for those who follow it. Raises `Refused` `lease.followers`."""
    if follow and work.followers >= limits.LOG_FOLLOWERS_PER_LEASE:
        raise Refused("lease.followers", f"at most {limits.LOG_FOLLOWERS_PER_LEASE} follow one lease")
    work.followers += follow
    try:
        yield
    finally:
        work.followers -= follow


async def _send_all(items: Iterable[object], duplex: Duplex) -> None:
    for item in items:
        await duplex.send(codec.encode(item))


async def _send_lines(workload: WorkloadId, lines: AsyncIterator[LogLine], duplex: Duplex) -> None:
    parsed = parse_workload_id(workload)
    assert parsed is not None, "an id we made"
    _, service, replica = parsed
    async with closing(lines):
        async for line in lines:
            item = calls.LogItem(
                service=service,
                replica=replica,
                time=line.at,
                stream=line.channel.value,
                line=line.text,
                partial=line.partial,
            )
            await duplex.send(codec.encode(item))


async def _to_workload(duplex: Duplex, socket: trio.abc.HalfCloseableStream, traffic: Traffic) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while (data := await duplex.receive()) is not None:
            await socket.send_all(data)
            traffic.received_bytes += len(data)
        await socket.send_eof()
        return
    # The workload takes nothing more; what it sends may still come. Read on, so that the tenant is not held up.
    while await duplex.receive() is not None:
        pass


async def _from_workload(duplex: Duplex, socket: trio.abc.HalfCloseableStream, traffic: Traffic) -> None:
    try:
        while data := await socket.receive_some(CHUNK_BYTES):
            traffic.sent_bytes += len(data)
            await duplex.send(bytes(data))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise Unreachable("forward.broken", "the workload broke the connection") from None
    await duplex.end()
