"""What was seen lately: bounded in number and in time, oldest out first."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from fondaco.protocol.scalars import Millis

K = TypeVar("K", bound=Hashable)
SPANS = 4
"""A life is as long as so many spans; what was seen in the same one is forgotten at once."""


class SeenCache(Generic[K]):
    """Keys of the last while: each for its life and at most one span more, or until its span is the oldest of a
    full cache.

    Seeing one again does not keep it longer. Were it otherwise, replaying an old message would keep it remembered
    for ever. Nothing is kept beside a key: a flood of messages leaves as many keys, in every node that hears it.
    """

    def __init__(self, capacity: int, life_ms: int) -> None:
        self.capacity = capacity
        self.life_ms = life_ms
        self._span_ms = -(-life_ms // SPANS)
        self._room = -(-capacity // (SPANS + 1))
        self._spans: deque[set[K]] = deque([set()], maxlen=SPANS + 1)
        self._began = Millis(0)
        """The last span."""

    def __len__(self) -> int:
        return sum(map(len, self._spans))

    def add(self, key: K, now: Millis) -> bool:
        """Remember `key`; whether it is new. The oldest go where there is no room."""
        if self.has(key, now):
            return False
        if len(self._spans[-1]) >= self._room:
            self._begin(now)
        self._spans[-1].add(key)
        return True

    def has(self, key: K, now: Millis) -> bool:
        self.expire(now)
        return any(key in span for span in self._spans)

    def forget(self, key: K) -> None:
        for span in self._spans:
            span.discard(key)

    def expire(self, now: Millis) -> None:
        """Drop what is older than its life."""
        if now - self._began > self.life_ms + self._span_ms:
            self._spans.clear()
            self._begin(now)
        while now - self._began >= self._span_ms:
            self._begin(Millis(self._began + self._span_ms))

    def _begin(self, now: Millis) -> None:
        self._spans.append(set())
        self._began = now
