"""How long things took since the start, in a few classes: what a Prometheus histogram is made of."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

SHORT_S = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""For work inside the node."""
LONG_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""For what takes messages to and fro."""


class Timings:
    """Durations by class; each only grows. Of one thread."""

    def __init__(self, bounds_s: Sequence[float] = SHORT_S) -> None:
        """A class holds what took no longer than its bound; one more holds the rest."""
        self.bounds_s = tuple(bounds_s)
        self.counts = [0] * (len(self.bounds_s) + 1)
        self.sum_s = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def note(self, took_s: float) -> None:
        """A clock that was put back makes nothing shorter than nothing."""
        took_s = max(0.0, took_s)
        self.counts[bisect_left(self.bounds_s, took_s)] += 1
        self.sum_s += took_s
