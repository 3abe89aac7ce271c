"""Benchmarks: `fondaco bench NAME --json`. Each prints its figures with the physical limit of the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    value: float
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One benchmark's outcome."""

    bench: str
    parameters: dict[str, Any]
    figures: dict[str, Figure]
    limit: dict[str, Figure] = field(default_factory=dict)
    """What the machine could do at best, measured in the same run."""

    def to_json(self) -> dict[str, Any]:
        def plain(figures: dict[str, Figure]) -> dict[str, Any]:
            return {name: {"value": one.value, "unit": one.unit} for name, one in figures.items()}

        return {
            "bench": self.bench,
            "parameters": self.parameters,
            "figures": plain(self.figures),
            "limit": plain(self.limit),
        }


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` of the others do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


Bench = Callable[[], Result]
NODES = (4, 7, 10)
"""Networks of how many validators `bench all` measures agreement in."""
GOSSIP_NODES = (4, 8, 16)
"""Networks of how many processes `bench all` measures gossip in; of the second, where only gossip is asked for."""
RECORDS = (1_000, 100_000, 1_000_000)
"""Sizes of the state that blocks are measured over."""


def _crypto() -> Result:
    from fondaco.node.bench.crypto import measure

    return measure()


def _e2e() -> Result:
    from fondaco.node.bench.e2e import measure

    return measure()


def _light() -> Result:
    from fondaco.node.bench.light import measure

    return measure()


def _simulate() -> Result:
    from fondaco.node.bench.simulate import measure

    return measure()


def _sdl() -> Result:
    from fondaco.node.bench.sdl import measure

    return measure()


def _selection() -> Result:
    from fondaco.node.bench.selection import measure

    return measure()


def measure_consensus(nodes: int = NODES[0], minutes: float = 0) -> Result:
    from fondaco.node.bench.consensus import measure

    return measure(nodes, minutes)


def measure_gossip(nodes: int = GOSSIP_NODES[1]) -> Result:
    from fondaco.node.bench.gossip import measure

    return measure(nodes)


def measure_ledger(records: tuple[int, ...] = RECORDS) -> Result:
    from fondaco.node.bench.ledger import measure

    return measure(records)


def _provider() -> Result:
    from fondaco.node.bench.provider import measure

    return measure()


def _channel() -> Result:
    from fondaco.node.bench.channel import measure

    return measure()


BENCHES: dict[str, Bench] = {
    "crypto": _crypto,
    "e2e": _e2e,
    "light": _light,
    "consensus": measure_consensus,
    "gossip": measure_gossip,
    "simulate": _simulate,
    "sdl": _sdl,
    "selection": _selection,
    "provider": _provider,
    "channel": _channel,
    "ledger": measure_ledger,
}
