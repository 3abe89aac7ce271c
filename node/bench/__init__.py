"""Benchmarks: `fondaco bench NAME --json`. Each prints its figures with the physical limit of the same run."""

from __future__ import annotations

from collections.abc import Callable
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


Bench = Callable[[], Result]


def _crypto() -> Result:
    from fondaco.node.bench.crypto import measure

    return measure()


def _e2e() -> Result:
    from fondaco.node.bench.e2e import measure

    return measure()


def _light() -> Result:
    from fondaco.node.bench.light import measure

    return measure()


BENCHES: dict[str, Bench] = {"crypto": _crypto, "e2e": _e2e, "light": _light}
