"""How busy the machine was beside what is measured: others share it, often."""

from __future__ import annotations

import os
from pathlib import Path

Busy = tuple[float, float]
"""Seconds of processors that were not idle since the machine started, and all there were."""


def busy() -> Busy:
    fields = [int(one) for one in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    total, idle = sum(fields), fields[3] + fields[4]
    return (total - idle) / os.sysconf("SC_CLK_TCK"), total / os.sysconf("SC_CLK_TCK")


def others(before: Busy, after: Busy, ours_s: float) -> float:
    """The share of all processor time that was used, and not by us."""
    return round(max(0.0, after[0] - before[0] - ours_s) / max(0.001, after[1] - before[1]), 2)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))
