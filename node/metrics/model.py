"""A metric: its name, kind, help and labels; and what is read of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fondaco.node.timings import Timings

Kind = Literal["counter", "gauge", "histogram"]
CODES = 64
"""Values of a label that holds codes; the rarest beyond them are `other`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One family. Counters end in `_total`, amounts in their unit: `_seconds`, `_bytes`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    def at(self, value: float | Timings, *labels: str) -> Reading:
        assert len(labels) == len(self.labels), self.name
        return Reading(metric=self, labels=labels, value=value)

    def spread(self, values: Iterable[float], *labels: str) -> Iterator[Reading]:
        """Least, median and most, under the last label; nothing of nothing."""
        some = list(values)
        if some:
            yield self.at(min(some), *labels, "min")
            yield self.at(statistics.median(some), *labels, "median")
            yield self.at(max(some), *labels, "max")

    def by_code(self, counts: Mapping[str, int]) -> Iterator[Reading]:
        """One for each code, the only label."""
        ranked = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        for code, count in ranked[:CODES]:
            yield self.at(count, code)
        if ranked[CODES:]:
            yield self.at(sum(count for _, count in ranked[CODES:]), "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The value of a metric under some labels."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Timings


def counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(name=f"fondaco_{name}_total", kind="counter", help=help, labels=labels)


def gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(name=f"fondaco_{name}", kind="gauge", help=help, labels=labels)


def histogram(name: str, help: str, *labels: str) -> Metric:
    return Metric(name=f"fondaco_{name}_seconds", kind="histogram", help=help, labels=labels)
