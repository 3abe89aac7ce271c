"""Choosing peers: a generator of numbers that is given its seed, for a router may not reach for randomness.

SplitMix64 (Steele, Lea, Flood, 2014): not for secrets. The driver seeds it with what peers cannot know; a
simulation with a number, and gets the same choices again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")
MASK = (1 << 64) - 1


class Chance:
    """A seeded generator."""

    def __init__(self, seed: int) -> None:
        self._state = seed & MASK

    def below(self, bound: int) -> int:
        """A number from 0 to below `bound`; the bias is below bound / 2^64."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & MASK
        mixed = self._state
        mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & MASK
        return (mixed ^ mixed >> 31) % bound

    def sample(self, choices: Iterable[T], count: int) -> list[T]:
        """`count` of them, or all there are, in random order."""
        pool = list(choices)
        count = max(0, min(count, len(pool)))
        for index in range(count):
            other = index + self.below(len(pool) - index)
            pool[index], pool[other] = pool[other], pool[index]
        return pool[:count]

    def shuffled(self, choices: Iterable[T]) -> list[T]:
        pool = list(choices)
        return self.sample(pool, len(pool))
