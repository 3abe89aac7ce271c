"""What the node takes of its machine: event loop, threads, disk. The process itself is read by the library."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import trio

from fondaco import __version__
from fondaco.node.app import Node
from fondaco.node.metrics.model import Reading, gauge, histogram

LAG = histogram("event_loop_lag", "How much later than it asked to a task was woken.")
TASKS = gauge("event_loop_tasks", "Tasks alive.")
THREADS = gauge("process_threads", "Threads alive.")
DISK_USED = gauge("disk_used_bytes", "What the node's data takes, by part.", "part")
DISK_FREE = gauge("disk_free_bytes", "What the node may still write where its data lies.")
BUILD = gauge("build_info", "1; the version is a label.", "version")

METRICS = (LAG, TASKS, THREADS, DISK_USED, DISK_FREE, BUILD)
PARTS = ("chain", "journal", "snapshots", "market", "evidence", "other")
DISK_KEPT_S = 15.0


class Disk:
    """What lies in a node's folder, looked at in a thread and no more often than every `DISK_KEPT_S`."""

    def __init__(self) -> None:
        self._looked_at: float | None = None
        self.used: Mapping[str, int] = {}
        self.free = 0

    async def look(self, data: Path) -> None:
        now = time.monotonic()
        if self._looked_at is None or now - self._looked_at > DISK_KEPT_S:
            self._looked_at = now
            self.used, self.free = await trio.to_thread.run_sync(measure, data)


def measure(data: Path) -> tuple[dict[str, int], int]:
    """Bytes by part, and bytes free; files that go meanwhile count nothing."""
    used = dict.fromkeys(PARTS, 0)
    for entry in _entries(data):
        part = entry.name.partition(".")[0]
        used[part if part in used else "other"] += _size(entry)
    return used, shutil.disk_usage(data).free


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except FileNotFoundError:
        return []


def _size(entry: os.DirEntry[str]) -> int:
    """As allocated: the journal reserves more than it has written."""
    if entry.is_dir(follow_symlinks=False):
        return sum(map(_size, _entries(entry.path)))
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0


def read(node: Node, disk: Disk) -> Iterator[Reading]:
    yield LAG.at(node.pulse.lag)
    yield TASKS.at(trio.lowlevel.current_statistics().tasks_living)
    yield THREADS.at(threading.active_count())
    for part, size in disk.used.items():
        yield DISK_USED.at(size, part)
    yield DISK_FREE.at(disk.free)
    yield BUILD.at(1, __version__)
