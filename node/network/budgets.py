"""What somebody may have of us: a burst, and so much a second after it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Budgets:
    """One for each name; of those that were not used for longest it is forgotten that they were."""

    def __init__(self, burst: float, per_s: float, *, kept: int) -> None:
        self._burst = burst
        self._per_s = per_s
        self._kept = kept
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def spend(self, name: Hashable, now_s: float) -> bool:
        """Whether `name` has one left; it is taken then."""
        left, at = self._left.pop(name, (self._burst, now_s))
        left = min(self._burst, left + (now_s - at) * self._per_s)
        enough = left >= 1
        self._left[name] = (left - enough, now_s)
        if len(self._left) > self._kept:
            self._left.popitem(last=False)
        return enough
