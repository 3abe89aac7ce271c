"""A local port that leads into a workload."""

from __future__ import annotations

import logging
from typing import Any

import trio

from fondaco.node.tenant.access import Access
from fondaco.protocol import limits
from fondaco.protocol.errors import FondacoError, Refused

log = logging.getLogger("fondaco.tenant")
CHUNK_BYTES = 64 * 1024


async def serve_forward(
    lease: Access,
    service: str,
    port: int,
    listen: int,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept on 127.0.0.1:`listen` until cancelled; reports the port taken.

    Raises `Refused` `forward.port_taken`.
    """
    places = trio.CapacityLimiter(limits.CHANNEL_STREAMS_PER_PEER)

    async def carry(local: trio.SocketStream) -> None:
        async with places, local:
            try:
                async with lease.forward(service, port) as remote:
                    await join(local, remote)
            except FondacoError as error:
                log.warning("%s", error)

    try:
        listeners = await trio.open_tcp_listeners(listen, host="127.0.0.1")
    except OSError as error:
        raise Refused("forward.port_taken", f"cannot listen on 127.0.0.1:{listen}: {error.strerror}") from None
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(carry, listeners)


async def join(local: trio.SocketStream, remote: Any) -> None:
    """Copy both ways until both directions have ended, or one broke."""

    async def upwards() -> None:
        async for data in local:
            await remote.send_all(data)
        await remote.send_eof()

    async def downwards() -> None:
        while data := await remote.receive_some(CHUNK_BYTES):
            await local.send_all(data)
        await local.send_eof()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upwards)
            nursery.start_soon(downwards)
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        log.debug("a forwarded connection broke")
