"""What gossip counts by topic besides its router, for metrics, and what the log is told of what it drops."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

SAID_EVERY_S = 10.0
"""How often the log is told of a topic and a reason, at most."""


@dataclass(slots=True)
class ItemCounters:
    """Of one topic; each only grows."""

    published: int = 0
    """Items of ours."""
    handled: int = 0
    """Items of others, each once."""
    repeated: int = 0
    """Items that had come in another batch before."""
    shed_slow_handler: int = 0
    """Batches that our handler was too slow for, as often as one was turned away; it may come again."""
    shed_slow_peer: int = 0
    """Messages that a neighbour was too slow for, once for each neighbour."""
    lost: int = 0
    """Batches that our handler was too slow for, and that did not come again while neighbours held them."""


@dataclass(slots=True)
class GossipCounters:
    """By topic, `orders` and so on; of `control`, what routers tell each other, only shedding is counted."""

    topics: dict[str, ItemCounters] = field(default_factory=dict)

    def of(self, topic: str) -> ItemCounters:
        found = self.topics.get(topic)
        if found is None:
            found = self.topics[topic] = ItemCounters()
        return found

    def total(self, name: str) -> int:
        """Of all topics together."""
        return sum(getattr(counters, name) for counters in self.topics.values())


REASONS = {
    "shed_slow_handler": "dropped, our handler is too slow",
    "shed_slow_peer": "not sent, a neighbour is too slow",
    "lost": "lost, they did not come again",
}


class ShedLog:
    """One line for each topic and reason, with how many it is since the last; never more than one in a while."""

    def __init__(self) -> None:
        self._said: Counter[tuple[str, str]] = Counter()
        self._when: dict[tuple[str, str], float] = {}

    def tell(self, counters: GossipCounters, now_s: float) -> None:
        """Say what is new, as far as it is time to; the rest waits for a later call."""
        for topic, one in counters.topics.items():
            for reason, words in REASONS.items():
                key, count = (topic, reason), getattr(one, reason)
                if count > self._said[key] and now_s - self._when.get(key, -SAID_EVERY_S) >= SAID_EVERY_S:
                    log.warning("gossip of %s: %d messages %s", topic, count - self._said[key], words)
                    self._said[key], self._when[key] = count, now_s
