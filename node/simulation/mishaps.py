"""What befalls nodes and links of a simulated world from outside, at moments drawn from its seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from fondaco.node.simulation.faults import Counters, Faults
from fondaco.node.simulation.host import SimulatedNode
from fondaco.node.simulation.links import Links

MINUTE_MS = 60_000


class Stage(Protocol):
    """The world, as far as mishaps need it."""

    random: Random
    faults: Faults
    counters: Counters
    links: Links
    nodes: list[SimulatedNode]

    def now(self) -> int: ...

    def at(self, delay_ms: int, happen: Callable[[], None]) -> None: ...

    def kill(self, node: SimulatedNode) -> None: ...


class Mishaps:
    """`begin` and they go on until `end`; what has struck by then runs its course."""

    def __init__(self, world: Stage) -> None:
        self._world = world
        self._season = 0

    def begin(self) -> None:
        faults = self._world.faults
        for per_minute, strike in (
            (faults.partitions_per_minute, self._partition),
            (faults.clogs_per_minute, self._clog),
            (faults.kills_per_minute, self._kill),
            (faults.pauses_per_minute, self._pause),
            (faults.clock_steps_per_minute, self._step_clock),
        ):
            if per_minute:
                self._plan(per_minute, strike, self._season)

    def end(self) -> None:
        self._season += 1

    def _plan(self, per_minute: float, strike: Callable[[], None], season: int) -> None:
        def happen() -> None:
            if season == self._season:
                strike()
                self._plan(per_minute, strike, season)

        self._world.at(round(self._world.random.expovariate(per_minute / MINUTE_MS)), happen)

    def _partition(self) -> None:
        world, random = self._world, self._world.random
        one_way = random.random() < 0.5
        world.counters.count("partitions one way" if one_way else "partitions")
        inside = random.sample(world.nodes, random.randint(1, len(world.nodes) - 1))
        links = set()
        for one in inside:
            for other in world.nodes:
                if other not in inside:
                    links.add((one.key, other.key))
                    if not one_way:
                        links.add((other.key, one.key))
        world.links.cut |= links

        def end() -> None:
            world.links.cut -= links

        world.at(random.randint(100, world.faults.partition_ms), end)

    def _clog(self) -> None:
        world, random = self._world, self._world.random
        one, other = random.sample(world.nodes, 2)
        world.counters.count("clogs")
        world.links.clogged[one.key, other.key] = world.now() + random.randint(100, world.faults.clog_ms)

    def _kill(self) -> None:
        node = self._world.random.choice(self._world.nodes)
        if node.alive:
            self._world.counters.count("kills")
            self.down(node)

    def down(self, node: SimulatedNode) -> None:
        """Kill a node; somebody will start it again."""
        world = self._world
        world.kill(node)
        world.at(world.random.randint(100, world.faults.down_ms), lambda: revive(node))

    def _pause(self) -> None:
        world = self._world
        world.counters.count("pauses")
        until = world.now() + world.random.randint(100, world.faults.pause_ms)
        world.random.choice(world.nodes).paused_until = until

    def _step_clock(self) -> None:
        world = self._world
        world.counters.count("clock steps")
        most = world.faults.clock_step_ms
        world.random.choice(world.nodes).step_ms = world.random.randint(-most, most)


def revive(node: SimulatedNode) -> None:
    if not node.alive:
        node.boot()
