"""The queue in front of one stream, and the one task that drains it.

A small write costs 190 us of CPU, ten in one 28 us each, a hundred 4 us: so whoever has something to send leaves
it here, and one writer takes all there is, up to `limits.WRITE_COALESCE_BYTES`, in a single write. The first
frame after a pause leaves at once. The queue is bounded in bytes and frames; `put` sheds the oldest and counts
them, `put_patiently` waits for room instead.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from fondaco.protocol import limits

if TYPE_CHECKING:
    from fondaco.node.network.stream import Stream


class Outbox:
    """Encoded frames that wait for one stream."""

    def __init__(
        self, *, max_bytes: int = limits.SEND_QUEUE_BYTES, max_frames: int = limits.SEND_QUEUE_FRAMES
    ) -> None:
        self.max_bytes = max_bytes
        self.max_frames = max_frames
        self.size = 0
        """Bytes waiting."""
        self.shed = 0
        """Frames dropped for want of room."""
        self.sent = 0
        """Frames handed to the stream."""
        self.writes = 0
        self._frames: deque[bytes] = deque()
        self._filled = trio.Event()
        self._drained = trio.Event()

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def full(self) -> bool:
        return self.size >= self.max_bytes or len(self._frames) >= self.max_frames

    def put(self, data: bytes) -> None:
        """Queue `data`; shed the oldest while there is too much. The newest always stays."""
        self._append(data)
        while self.size > self.max_bytes or len(self._frames) > self.max_frames:
            if len(self._frames) == 1:
                break
            self.size -= len(self._frames.popleft())
            self.shed += 1

    async def put_patiently(self, data: bytes) -> None:
        """Queue `data` as soon as there is room."""
        while self.full:
            await self._drained.wait()
        self._append(data)

    def _append(self, data: bytes) -> None:
        self._frames.append(data)
        self.size += len(data)
        self._filled.set()

    async def drain(self, stream: Stream) -> None:
        """Write what comes, for ever. Raises `Unreachable` when the stream is gone."""
        while True:
            if not self._frames:
                self._filled = trio.Event()
                await self._filled.wait()
            data = self._take()
            self.writes += 1
            await stream.write(data)

    def _take(self) -> bytes:
        """What the next write carries: at least one frame, and more while they are small."""
        frames = self._frames
        taken = [frames.popleft()]
        size = len(taken[0])
        while frames and size + len(frames[0]) <= limits.WRITE_COALESCE_BYTES:
            taken.append(frames.popleft())
            size += len(taken[-1])
        self.size -= size
        self.sent += len(taken)
        self._drained.set()
        self._drained = trio.Event()
        return taken[0] if len(taken) == 1 else b"".join(taken)
