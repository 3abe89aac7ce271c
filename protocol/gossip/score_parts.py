"""A neighbour's score taken apart, so that somebody can see what pulls it down.

The parts carry their weights: they add up to the score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fondaco.protocol.scalars import Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicParts:
    """What behaviour in one topic adds, the topic's own weight included."""

    grafted_at: Millis | None = None
    """Since when it is in the mesh, by the router's clock; None while it is not."""
    time: float = 0.0
    """P1."""
    first: float = 0.0
    """P2."""
    deliveries: float = 0.0
    """P3."""
    failures: float = 0.0
    """P3b."""
    invalid: float = 0.0
    """P4."""

    @property
    def total(self) -> float:
        return self.time + self.first + self.deliveries + self.failures + self.invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreParts:
    """What a score is made of; its sums over all topics go by the names of the specification."""

    topics: Mapping[str, TopicParts] = field(default_factory=dict)
    over_cap: float = 0.0
    """What topics would add beyond their cap, as a loss."""
    application: float = 0.0
    colocation: float = 0.0
    behaviour: float = 0.0

    def named(self) -> dict[str, float]:
        """`p1` to `p7`, `p3b`, and `cap`."""
        topics = self.topics.values()
        return {
            "p1": sum(one.time for one in topics),
            "p2": sum(one.first for one in topics),
            "p3": sum(one.deliveries for one in topics),
            "p3b": sum(one.failures for one in topics),
            "p4": sum(one.invalid for one in topics),
            "cap": self.over_cap,
            "p5": self.application,
            "p6": self.colocation,
            "p7": self.behaviour,
        }
