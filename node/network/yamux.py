"""Yamux as py-libp2p has it, bounded: subclasses, so nothing of the library is changed for others.

What is different (network.md, points 5 and 12, and some found on the way):

- *Receive window.* Upstream only logs when a peer ignores it, and grows it to 16 MiB; 200 MB went into a stream
  nobody read. Here a stream's buffer ends at `limits.STREAM_WINDOW_BYTES`, and a peer that goes beyond loses the
  connection. Nor is a data frame read that could not fit.
- *Credit.* Upstream sends a window update after nearly every read, a tenth of all CPU. Returning credit once half
  the window was read is what the specification allows.
- *Whole frames.* A write that is cancelled half-way leaves the cipher's counter ahead of the bytes sent: the
  connection is then garbage to the other side. So a frame is written whole, shielded, or the connection ends.
- *Stall.* A socket that takes nothing for five seconds would hold that write, and our reader when it answers a
  ping, for ever: the connection is closed instead.
- *Waking.* However reading ends, those who wait for a stream's data are woken.
"""

from __future__ import annotations

import contextlib
from typing import Any

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.yamux import yamux as upstream

from fondaco.protocol import limits

FIRST_WINDOW = upstream.DEFAULT_WINDOW_SIZE
"""What the specification grants every new stream; widened once, when half of it was read."""


class ReceiveBuffer(bytearray):
    """What one stream has received and nobody has read yet."""

    def __init__(self, connection: BoundedYamux) -> None:
        super().__init__()
        self._connection = connection

    def extend(self, data: Any) -> None:
        """Take in a frame's data; ends the connection instead when the window is overrun."""
        if len(self) + len(data) > limits.STREAM_WINDOW_BYTES:
            self._connection.overruns += 1
            self._connection.event_shutting_down.set()  # the reader leaves its loop and cleans up
            return
        super().extend(data)


class _Buffers(dict[int, bytearray]):
    """Upstream puts a plain `bytearray` in for each new stream; a bounded one takes its place."""

    def __init__(self, connection: BoundedYamux) -> None:
        super().__init__()
        self._connection = connection

    def __setitem__(self, stream_id: int, buffer: bytearray) -> None:
        super().__setitem__(stream_id, ReceiveBuffer(self._connection))


class _Streams(dict[int, Any]):
    """Upstream names its stream class outright; streams become ours as they are registered."""

    def __setitem__(self, stream_id: int, stream: Any) -> None:
        stream.__class__ = BoundedStream
        super().__setitem__(stream_id, stream)


class BoundedStream(upstream.YamuxStream):  # type: ignore[misc]
    """A stream that returns credit at half a window."""

    target_recv_window: int
    recv_window: int
    _pending_recv_release: int

    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:
        self._pending_recv_release += bytes_read
        if self._pending_recv_release < self.target_recv_window // 2:
            return
        credit, self._pending_recv_release = self._pending_recv_release, 0
        if self.target_recv_window < limits.STREAM_WINDOW_BYTES:
            credit += limits.STREAM_WINDOW_BYTES - self.target_recv_window
            self.target_recv_window = limits.STREAM_WINDOW_BYTES
        self.recv_window += credit
        await self.send_window_update(credit, skip_lock=True)


class BoundedYamux(upstream.Yamux):  # type: ignore[misc]
    """One multiplexed connection; see the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stream_buffers = _Buffers(self)
        self.streams = _Streams()
        self.overruns = 0
        """Times the peer ignored a receive window; the first ends the connection."""

    async def _write_frame(self, data: bytes) -> None:
        async with self._write_lock:
            with trio.CancelScope(shield=True) as scope:
                scope.deadline = trio.current_time() + limits.WRITE_STALL_MS / 1000
                await self.secured_conn.write(data)
            if scope.cancelled_caught:
                await self.cut()
                raise ConnectionClosedError("the peer's socket takes no bytes")
        await trio.lowlevel.checkpoint()

    async def _read_data_body(self, length: int) -> bytes:
        if length > limits.STREAM_WINDOW_BYTES:
            self.overruns += 1
            raise trio.TooSlowError  # the one error that upstream answers by closing the connection
        body: bytes = await super()._read_data_body(length)
        return body

    async def handle_incoming(self) -> None:
        try:
            await super().handle_incoming()
        finally:
            if not self.event_closed.is_set():
                with trio.CancelScope(shield=True):
                    await self._cleanup_on_error()

    async def _measure_rtt_loop(self) -> None:
        """Not ours to run: it waits with the same one event as `keepalive`, whose ping would seem unanswered
        whenever the two meet. Keepalive's pings measure the round trip as well."""

    async def cut(self) -> None:
        """Close the socket, without the goodbye that would wait for a silent peer."""
        with trio.CancelScope(shield=True), contextlib.suppress(OSError, trio.BrokenResourceError):
            await self.secured_conn.close()
