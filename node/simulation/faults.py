"""What may go wrong in a simulated world, and how much of it: a swarm configuration drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Probabilities are per message, or per event of a node, unless they say otherwise."""

    delay_min_ms: int = 1
    delay_mean_ms: int = 30
    """On top of the minimum, exponentially distributed: messages overtake each other."""
    loss: float = 0.0
    duplicates: float = 0.0
    reorder: float = 0.0
    """A message is held back for up to `reorder_ms`, so that many later ones overtake it."""
    reorder_ms: int = 1_000
    garbage: float = 0.0
    """A message arrives with a byte changed."""
    partitions_per_minute: float = 0.0
    """Half of them cut one direction only."""
    partition_ms: int = 8_000
    """At most; as are the other durations below."""
    clogs_per_minute: float = 0.0
    """A link holds back what is sent over it, and then delivers all of it at once."""
    clog_ms: int = 5_000
    kills_per_minute: float = 0.0
    """Kill -9 between two events; of the journal's unflushed entries a random number is torn off."""
    kill_in_effects: float = 0.0
    """Per effect: the process dies just before carrying it out, so before and after every flush of the disk."""
    down_ms: int = 6_000
    pauses_per_minute: float = 0.0
    pause_ms: int = 3_000
    clock_skew_ms: int = 0
    """Each clock is off by up to this, for good."""
    clock_steps_per_minute: float = 0.0
    """A clock jumps, and is off by up to `clock_step_ms` either way from then on."""
    clock_step_ms: int = 2_000
    equivocators: int = 0
    """Cast another vote with one half of the others than with the rest, and forget what they signed."""
    silent_proposers: int = 0
    """Vote, and let every turn to propose pass."""
    split_proposers: int = 0
    """Propose one block to half of the others and another to the rest."""
    withholders: int = 0
    """Show their block to a few and vote for it before all."""
    amnesiacs: int = 0
    """Forget what they are locked on, and vote for whatever comes next."""
    racers: int = 0
    """Vote in rounds that nobody has reached, to drag the others there."""
    flooders: int = 0
    """Repeat what belongs to heights long decided, and send bytes that mean nothing."""
    forgers: int = 0
    """Pass off their own word as everybody's: commit certificates that nobody else signed."""
    ledger_cheats: int = 0
    """Propose blocks that pay them, include a transaction twice, or say that something else came of it."""


CALM = Faults()
"""A healthy network."""

LIARS = (
    "equivocators",
    "split_proposers",
    "withholders",
    "amnesiacs",
    "racers",
    "flooders",
    "forgers",
    "ledger_cheats",
    "silent_proposers",
)
"""The fields of `Faults` that count Byzantine validators."""


def draw(random: Random, *, liars: int = 0) -> Faults:
    """A random mixture. Most faults are absent from some of the worlds, so that none always hides another.

    `liars` validators are Byzantine, each in a way of its own choice.
    """
    chosen = random.choices(LIARS, k=liars)
    return Faults(
        delay_min_ms=random.randint(0, 30),
        delay_mean_ms=random.randint(30, 100),
        loss=random.choice((0.0, 0.05, random.uniform(0.0, 0.3))),
        duplicates=random.choice((0.0, 0.1)),
        reorder=random.choice((0.0, 0.05)),
        garbage=random.choice((0.0, 0.01)),
        partitions_per_minute=random.choice((0.0, 3.0)),
        clogs_per_minute=random.choice((0.0, 6.0)),
        kills_per_minute=random.choice((0.0, 4.0)),
        kill_in_effects=random.choice((0.0, 0.001)),
        pauses_per_minute=random.choice((0.0, 3.0)),
        clock_skew_ms=random.choice((0, 100, 250)),
        clock_steps_per_minute=random.choice((0.0, 0.0, 2.0)),
        **{name: chosen.count(name) for name in LIARS},
    )


@dataclass(slots=True)
class Counters:
    """How often each fault really struck."""

    struck: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.struck[what] = self.struck.get(what, 0) + 1
