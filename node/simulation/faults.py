"""What may go wrong in a simulated world, and how much of it: a swarm configuration drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Probabilities are per message, or per event of a node, unless they say otherwise."""

    delay_min_ms: int = 1
    delay_mean_ms: int = 30
    """On top of the minimum, exponentially distributed: messages overtake each other."""
    loss: float = 0.0
    duplicates: float = 0.0
    garbage: float = 0.0
    """A message arrives with a byte changed."""
    partitions_per_minute: float = 0.0
    """Half of them cut one direction only."""
    partition_ms: int = 8_000
    """At most; as is `pause_ms`."""
    kills_per_minute: float = 0.0
    kill_in_effects: float = 0.0
    """Per effect: the process dies just before carrying it out."""
    down_ms: int = 6_000
    pauses_per_minute: float = 0.0
    pause_ms: int = 3_000
    clock_skew_ms: int = 0
    """Each clock is off by up to this, for good."""
    equivocators: int = 0
    silent_proposers: int = 0
    split_proposers: int = 0
    """Propose one block to half of the others and another to the rest."""

    forgers: int = 0
    """Pass off their own word as everybody's: commit certificates that nobody else signed."""

    ledger_cheats: int = 0
    """Propose blocks that pay them, include a transaction twice, or say that something else came of it."""

    @property
    def byzantine(self) -> int:
        liars = self.equivocators + self.split_proposers + self.forgers + self.ledger_cheats
        return liars + self.silent_proposers


CALM = Faults()
"""A healthy network."""


def draw(random: Random, *, nodes: int) -> Faults:
    """A random mixture, with at most a third less one of the nodes Byzantine."""
    allowed = (nodes - 1) // 3
    byzantine = random.randint(0, allowed)
    equivocators = random.randint(0, byzantine)
    split = random.randint(0, byzantine - equivocators)
    forgers = random.randint(0, byzantine - equivocators - split)
    cheats = random.randint(0, byzantine - equivocators - split - forgers)
    return Faults(
        delay_min_ms=random.randint(0, 30),
        delay_mean_ms=random.randint(30, 100),
        loss=random.choice((0.0, 0.05, 0.3)),
        duplicates=random.choice((0.0, 0.1)),
        garbage=random.choice((0.0, 0.01)),
        partitions_per_minute=random.choice((0.0, 3.0)),
        kills_per_minute=random.choice((0.0, 4.0)),
        kill_in_effects=random.choice((0.0, 0.001)),
        pauses_per_minute=random.choice((0.0, 3.0)),
        clock_skew_ms=random.choice((0, 100, 250)),
        equivocators=equivocators,
        split_proposers=split,
        forgers=forgers,
        ledger_cheats=cheats,
        silent_proposers=byzantine - equivocators - split - forgers - cheats,
    )


@dataclass(slots=True)
class Counters:
    """How often each fault really struck."""

    struck: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.struck[what] = self.struck.get(what, 0) + 1
