"""Reading the log that a shim writes; it may rotate, or end, meanwhile."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import trio

from fondaco.protocol import limits
from fondaco.protocol.scalars import Millis
from fondaco.provider.runtimes.port import Channel, LogLine

READ_BYTES = 1 << 18
POLL_SECONDS = 0.05
"""How long a follower waits before it looks again."""
_CHANNELS = {b"o": Channel.OUT, b"e": Channel.ERR}


def parse(record: bytes) -> LogLine | None:
    """One record of `shim.Log`, or None for one cut short by a crash."""
    match record.split(b" ", 3):
        case [at, (b"o" | b"e") as channel, (b"F" | b"P") as kind, text] if at.isdigit():
            return LogLine(
                at=Millis(int(at)),
                channel=_CHANNELS[channel],
                text=text.decode("utf-8", "replace"),
                partial=kind == b"P",
            )
    return None


async def read(
    directory: Path, *, tail: int | None, follow: bool, running: Callable[[], Awaitable[bool]]
) -> AsyncIterator[LogLine]:
    """The log in `directory`, oldest first; see `Runtime.logs`."""
    reader = _Reader(directory)
    kept = [directory / f"log.{n}" for n in range(limits.WORKLOAD_LOG_FILES - 1, 0, -1)]
    older = deque((line for path in kept for line in _file(path)), maxlen=tail)
    older.extend(reader.more())
    for line in older:
        yield line
    while follow:
        # Asked before reading: what is written before the end is then always read.
        goes_on = await running()
        for line in reader.more():
            yield line
        if not goes_on:
            break
        await trio.sleep(POLL_SECONDS)
    reader.close()


def _file(path: Path) -> Iterator[LogLine]:
    try:
        with path.open("rb") as file:
            for record in file:
                line = parse(record.rstrip(b"\n"))
                if line is not None:
                    yield line
    except FileNotFoundError:
        return


class _Reader:
    """Follows `log` by descriptor, so that a rotation loses nothing of the file being read."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "log"
        self._fd = -1
        self._rest = b""

    def more(self) -> Iterator[LogLine]:
        """All records that are there now."""
        while True:
            if self._fd < 0 and not self._open():
                return
            while data := os.read(self._fd, READ_BYTES):
                *records, self._rest = (self._rest + data).split(b"\n")
                for record in records:
                    line = parse(record)
                    if line is not None:
                        yield line
            if not self._rotated():
                return
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        return True

    def _rotated(self) -> bool:
        try:
            return os.stat(self._path).st_ino != os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return False
