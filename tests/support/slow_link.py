"""A link that takes its time: a TCP relay on loopback that passes on every byte so many milliseconds later."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial

import trio

from fondaco.node.network.peers import Address

READ_BYTES = 65_536
WAITING = 10_000
"""Pieces on their way; more wait at the sender."""


@contextlib.asynccontextmanager
async def slow_link(to: Address, delay_ms: int) -> AsyncIterator[Address]:
    """The address at which the peer at `to` is reached `2 * delay_ms` later than there, there and back."""
    _, _, host, _, port, _, peer = to.split("/")

    async def serve(near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream(host, int(port))
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(_carry, near, far, delay_ms / 1_000)
            nursery.start_soon(_carry, far, near, delay_ms / 1_000)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), serve, 0)
        own = listener.socket.getsockname()[1]
        yield Address(f"/ip4/127.0.0.1/tcp/{own}/p2p/{peer}")
        nursery.cancel_scope.cancel()


async def _carry(source: trio.SocketStream, target: trio.SocketStream, delay_s: float) -> None:
    send, receive = trio.open_memory_channel[tuple[float, bytes]](WAITING)

    async def read() -> None:
        async with send:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while data := await source.receive_some(READ_BYTES):
                    await send.send((trio.current_time() + delay_s, data))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for due, data in receive:
                await trio.sleep_until(due)
                await target.send_all(data)
            await target.send_eof()
