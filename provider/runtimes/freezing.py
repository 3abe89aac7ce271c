"""Workloads held still from outside: every process of a namespace stopped, and set going again.

By signals, which no process can refuse, and not by a freezer of control groups, which not every machine lets us
have. What forks meanwhile is found in the next pass; a stopped process forks no more, so there is a last one.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from fondaco.provider.runtimes.processes import Process, process

PASSES = 200
PAUSE_S = 0.005
STOPPED, GONE = "Tt", "ZX"


def freeze(first: Process) -> None:
    """Stop all in the namespace of a workload's first process; what cannot be stopped just now is left."""
    for _ in range(PASSES):
        running = [one for one in _inside(first) if _state(one) not in STOPPED + GONE]
        if not running:
            return
        for one in running:
            one.send(signal.SIGSTOP)
        time.sleep(PAUSE_S)  # in a thread: there is no word of a process that has stopped


def thaw(first: Process) -> None:
    """Set it all going again."""
    for one in _inside(first):
        if _state(one) in STOPPED:
            one.send(signal.SIGCONT)


def is_frozen(first: Process) -> bool:
    return _state(first) in STOPPED


def _inside(first: Process) -> Iterator[Process]:
    """All processes of the namespace, those that came in from outside included."""
    own = _namespace(first.pid)
    if not own or not first.alive():
        return
    for name in os.listdir("/proc"):
        if name.isdigit() and _namespace(int(name)) == own and (found := process(int(name))) is not None:
            yield found


def _namespace(pid: int) -> str:
    """Of processes; empty if it is gone, or another user's."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _state(one: Process) -> str:
    """The letter that /proc has for it."""
    try:
        with open(f"/proc/{one.pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
