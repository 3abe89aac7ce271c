"""The journal: what a validator saw and did, on the disk before it shows on the wire.

One file a height, of frames that are only ever appended:

    segment   = head frame*
    head      = magic[8] height:u64 marker[8] crc:u32                (crc over what precedes it)
    frame     = marker[8] length:u32 synced:u64 crc:u32 payload      (crc over length, synced and payload)

`crc` is CRC-32C, integers are little-endian. `marker` is random for each segment, so that nothing a peer puts
into a payload can pass for a frame. `synced` says how many bytes of the file were known to be on the disk when
the frame was made. It tells the two kinds of damage apart: a crash can tear only what was not yet synced, so a
broken frame below what a later frame calls synced was once whole, and the disk or a person has changed it. The
first is cut off, the second is refused.

Nothing that fails here is tried again: after a failed write or sync nobody knows what is on the disk, so every
later call raises `JournalFailed` too and the node stops.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

import google_crc32c

from fondaco.node.files import sync_directory, write_all, write_atomically
from fondaco.protocol import limits
from fondaco.protocol.errors import FondacoError, Refused
from fondaco.protocol.scalars import Height

MAGIC = b"fondjrn1"
HEAD = struct.Struct("<8sQ8sI")
FRAME = struct.Struct("<8sIQI")
SUFFIX = ".journal"


class JournalFailed(FondacoError):
    """The disk refused a write or a sync: the process must stop before it says anything more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What `Journal.open` found in the last segment."""

    height: Height
    entries: int
    dropped_bytes: int
    """The torn tail, cut off; 0 after a clean stop."""


class Journal:
    """Appends entries of the height that `begin` started; made by `Journal.open`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.recovered: Recovered | None = None
        """The last segment as it was found; None if there was none."""
        self.height: Height | None = None
        self._segments: deque[Height] = deque()
        """The heights that have one, lowest first, so that pruning need not list them."""
        self._descriptor = -1
        self._marker = b""
        self._buffer = bytearray()
        self._written = 0
        self._synced = 0
        self._failure = ""

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the journal in `directory` (made if missing) and recover its last segment.

        Raises `Refused` `journal.corrupt` if bytes that had been synced have changed, `JournalFailed` if the
        disk refuses.
        """
        journal = cls(directory)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if heights := journal.heights():
                journal._segments.extend(heights)
                journal._recover(heights[-1])
        except OSError as error:
            journal._fail("open the journal", error)
        return journal

    def heights(self) -> list[Height]:
        """The heights that still have a segment, lowest first."""
        stems = (path.name.removesuffix(SUFFIX) for path in self.directory.glob(f"*{SUFFIX}"))
        return sorted(Height(int(stem)) for stem in stems if stem.isascii() and stem.isdigit())

    def begin(self, height: Height) -> None:
        """Close the current segment, synced, and start the one of a later `height`."""
        assert self.height is None or height > self.height, "segments only go up"
        self.flush()
        self._close_segment()
        try:
            self._create(height)
        except OSError as error:
            self._fail("start a segment", error)
        self._segments.append(height)

    def append(self, payload: bytes) -> None:
        """Add an entry; it counts only after `flush`. Raises `JournalFailed`."""
        assert self._descriptor >= 0, "begin a height first"
        assert len(payload) <= limits.JOURNAL_ENTRY_BYTES, "an entry is at most a message and its envelope"
        self._check()
        self._buffer += _frame(self._marker, self._synced, payload)
        if len(self._buffer) >= limits.JOURNAL_BUFFER_BYTES:
            self._write()

    def flush(self) -> None:
        """Return when everything appended is on the disk. Raises `JournalFailed`."""
        self._check()
        self._write()
        if self._synced == self._written:
            return
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._fail("sync", error)
        self._synced = self._written

    def entries(self, height: Height) -> Iterator[bytes]:
        """The whole entries of one height, in order; of the current one those written so far.

        Raises `Refused` `journal.missing` or `journal.corrupt`.
        """
        path = self._path(height)
        try:
            data = _view(path)
        except FileNotFoundError:
            raise Refused("journal.missing", f"no segment for height {height} in {self.directory}") from None
        marker = _read_head(path, data, height)
        end = HEAD.size
        for payload in _frames(data, marker):
            end += FRAME.size + len(payload)
            yield payload
        _refuse_if_synced(path, data, marker, end)

    def prune(self, below: Height) -> int:
        """Delete the segments of heights under `below`, except the current; returns how many."""
        pruned = 0
        while self._segments and self._segments[0] < min(below, self._segments[-1]):
            self._path(self._segments.popleft()).unlink(missing_ok=True)
            pruned += 1
        return pruned

    def close(self) -> None:
        """Flush and close."""
        try:
            if not self._failure:
                self.flush()
        finally:
            self._close_segment()

    def _path(self, height: Height) -> Path:
        return self.directory / f"{height:020d}{SUFFIX}"

    def _create(self, height: Height) -> None:
        marker = secrets.token_bytes(8)
        path = self._path(height)
        write_atomically(path, _head(height, marker))
        self._adopt(path, height, marker, HEAD.size)

    def _adopt(self, path: Path, height: Height, marker: bytes, size: int) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self.height = height
        self._marker = marker
        self._written = self._synced = size

    def _recover(self, height: Height) -> None:
        path = self._path(height)
        size = path.stat().st_size
        if size < HEAD.size:
            # Too short for a head, so it never held an entry.
            self._create(height)
            self.recovered = Recovered(height=height, entries=0, dropped_bytes=size)
            return
        data = _view(path)
        marker = _read_head(path, data, height)
        count, end = 0, HEAD.size
        for payload in _frames(data, marker):
            count += 1
            end += FRAME.size + len(payload)
        _refuse_if_synced(path, data, marker, end)
        if end < size:
            os.truncate(path, end)
        # What was written but not synced when the process died may still be in memory only: sync before
        # anything is built on it.
        self._adopt(path, height, marker, end)
        os.fsync(self._descriptor)
        sync_directory(self.directory)
        self.recovered = Recovered(height=height, entries=count, dropped_bytes=size - end)

    def _write(self) -> None:
        if not self._buffer:
            return
        if self._written + len(self._buffer) > limits.JOURNAL_SEGMENT_BYTES:
            self._fail("append", OSError(f"the segment of height {self.height} is full"))
        try:
            write_all(self._descriptor, self._buffer)
        except OSError as error:
            self._fail("append", error)
        self._written += len(self._buffer)
        self._buffer.clear()

    def _check(self) -> None:
        if self._failure:
            raise JournalFailed("journal.failed", self._failure)

    def _fail(self, doing: str, error: OSError) -> NoReturn:
        self._failure = f"cannot {doing} in {self.directory}: {error.strerror or error}"
        raise JournalFailed("journal.failed", self._failure, hint="free or repair the disk, then start again")

    def _close_segment(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _crc(data: bytes) -> int:
    return int(google_crc32c.value(data))


def _head(height: Height, marker: bytes) -> bytes:
    head = HEAD.pack(MAGIC, height, marker, 0)[:-4]
    return head + _crc(head).to_bytes(4, "little")


def _frame(marker: bytes, synced: int, payload: bytes) -> bytes:
    crc = _crc(struct.pack("<IQ", len(payload), synced) + payload)
    return FRAME.pack(marker, len(payload), synced, crc) + payload


def _view(path: Path) -> mmap.mmap | bytes:
    """The file's bytes, paged in as they are read: a segment may be larger than memory."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _read_head(path: Path, data: mmap.mmap | bytes, height: Height) -> bytes:
    """The segment's marker. A head is written before the file has its name, so a damaged one is no torn tail."""
    head = data[: HEAD.size]
    if len(head) == HEAD.size:
        magic, found, marker, crc = HEAD.unpack(head)
        if magic == MAGIC and found == height and crc == _crc(head[:-4]):
            return bytes(marker)
    raise _corrupt(path, 0)


