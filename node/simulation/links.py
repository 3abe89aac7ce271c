"""The network between simulated nodes: what becomes of each message on its way."""

from __future__ import annotations

from random import Random

from fondaco.node.simulation.faults import Counters, Faults
from fondaco.protocol.scalars import PublicKey

Link = tuple[PublicKey, PublicKey]
"""From one to the other; the way back is a link of its own."""


class Links:
    """Asked of every message. While `calm` nothing is done to it but delay; what is cut off stays cut off."""

    def __init__(self, random: Random, faults: Faults, counters: Counters) -> None:
        self._random = random
        self._faults = faults
        self._counters = counters
        self.calm = False
        self.cut: set[Link] = set()
        self.clogged: dict[Link, int] = {}
        """Until when, in milliseconds of the world."""
        self.isolated: set[PublicKey] = set()
        """Nothing reaches these, nothing leaves them."""

    def heal(self) -> None:
        self.cut.clear()
        self.clogged.clear()
        self.isolated.clear()

    def carries(self, one: PublicKey, other: PublicKey) -> bool:
        """Whether anything sent by `one` can reach `other` now."""
        return (one, other) not in self.cut and one not in self.isolated and other not in self.isolated

    def arrivals(self, link: Link, data: bytes, *, now: int) -> list[tuple[int, bytes]]:
        """When the message arrives, in milliseconds from now, and how it reads then: never, once or twice."""
        random, faults, count = self._random, self._faults, self._counters.count
        if not self.carries(*link):
            count("cut off")
            return []
        if self.calm:
            return [(self._delay_ms(), data)]
        if random.random() < faults.loss:
            count("lost")
            return []
        if random.random() < faults.garbage:
            count("garbled")
            data = garble(data, random)
        held_ms = max(0, self.clogged.get(link, 0) - now)
        if held_ms:
            count("clogged")
        elif faults.reorder and random.random() < faults.reorder:
            count("reordered")
            held_ms = random.randint(0, faults.reorder_ms)
        copies = 1
        if random.random() < faults.duplicates:
            count("duplicated")
            copies = 2
        return [(held_ms + self._delay_ms(), data) for _ in range(copies)]

    def _delay_ms(self) -> int:
        return self._faults.delay_min_ms + round(self._random.expovariate(1 / self._faults.delay_mean_ms))


def garble(data: bytes, random: Random) -> bytes:
    """The same bytes but one."""
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ random.randint(1, 255)]) + data[place + 1 :]
