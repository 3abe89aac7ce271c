"""What a seed means: the world it draws and what is asked of it, by profile.

`safety`     anything goes, and nothing wrong may ever be decided; at the end the network heals, everybody catches
             up, and the whole chain is counted anew.
`liveness`   the same in turns with calm in which only a core of the validators, just enough power to decide, can
             reach each other: whatever the storm left them with, they must decide further heights within a bound.
`byzantine`  a storm in which validators with less than a third of the power lie, each in a way of its own.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from fondaco.consensus.config import EngineConfig
from fondaco.node.simulation import faults
from fondaco.node.simulation.host import SimulatedNode
from fondaco.node.simulation.violation import Violation
from fondaco.node.simulation.world import World

HOUR_MS = 3_600_000
HEIGHTS = 60
NODES = 4
STORM_MS_PER_HEIGHT = 10_000
"""In a bad storm heights take long: it ends after this much time for each height asked for."""
NAMING_SEEDS = 100
"""From this seed on every other world names transactions in proposals; the earlier ones stay what they were."""
TURNS = 4
"""Of storm and calm, in the liveness profile."""
HURRIED = EngineConfig(
    propose_ms=80,
    propose_step_ms=5,
    prevote_ms=10,
    prevote_step_ms=3,
    precommit_ms=10,
    precommit_step_ms=3,
    rebroadcast_ms=300,
)
"""Timeouts about as long as a message travels: rounds fail all the time and locks matter."""
SPACED = EngineConfig(min_block_interval_ms=500)


class Profile(enum.StrEnum):
    SAFETY = "safety"
    LIVENESS = "liveness"
    BYZANTINE = "byzantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One seed to run."""

    seed: int
    profile: Profile = Profile.SAFETY
    nodes: int = NODES
    """Validators; a full node without a vote may join them."""
    heights: int = HEIGHTS
    """How many are decided under faults, unless `hours` says otherwise."""
    hours: float | None = None
    """Simulated time under faults, instead of a number of heights."""

    @property
    def command(self) -> str:
        """What replays it."""
        length = f"--heights {self.heights}" if self.hours is None else f"--hours {self.hours}"
        return f"fondaco simulate --seed {self.seed} --nodes {self.nodes} --profile {self.profile} {length}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of it."""

    task: Task
    simulated_hours: float
    wall_s: float
    heights: int
    """Decided by the honest, each of them checked."""
    events: int
    faults: dict[str, int]
    """How often each kind struck."""
    violations: tuple[str, ...]
    """What must never happen and did: at most one, since a world is left there."""

    def to_json(self) -> dict[str, Any]:
        task = self.task
        return {
            "seed": task.seed,
            "nodes": task.nodes,
            "simulated_hours": self.simulated_hours,
            "wall_s": self.wall_s,
            "heights": self.heights,
            "faults": self.faults,
            "violations": list(self.violations),
            "profile": str(task.profile),
            "events": self.events,
            "replay": task.command,
        }


def world_of(task: Task) -> World:
    """The world that a seed draws; always the same one."""
    random = Random(f"{task.profile} {task.seed} {task.nodes}")
    powers = _powers(random, task.nodes)
    # Liars come last, so the lightest do: at least one of four validators has less than a third.
    liars = _liars(powers) if task.profile is Profile.BYZANTINE else 0
    return World(
        seed=task.seed,
        powers=powers,
        faults=faults.draw(random, liars=liars),
        config=random.choice((EngineConfig(), HURRIED, SPACED)),
        spectators=random.choice((0, 1)),
        transaction_every_ms=random.choice((250, 500, 1_000)),
        compact=task.seed >= NAMING_SEEDS and task.seed % 2 == 1,
    )


def run(task: Task) -> Outcome:
    """Run one seed to its end, or to the first thing that must not happen."""
    began = time.perf_counter()
    world = world_of(task)
    violations: tuple[str, ...] = ()
    try:
        world.tell(lambda: _story(task, world))
    except Violation as violation:
        violations = (str(violation),)
    report = world.report()
    return Outcome(
        task=task,
        simulated_hours=round(report.simulated_ms / HOUR_MS, 6),
        wall_s=round(time.perf_counter() - began, 3),
        heights=report.heights,
        events=report.events,
        faults=report.faults,
        violations=violations,
    )


def _story(task: Task, world: World) -> None:
    turns = TURNS if task.profile is Profile.LIVENESS else 1
    for turn in range(1, turns + 1):
        _storm(task, world, part=turn, of=turns)
        if task.profile is Profile.LIVENESS:
            core = core_of(world)
            world.heal(core)
            world.must_go_on(core)
    world.heal()
    world.must_go_on(world.honest())
    world.recount()


def _storm(task: Task, world: World, *, part: int, of: int) -> None:
    if task.hours is None:
        heights = task.heights * part // of
        world.storm(heights=heights, most_ms=task.heights * STORM_MS_PER_HEIGHT // of)
    else:
        world.storm(heights=world.invariants.heights + HOUR_MS, most_ms=round(task.hours * HOUR_MS / of))


def core_of(world: World) -> Sequence[SimulatedNode]:
    """Validators drawn one by one until they have more than two thirds of the power, and not one more."""
    powers = world.powers
    core: list[SimulatedNode] = []
    for place in world.random.sample(range(len(powers)), len(powers)):
        core.append(world.nodes[place])
        if 3 * sum(powers[world.nodes.index(node)] for node in core) > 2 * sum(powers):
            break
    return core


def _powers(random: Random, nodes: int) -> tuple[int, ...]:
    """Half of the worlds weigh all validators alike."""
    if random.random() < 0.5:
        return (1,) * nodes
    return tuple(sorted((random.randint(1, 10) for _ in range(nodes)), reverse=True))


def _liars(powers: tuple[int, ...]) -> int:
    """As many of the last validators as have less than a third of the power together."""
    liars = 0
    while 3 * sum(powers[-liars - 1 :]) < sum(powers):
        liars += 1
    return liars
