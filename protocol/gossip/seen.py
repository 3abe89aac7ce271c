"""What was seen lately: bounded in number and in time, oldest out first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from fondaco.protocol.scalars import Millis

K = TypeVar("K", bound=bytes)


class SeenCache(Generic[K]):
    """Keys and the time they were first seen; seeing one again does not keep it longer.

    Were it otherwise, replaying an old message would keep it remembered for ever.
    """

    def __init__(self, capacity: int, life_ms: int) -> None:
        self.capacity = capacity
        self.life_ms = life_ms
        self._entries: OrderedDict[K, Millis] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: K, now: Millis) -> bool:
        """Remember `key`; whether it is new. The oldest goes where there is no room."""
        if self.has(key, now):
            return False
        self._entries[key] = now
        self._entries.move_to_end(key)
        if len(self._entries) > self.capacity:
            self._entries.popitem(last=False)
        return True

    def has(self, key: K, now: Millis) -> bool:
        found = self._entries.get(key)
        return found is not None and now - found < self.life_ms

    def forget(self, key: K) -> None:
        self._entries.pop(key, None)

    def expire(self, now: Millis) -> None:
        """Drop what is older than its life."""
        while self._entries:
            seen_at = next(iter(self._entries.values()))
            if now - seen_at < self.life_ms:
                return
            self._entries.popitem(last=False)
