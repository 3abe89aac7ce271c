"""Silent connections are found and dropped.

A killed process is noticed at once, because its kernel closes the socket. A frozen one, or a cable pulled out,
is not: TCP waits for hours. So every connection is pinged, and one that does not answer is cut: socket first,
because the multiplexer's polite goodbye would itself wait for a peer that reads nothing.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterable
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.stream_muxer.yamux import yamux

from fondaco.node.network.yamux import BoundedYamux
from fondaco.protocol import limits

CLOSE_S = 3.0


class Keepalive:
    """Pings every connection `connections()` returns, all of them each `interval_ms`, and cuts the silent."""

    def __init__(
        self,
        connections: Callable[[], Iterable[Any]],
        *,
        interval_ms: int = limits.KEEPALIVE_INTERVAL_MS,
        timeout_ms: int = limits.KEEPALIVE_TIMEOUT_MS,
        on_silent: Callable[[Any], None] = lambda _peer: None,
    ) -> None:
        self._connections = connections
        self._interval_s = interval_ms / 1000
        self._timeout_s = timeout_ms / 1000
        self._on_silent = on_silent
        self.dropped = 0
        """Connections cut for their silence."""

    async def run(self) -> None:
        """For ever; a slow answer of one connection does not delay the others."""
        busy: set[int] = set()
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self._interval_s)
                for connection in list(self._connections()):
                    if id(connection) not in busy:
                        nursery.start_soon(self._check, connection, busy)

    async def _check(self, connection: Any, busy: set[int]) -> None:
        busy.add(id(connection))
        try:
            if not await self._answers(connection.muxed_conn):
                self.dropped += 1
                self._on_silent(connection.muxed_conn.peer_id)
                await drop(connection)
        finally:
            busy.discard(id(connection))

    async def _answers(self, muxed: BoundedYamux) -> bool:
        """Whether a ping comes back in time; anything that breaks on the way counts as silence."""
        with trio.move_on_after(self._timeout_s), contextlib.suppress(BaseLibp2pError, OSError):
            muxed._ping_id += 1
            muxed._ping_event = answered = trio.Event()
            muxed._ping_sent_time = trio.current_time()
            ping = (0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, muxed._ping_id & 0xFFFFFFFF)
            await muxed._write_frame(struct.pack(yamux.YAMUX_HEADER_FORMAT, *ping))
            await answered.wait()
            return True
        return False


async def drop(connection: Any) -> None:
    """Close one connection of the swarm: the socket, then the bookkeeping, each within a bound."""
    await connection.muxed_conn.cut()
    with trio.move_on_after(CLOSE_S), contextlib.suppress(BaseLibp2pError, OSError):
        await connection.close()
