"""Yamux as py-libp2p has it, bounded: subclasses, so nothing of the library is changed for others.

What is different (network.md, points 5 and 12, and some found on the way):

- *Receive window.* Upstream only logs when a peer ignores it, and grows it to 16 MiB; 200 MB went into a stream
  nobody read. Here a stream's buffer ends at `limits.STREAM_WINDOW_BYTES`, and a peer that goes beyond loses the
  connection. Nor is a data frame read that could not fit.
- *Send window.* Upstream adds up whatever credit it is given; a window that overflows ends the connection.
- *Credit.* Upstream sends a window update after nearly every read, a tenth of all CPU. Returning credit once half
  the window was read is what the specification allows.
- *Whole frames.* A write that is cancelled half-way leaves the cipher's counter ahead of the bytes sent: the
  connection is then garbage to the other side. So a frame is written whole, shielded, or the connection ends.
- *Stall.* A socket that takes nothing for five seconds would hold that write, and our reader when it answers a
  ping, for ever: the connection is closed instead.
- *Waking.* However reading ends, those who wait for a stream's data are woken.
- *Turns.* Upstream takes a lock or two for each frame, and taking a free one still is a turn of the scheduler. In
  one thread nothing happens between two awaits, so a frame that fits the window is written, and bytes that have
  come are read, without one.
- *Skimming.* Upstream words a dozen debug messages for each frame that comes, whether or not anybody reads them. A
  frame that came whole and is nothing but data for an open stream, as nearly all are, goes straight to its stream.
- *Last words.* What came before a reset, or before the end of the connection, is read before that is told: it may
  say why. Upstream drops it, and is only saved by its turns.
"""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.yamux import yamux as upstream

from fondaco.node.network.secured import Secured
from fondaco.protocol import limits

FIRST_WINDOW = upstream.DEFAULT_WINDOW_SIZE
"""What the specification grants every new stream; widened once, when half of it was read."""
TURNS_FOR_ALL = 2
"""Within so many turns of the scheduler every task that was ready has run, in whatever order."""
SKIMMED_IN_A_ROW = 64
"""Then the reader counts them, and others have a turn."""
PLAIN_DATA = struct.pack("!BBH", 0, upstream.TYPE_DATA, 0)
"""How the header begins of a frame that opens, answers and ends nothing."""
NUMBERS = struct.Struct("!II")
"""The rest of it: the stream, and how many bytes."""
LARGEST_WINDOW = 2**32 - 1
LARGEST_FRAME_BYTES = upstream.MAX_MESSAGE_SIZE - upstream.HEADER_SIZE


class Latch:
    """A lock that is taken at once if it is free; `trio.Lock` lets everybody else run first."""

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        if self._held:
            await self._waiting.park()  # whoever leaves hands it on
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        if not self._waiting.unpark():
            self._held = False


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
        stream.window_lock = Latch()
        super().__setitem__(stream_id, stream)


