"""What /proc tells of processes that are not our children."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from fondaco.provider.runtimes.shim import start_ticks

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that cannot be mistaken for a later one of the same pid."""

    pid: int
    ticks: int
    """When it started, in clock ticks since boot."""

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return int(fields[19]) == self.ticks and fields[0] not in "ZX"

    def open(self) -> int | None:
        """A pid descriptor of it, or None if it is gone.  The caller closes it."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if self.alive():
            return fd
        os.close(fd)
        return None

    def send(self, number: signal.Signals) -> None:
        """Signal it, and never another that took its pid."""
        fd = self.open()
        if fd is None:
            return
        try:
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(fd)


def process(pid: int) -> Process | None:
    """The process that has `pid` now."""
    try:
        return Process(pid=pid, ticks=start_ticks(pid))
    except (FileNotFoundError, ProcessLookupError):
        return None


def children(pid: int) -> tuple[int, ...]:
    """Of all its threads: each lists its own."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return ()
    return tuple(child for task in tasks for child in _children_of_task(pid, task))


def _children_of_task(pid: int, task: str) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def program(pid: int) -> str:
    """The file it runs; empty if that cannot be seen, or it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def family(pid: int) -> Iterator[int]:
    """`pid` and all its descendants: everything in a pid namespace whose first process it is."""
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        yield one
        waiting.extend(children(one))


def usage(pid: int) -> tuple[int, int] | None:
    """Processor milliseconds, those of children waited for included, and resident bytes; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    ticks = sum(int(field) for field in fields[11:15])
    return ticks * 1000 // TICKS_PER_SECOND, int(fields[21]) * PAGE_BYTES


def network(pid: int) -> tuple[int, int] | None:
    """Bytes received and sent by the interfaces that it sees, loopback apart; None if there are no others."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = [line.split(":", 1) for line in file if ":" in line]
    except (OSError, ValueError):
        return None
    counts = [counted.split() for name, counted in lines if name.strip() != "lo"]
    return (sum(int(one[0]) for one in counts), sum(int(one[8]) for one in counts)) if counts else None
