"""The log that a shim or an engine writes, and that of the run before: it may rotate, or end, while it is read.

An engine that keeps logs in a folder of its own is followed there by links, until `keep` makes files of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import trio

from fondaco.protocol.scalars import Millis
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.port import Channel, LogLine

POLL_SECONDS = 0.05
"""How long a follower waits before it looks again."""
PREVIOUS = "previous"
"""The folder of the run before, within that of the log."""
_CHANNELS = {b"o": Channel.OUT, b"e": Channel.ERR}


def begin_run(directory: Path) -> None:
    """Put the log of the run that is over where that of the one before it was.

    A run that wrote nothing takes no place: what failed to start leaves the log that says why.
    """
    for path in directory.glob("log*"):
        if not path.exists():
            path.unlink()  # a link to what an engine had, and has no more
    written = [path for path in directory.glob("log*") if path.stat().st_size]
    if not written:
        return
    previous = directory / PREVIOUS
    if previous.is_dir():
        shutil.rmtree(previous)
    previous.mkdir(mode=0o700)
    for path in written:
        path.rename(previous / path.name)


def point(directory: Path, kept: Path) -> None:
    """The log is written elsewhere, to `kept` and, rotated, to `kept.1` and so on."""
    for number in range(bounds.WORKLOAD_LOG_FILES):
        end = f".{number}" if number else ""
        link = directory / f"log{end}"
        link.unlink(missing_ok=True)
        link.symlink_to(f"{kept}{end}")


def keep(directory: Path) -> None:
    """What lies elsewhere goes soon: have it here, in files of our own."""
    for link in directory.glob("log*"):
        if not link.is_symlink():
            continue
        fresh = directory / f"new.{link.name}"
        try:
            shutil.copyfile(link, fresh)
        except FileNotFoundError:
            link.unlink()
        else:
            fresh.chmod(0o600)
            fresh.replace(link)


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


def parse_conmon(record: bytes) -> LogLine | None:
    """One record as conmon writes it for podman, in Kubernetes' format; or None."""
    match record.split(b" ", 3):
        case [stamp, (b"stdout" | b"stderr") as stream, (b"F" | b"P") as kind, text]:
            at = moment(stamp.decode("ascii", "replace"))
            if at is not None:
                return LogLine(
                    at=at,
                    channel=Channel.OUT if stream == b"stdout" else Channel.ERR,
                    text=text.decode("utf-8", "replace"),
                    partial=kind == b"P",
                )
    return None


def parse_docker(record: bytes) -> LogLine | None:
    """One record as docker's `json-file` driver writes it, or None."""
    if not record.startswith(b"{"):
        return None
    try:
        told = json.loads(record)
    except ValueError:
        return None
    match told:
        case {"log": str(text), "stream": ("stdout" | "stderr") as stream, "time": str(stamp)}:
            at = moment(stamp)
            if at is not None:
                return LogLine(
                    at=at,
                    channel=Channel.OUT if stream == "stdout" else Channel.ERR,
                    text=text.removesuffix("\n"),
                    partial=not text.endswith("\n"),
                )
    return None


def moment(text: str) -> Millis | None:
    """A time as engines and conmon write it (RFC 3339, nanoseconds), or None for what is none."""
    try:
        return Millis(int(datetime.fromisoformat(text).timestamp() * 1_000))
    except ValueError:
        return None


class LogReader:
    """Iterates over the log in `directory`; see `Runtime.logs`.

    It holds no file open between two reads, only a place in one: it can be dropped at any time.
    """

    def __init__(self, directory: Path, *, tail: int | None, follow: bool, running: Callable[[], bool]) -> None:
        self._directory = directory
        self._tail = tail
        self._follow = follow
        self._running = running
        self._ready: deque[LogLine] = deque()
        self._place: tuple[int, int] | None = None
        """Inode of the file read last, and how many bytes of it were."""
        self._over = False
        self.settled: Callable[[], Awaitable[None]] | None = None
        """What to wait for, once it runs no more, until all it said is written down."""
        self._begun: dict[Channel, LogLine] = {}
        """The beginnings of lines whose ends were not read yet."""

    def __aiter__(self) -> LogReader:
        return self

    async def __anext__(self) -> LogLine:
        await trio.lowlevel.checkpoint()
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            await self._fill()
        return self._ready.popleft()

    async def _fill(self) -> None:
        first = self._place is None
        # Asked before reading: what is written before the end is then always read.
        over = not (self._follow and self._running())
        if over and self.settled is not None:
            await self.settled()
        self._over = over
        lines = deque(self._more(), maxlen=self._tail if first else None)
        self._ready.extend(lines)
        if not self._ready and not self._over:
            await trio.sleep(POLL_SECONDS)

    def _more(self) -> Iterator[LogLine]:
        """All whole records that are there and were not read yet, oldest first."""
        files = self._files()
        inodes = [os.fstat(file.fileno()).st_ino for file in files]
        start, offset = 0, 0
        if self._place is not None and self._place[0] in inodes:
            start, offset = inodes.index(self._place[0]), self._place[1]
        for file, inode in zip(files[start:], inodes[start:], strict=True):
            file.seek(offset)
            for record in file:
                if not record.endswith(b"\n"):
                    break  # being written right now
                offset += len(record)
                line, other = parse(record[:-1]), parse_conmon(record[:-1]) or parse_docker(record[:-1])
                if line is not None:
                    yield line
                elif other is not None:
                    yield from self._joined(other)
            self._place = (inode, offset)
            offset = 0
        if self._over:
            yield from self._begun.values()
        for file in files:
            file.close()

    def _joined(self, line: LogLine) -> Iterator[LogLine]:
        """Put together what was cut: conmon cuts wherever a write ended, and not only lines that are too long."""
        begun = self._begun.pop(line.channel, None)
        if begun is not None and len(begun.text) + len(line.text) > bounds.WORKLOAD_LOG_LINE_BYTES:
            yield begun
            begun = None
        if begun is not None:
            line = replace(line, at=begun.at, text=begun.text + line.text)
        if line.partial:
            self._begun[line.channel] = line
        else:
            yield line

    def _files(self) -> list[BinaryIO]:
        """All files of the log, oldest first.

        Opened newest first: a rotation meanwhile then shows one file twice, and hides none.
        """
        files: dict[int, BinaryIO] = {}
        for number in range(bounds.WORKLOAD_LOG_FILES):
            with contextlib.suppress(FileNotFoundError):
                file = (self._directory / (f"log.{number}" if number else "log")).open("rb")
                if files.setdefault(os.fstat(file.fileno()).st_ino, file) is not file:
                    file.close()
        return list(files.values())[::-1]
