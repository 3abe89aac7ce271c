"""One stream to one peer, in our own types and errors."""

from __future__ import annotations

import contextlib
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.stream_muxer.exceptions import MuxedStreamEOF

from fondaco.node.network.peers import PeerId
from fondaco.protocol import limits
from fondaco.protocol.errors import Unreachable

STREAM_ERRORS = (
    BaseLibp2pError,
    OSError,
    ValueError,  # bytes that are not UTF-8, addresses that are none
    KeyError,  # a stream that was removed while it was waited for
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
"""What the library raises when a peer or its connection goes away or talks nonsense. Not `Exception`: bugs of
ours must come through."""


class Stream:
    """An ordered stream of bytes both ways; it is reset with its connection, and by a peer that has had enough.

    Reading goes past the library's `NetStream`, whose state locks cost more than the reading.
    """

    def __init__(self, raw: Any, peer: PeerId) -> None:
        self.peer = peer
        self._raw = raw
        self._muxed = raw.muxed_stream

    @property
    def relayed(self) -> bool:
        """Whether a relay is between us and the peer."""
        return bool(self._muxed.conn.secured_conn.relayed)

    async def read(self, max_bytes: int = 65_536) -> bytes:
        """The next bytes, one to `max_bytes` of them; empty at the end. Raises `Unreachable` `stream.reset`."""
        try:
            data: bytes = await self._muxed.read(max_bytes)
        except MuxedStreamEOF as error:
            if self._muxed.reset_received:  # upstream forgets a stream at its reset, and then says it ended
                raise self._lost(error) from None
            return b""
        except STREAM_ERRORS as error:
            raise self._lost(error) from None
        return data

    async def write(self, data: bytes) -> None:
        """Send all of `data`.

        Waits while the peer's window is full, five seconds at most. Raises `Unreachable` `stream.reset`.
        """
        try:
            await self._muxed.write(data)
        except STREAM_ERRORS as error:
            raise self._lost(error) from None

    def _lost(self, error: BaseException) -> Unreachable:
        return Unreachable("stream.reset", f"the stream to {self.peer} is gone: {type(error).__name__}")

    async def close(self) -> None:
        """End our side; what the peer still sends can be read."""
        with self._ending():
            await self._muxed.close()
            if self._muxed.closed:
                await self._raw.remove()

    async def finish(self) -> None:
        """End our side and see the other end its own; a peer that keeps it open loses the stream.

        Left half-open, streams would pile up in the multiplexer beyond every limit.
        """
        await self.close()
        with trio.move_on_after(limits.HALF_CLOSED_MS / 1000), contextlib.suppress(Unreachable):
            while not self._muxed.closed and await self.read():
                pass
        if not self._muxed.closed:
            await self.reset()

    async def reset(self) -> None:
        """End both sides at once; never raises."""
        with self._ending():
            await self._raw.reset()

    @contextlib.contextmanager
    def _ending(self) -> Any:
        """Endings are sent even by a cancelled task, and never for long: the peer may be gone already."""
        with trio.move_on_after(limits.OPEN_STREAM_TIMEOUT_MS / 1000, shield=True):
            with contextlib.suppress(*STREAM_ERRORS):
                yield
