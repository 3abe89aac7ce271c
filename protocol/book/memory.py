"""Ids of what a book does not want (again), each for its time."""

from __future__ import annotations

from collections import OrderedDict

from fondaco.protocol.book.digests import ItemId
from fondaco.protocol.scalars import Millis


class Memory:
    """Bounded; the id that was put in first goes first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._until: OrderedDict[ItemId, Millis] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def remember(self, item: ItemId, until: Millis) -> None:
        """Until this moment, or a later one that was said before."""
        before = self._until.pop(item, Millis(0))
        self._until[item] = max(before, until)
        if len(self._until) > self.capacity:
            self._until.popitem(last=False)

    def has(self, item: ItemId, now: Millis) -> bool:
        until = self._until.get(item)
        if until is None:
            return False
        if until > now:
            return True
        del self._until[item]
        return False
