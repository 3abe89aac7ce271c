"""The queue in front of one stream, and the one task that drains it.

A small write costs 190 us of CPU, ten in one 28 us each, a hundred 4 us: so whoever has something to send leaves
it here, and one writer takes all there is, up to `limits.WRITE_COALESCE_BYTES`, in a single write. The first
frame after a pause leaves at once. The queue is bounded in bytes and frames; `put` sheds and counts what there is
no room for, `put_patiently` waits for room instead.

Frames have a rank, 0 unless given: lower ones leave first, in order within a rank, and the highest rank is shed
first, of it the oldest. So a light frame that comes when heavier ones fill the queue is shed itself.
"""

from __future__ import annotations

from collections import Counter, deque
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
        self.shed: Counter[int] = Counter()
        """Frames dropped for want of room, by rank."""
        self.sent = 0
        """Frames handed to the stream."""
        self.writes = 0
        self._frames: dict[int, deque[bytes]] = {}
        """By rank, the lowest first; none is empty."""
        self._count = 0
        self._filled = trio.Event()
        self._drained = trio.Event()

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        return self.size >= self.max_bytes or self._count >= self.max_frames

    def put(self, data: bytes, rank: int = 0) -> None:
        """Queue `data`; shed while there is too much. The last frame stays, whatever its size."""
        self._append(data, rank)
        while (self.size > self.max_bytes or self._count > self.max_frames) and self._count > 1:
            highest = next(reversed(self._frames))
            self._pop(highest)
            self.shed[highest] += 1

    async def put_patiently(self, data: bytes) -> None:
        """Queue `data` as soon as there is room."""
        while self.full:
            await self._drained.wait()
        self._append(data)

    def _append(self, data: bytes, rank: int = 0) -> None:
        frames = self._frames.get(rank)
        if frames is None:
            self._frames[rank] = deque((data,))
            if len(self._frames) > 1:
                self._frames = dict(sorted(self._frames.items()))
        else:
            frames.append(data)
        self._count += 1
        self.size += len(data)
        self._filled.set()

    def _pop(self, rank: int) -> bytes:
        """The oldest frame of a rank, which is there."""
        frames = self._frames[rank]
        data = frames.popleft()
        if not frames:
            del self._frames[rank]
        self._count -= 1
        self.size -= len(data)
        return data

    async def drain(self, stream: Stream) -> None:
        """Write what comes, for ever. Raises `Unreachable` when the stream is gone."""
        while True:
            if not self._count:
                self._filled = trio.Event()
                await self._filled.wait()
            data = self._take()
            self.writes += 1
            await stream.write(data)

    def _take(self) -> bytes:
        """What the next write carries: at least one frame, and more while they are small."""
        taken: list[bytes] = []
        size = 0
        while self._frames:
            rank, frames = next(iter(self._frames.items()))
            if taken and size + len(frames[0]) > limits.WRITE_COALESCE_BYTES:
                break
            taken.append(self._pop(rank))
            size += len(taken[-1])
        self.sent += len(taken)
        self._drained.set()
        self._drained = trio.Event()
        return taken[0] if len(taken) == 1 else b"".join(taken)