class BoundedStream(upstream.YamuxStream):  # type: ignore[misc]
    """A stream that returns credit at half a window."""

    conn: BoundedYamux
    stream_id: int
    closed: bool
    send_closed: bool
    recv_closed: bool
    reset_received: bool
    target_recv_window: int
    recv_window: int
    _pending_recv_release: int

    @property
    def send_window(self) -> int:
        """What the peer still takes. Credit beyond what four bytes can say is no honest peer's."""
        window: int = self.__dict__["send_window"]
        return window

    @send_window.setter
    def send_window(self, window: int) -> None:
        if window > LARGEST_WINDOW:
            self.conn.overruns += 1
            self.conn.event_shutting_down.set()
        self.__dict__["send_window"] = window

    async def write(self, data: bytes) -> None:
        size = len(data)
        if self.closed or self.send_closed or size > min(self.send_window, LARGEST_FRAME_BYTES):
            await super().write(data)
            return
        self.send_window -= size
        header = struct.pack(upstream.YAMUX_HEADER_FORMAT, 0, upstream.TYPE_DATA, 0, self.stream_id, size)
        await self.conn._write_frame(header + data)

    async def read(self, n: int | None = -1) -> bytes:
        while n and n > 0:
            buffer = self.conn.stream_buffers.get(self.stream_id)
            if buffer:
                data = bytes(buffer[:n])
                del buffer[:n]
                if self._is_whole():
                    await self._auto_tune_and_send_window_update(bytes_read=len(data))
                elif self.closed and not buffer:
                    await self.conn._finalize_stream(self, fully_closed=True)
                return data
            if not self._is_whole():
                break
            filled = self.conn.stream_events[self.stream_id]
            await filled.wait()
            if self.conn.stream_events.get(self.stream_id) is filled:
                self.conn.stream_events[self.stream_id] = trio.Event()
        rest: bytes = await super().read(n)
        return rest

    def _is_whole(self) -> bool:
        """Open both ways, on a connection that is: endings are upstream's to tell."""
        over = self.closed or self.recv_closed or self.reset_received or self.conn.event_shutting_down.is_set()
        return not over and self.stream_id in self.conn.stream_events

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
        self.secured_conn: Secured = Secured(self.secured_conn)
        self.secured_conn.skim = self._skim
        self.streams_lock = Latch()
        self._write_lock = Latch()
        self.stream_buffers = _Buffers(self)
        self.streams = _Streams()
        self.overruns = 0
        """Times the peer ignored a receive window, or gave credit beyond all; the first ends the connection."""

    async def _write_frame(self, data: bytes) -> None:
        async with self._write_lock:
            rest = self.secured_conn.start(data)
            if rest:
                with trio.CancelScope(shield=True) as scope:
                    scope.deadline = trio.current_time() + limits.WRITE_STALL_MS / 1000
                    await self.secured_conn.finish(rest)
                if scope.cancelled_caught:
                    await self.cut()
                    raise ConnectionClosedError("the peer's socket takes no bytes")
        await trio.lowlevel.checkpoint_if_cancelled()

    async def _read_data_body(self, length: int) -> bytes:
        if length > limits.STREAM_WINDOW_BYTES:
            self.overruns += 1
            raise trio.TooSlowError  # the one error that upstream answers by closing the connection
        body: bytes | None = self.secured_conn.take(length)
        if body is None:
            self.secured_conn.skim = None  # what comes next is no header
            body = await super()._read_data_body(length)
            self.secured_conn.skim = self._skim
        return body

    def _skim(self) -> int:
        """Take in whole frames of data for open streams, as far as there are such; how many."""
        secured = self.secured_conn
        for count in range(SKIMMED_IN_A_ROW):
            header = secured.peek(upstream.HEADER_SIZE)
            if header is None or header[:4] != PLAIN_DATA:
                return count
            stream_id, length = NUMBERS.unpack_from(header, len(PLAIN_DATA))
            stream, buffer = self.streams.get(stream_id), self.stream_buffers.get(stream_id)
            if stream is None or buffer is None or len(buffer) + length > limits.STREAM_WINDOW_BYTES:
                return count
            frame = secured.take(upstream.HEADER_SIZE + length)
            if frame is None:
                return count
            buffer.extend(frame[upstream.HEADER_SIZE :])
            stream.recv_window = max(0, stream.recv_window - length)
            self.stream_events[stream_id].set()
        return SKIMMED_IN_A_ROW

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

    async def _cleanup_on_error(self) -> None:
        self.event_shutting_down.set()
        for _ in range(TURNS_FOR_ALL):
            await trio.lowlevel.cancel_shielded_checkpoint()
        await super()._cleanup_on_error()

    async def cut(self) -> None:
        """Close the socket, without the goodbye that would wait for a silent peer."""
        with trio.CancelScope(shield=True), contextlib.suppress(OSError, trio.BrokenResourceError):
            await self.secured_conn.close()