def _frame_at(data: mmap.mmap | bytes, marker: bytes, start: int) -> tuple[int, bytes] | None:
    """What the frame at `start` calls synced, and its payload; None if no whole frame is there."""
    head = data[start : start + FRAME.size]
    if len(head) < FRAME.size:
        return None
    found, length, synced, crc = FRAME.unpack(head)
    payload = data[start + FRAME.size : start + FRAME.size + length]
    if found != marker or len(payload) != length or synced > start:
        return None
    if crc != _crc(head[8:20] + payload):
        return None
    return synced, payload


def _frames(data: mmap.mmap | bytes, marker: bytes) -> Iterator[bytes]:
    """The payloads of the whole frames, up to the first frame that is not whole."""
    start = HEAD.size
    while (frame := _frame_at(data, marker, start)) is not None:
        start += FRAME.size + len(frame[1])
        yield frame[1]


def _refuse_if_synced(path: Path, data: mmap.mmap | bytes, marker: bytes, end: int) -> None:
    """Raise `journal.corrupt` if a frame after `end` shows that the bytes at `end` had been on the disk."""
    start = data.find(marker, end)
    while start >= 0:
        frame = _frame_at(data, marker, start)
        if frame is not None and frame[0] > end:
            raise _corrupt(path, end)
        start = data.find(marker, start + 1)


def _corrupt(path: Path, offset: int) -> Refused:
    return Refused(
        "journal.corrupt",
        f"{path} has changed on the disk at byte {offset}, in a part that had been whole",
        hint="check the disk; restore the file from a copy, or start this validator anew under another key",
    )
