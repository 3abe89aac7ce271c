"""How much of the disk a workload takes, added up: no file system says it without quotas that few have enabled.

So the limit is kept by looking, not by the kernel: a workload may pass it for as long as `EVERY_S`, or ten times
what looking takes, and is killed then. Files that were deleted and are still open count too: they fill the disk
all the same. Each entry costs something, so that neither empty files nor hard links are free.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

EVERY_S = 1.0
PATIENCE = 10
"""Looking takes a tenth of the time at most."""
ENTRY_BYTES = 4_096
"""Counted for each file, directory or link: inodes are no more to be had for nothing than blocks."""
BLOCK_BYTES = 512
NO_FILE = ("/memfd:", "/SYSV")
"""How the kernel names shared memory that no file system holds."""
HARD_LINKS = 100_000
"""Files with several names that are told apart at a time; beyond, each name counts as a file."""
LOOKS = 4
"""At once: one workload with very many files does not hide the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What may lie below `folder`, at most."""

    folder: Path
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A workload that is looked at."""

    id: str
    ceilings: tuple[Ceiling, ...]
    pids: Callable[[], Sequence[int]]
    kill: Callable[[], Awaitable[None]]


async def watch(running: Callable[[], Sequence[Target]]) -> None:
    """Kill whatever of `running` passes a ceiling; returns only when cancelled."""
    resting: set[str] = set()
    limiter = trio.CapacityLimiter(LOOKS)

    async def look(target: Target) -> None:
        since = time.monotonic()
        if await trio.to_thread.run_sync(
            passed, target.ceilings, target.pids(), limiter=limiter, abandon_on_cancel=True
        ):
            await target.kill()
        await trio.sleep(PATIENCE * (time.monotonic() - since))
        resting.discard(target.id)

    async with trio.open_nursery() as nursery:
        while True:
            for target in running():
                if target.id not in resting:
                    resting.add(target.id)
                    nursery.start_soon(look, target)
            await trio.sleep(EVERY_S)


def passed(ceilings: Sequence[Ceiling], pids: Sequence[int]) -> Ceiling | None:
    """The first ceiling that is passed, if any; what `pids` keep open after deleting it counts for the first."""
    held = deleted(pids)
    for ceiling in ceilings:
        left = ceiling.bytes - held
        held = 0
        for size in sizes(ceiling.folder):
            left -= size
            if left < 0:
                return ceiling
        if left < 0:
            return ceiling
    return None


def sizes(folder: Path) -> Iterator[int]:
    """What each entry below `folder` costs. No link is followed: the tenant makes them, also meanwhile."""
    seen: set[int] = set()
    waiting = [str(folder)]
    while waiting:
        try:
            fd = os.open(waiting.pop(), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # gone, or it is no directory any more
        try:
            below = os.readlink(f"/proc/self/fd/{fd}")
            with os.scandir(fd) as entries:
                for entry in entries:
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    again = found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode) and found.st_ino in seen
                    if found.st_nlink > 1 and len(seen) < HARD_LINKS:
                        seen.add(found.st_ino)
                    yield ENTRY_BYTES + (0 if again else found.st_blocks * BLOCK_BYTES)
                    if stat.S_ISDIR(found.st_mode):
                        waiting.append(os.path.join(below, entry.name))
        finally:
            os.close(fd)


def deleted(pids: Sequence[int]) -> int:
    """Bytes on the disk of deleted files that these processes, of one workload, keep open."""
    found: dict[tuple[int, int], int] = {}
    in_memory = _memory_devices(pids[0]) if pids else set()
    for pid in pids:
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # it is gone
        for name in names:
            path = f"/proc/{pid}/fd/{name}"
            try:
                where, status = os.readlink(path), os.stat(path)
            except OSError:
                continue
            counts = stat.S_ISREG(status.st_mode) and not status.st_nlink and not where.startswith(NO_FILE)
            if counts and status.st_dev not in in_memory:
                found[status.st_dev, status.st_ino] = status.st_blocks * BLOCK_BYTES
    return sum(found.values())


def _memory_devices(pid: int) -> set[int]:
    """Devices of the file systems that `pid` sees and that cost memory, not disk."""
    devices = set()
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                if after.startswith("tmpfs "):
                    major, _, minor = before.split()[2].partition(":")
                    devices.add(os.makedev(int(major), int(minor)))
    except OSError:
        pass  # it is gone, and holds nothing
    return devices
