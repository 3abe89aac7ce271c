"""Connections to the workloads of a service's replicas: opened in time, counted, and kept for the next request."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from fondaco.node.tenant import bounds, records, services
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import Deployment, LeaseHandle
from fondaco.node.tenant.services import Service
from fondaco.protocol.errors import Unreachable

CONNECT_S = 3.0
"""Time to a connection that the workload has accepted; what takes longer is tried elsewhere."""
IDLE_S = 10.0
"""A connection is kept for so long; servers close idle ones themselves, many after fifteen seconds or more."""

FOLLOW_S = 0.25
"""Between looks at whether files have changed."""

Connect = Callable[[], Awaitable[trio.abc.HalfCloseableStream]]


@dataclass(slots=True, eq=False)
class Upstream:
    """One replica's workload."""

    name: str
    identity: str
    """Of its lease."""
    dial: Connect
    """A new connection to the workload's port. Raises `Refused` or `Unreachable`."""
    places: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(bounds.ROUTE_STREAMS_PER_REPLICA))
    closed: bool = False
    """Nothing is kept any more: another lease has taken its place."""
    _idle: deque[tuple[float, trio.abc.HalfCloseableStream]] = field(default_factory=deque)

    async def connect(self) -> trio.abc.HalfCloseableStream:
        """A new connection. Raises `Unreachable` or `Refused`; `route.full` where all places are taken."""
        with trio.move_on_after(CONNECT_S):
            return await self.dial()
        raise Unreachable("route.timeout", f"{self.name} takes no connection within {CONNECT_S:.0f} s")

    def kept(self) -> trio.abc.HalfCloseableStream | None:
        """A connection that was used before and left as it should be, the newest; it may have ended since."""
        while self._idle:
            since, stream = self._idle.pop()
            if trio.current_time() - since < IDLE_S:
                return stream
            discard(stream)
        return None

    def keep(self, stream: trio.abc.HalfCloseableStream) -> None:
        """For the next request; the oldest goes where there are too many."""
        if self.closed:
            discard(stream)
            return
        self._idle.append((trio.current_time(), stream))
        if len(self._idle) > bounds.ROUTE_IDLE_PER_REPLICA:
            discard(self._idle.popleft()[1])

    def sweep(self) -> None:
        """Let go of what nobody has used for a while."""
        while self._idle and trio.current_time() - self._idle[0][0] >= IDLE_S:
            discard(self._idle.popleft()[1])

    def close(self) -> None:
        """It serves no more: let go of all that is idle; what is in use ends by itself."""
        self.closed = True
        self.clear()

    def clear(self) -> None:
        """Let go of all that is idle."""
        while self._idle:
            discard(self._idle.popleft()[1])


def discard(stream: trio.abc.HalfCloseableStream) -> None:
    """Close a connection without waiting for it."""
    trio.lowlevel.spawn_system_task(_discard, stream)


async def _discard(stream: trio.abc.HalfCloseableStream) -> None:
    with trio.move_on_after(CONNECT_S):
        await stream.aclose()


def upstream(lease: LeaseHandle, *, name: str, service: str = "", port: int = 0) -> Upstream:
    """A lease's workload as one. Raises `Refused` `lease.no_port` where no port is named and none is exposed."""
    if not (service and port):
        main_service, main_port = lease.main_port()
        service, port = service or main_service, port or main_port

    async def dial() -> trio.abc.HalfCloseableStream:
        return await lease.channel().forward(service, port)

    return Upstream(name=name, identity=lease.id, dial=dial)


def upstreams(tenant: Tenant, service: Service, *, of_service: str = "", port: int = 0) -> dict[str, Upstream]:
    """All replicas of a service, as the tenant's files say now."""
    found = {}
    for name, record in services.files(service, tenant.folder).items():
        handle = LeaseHandle(Deployment(tenant, record), services.serving(record))
        found[name] = upstream(handle, name=name, service=of_service, port=port)
    return found


async def follow(
    tenant: Tenant,
    name: str,
    update: Callable[[dict[str, Upstream]], None],
    *,
    of_service: str = "",
    port: int = 0,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Tell of the replicas of a service, and again whenever a file of theirs changes, until cancelled.

    So a lease that took another one's place is found, whichever process had it do so. Raises `Refused`
    `lease.not_found`, `keys.not_owner`, or as `upstream` does.
    """
    before: object = None
    while True:
        service = services.find(tenant.home, tenant.folder, name, owner=tenant.wallet.signer.public_key)
        now = {one: records.written_at(tenant.folder, what) for one, what in service.replicas.items()}
        if (service, now) != before:
            before = service, now
            update(upstreams(tenant, service, of_service=of_service, port=port))
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
        await trio.sleep(FOLLOW_S)
