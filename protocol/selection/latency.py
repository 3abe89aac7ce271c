"""Round trips to a provider, and what they come to: percentiles of whole milliseconds, losses among them.

A probe that was not answered in time is a sample too, worse than any other: a provider that answers three of
twenty, and those fast, is not fast. Where a lost one stands at the place that a percentile asks for, there is no
such percentile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fondaco.protocol.scalars import Millis

Sample = Millis | None
"""One round trip, rounded up; None for a probe that was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Round trips to one provider, measured; a percentile that too many losses stand in is None."""

    p50: Millis | None
    p95: Millis | None
    p99: Millis | None
    samples: int
    """Probes sent, those lost included."""
    lost: int = 0
    vantage: str = ""
    """Where from; empty for the tenant's own machine."""

    def percentile(self, name: str) -> Millis | None:
        """By what queries call it: `p50`, `p95`, `p99`."""
        found: Millis | None = getattr(self, name)
        return found

    @property
    def told(self) -> str:
        """The one figure that strategies go by, in words."""
        figure = (
            f"{self.lost} of {self.samples} probes lost" if self.p95 is None else f"{self.p95} ms for 95 of 100"
        )
        return f"{figure} from {self.vantage}" if self.vantage else figure

    def __str__(self) -> str:
        figures = [f"{name} {_shown(self.percentile(name))}" for name in ("p50", "p95", "p99")]
        where = f" from {self.vantage}" if self.vantage else ""
        return f"{', '.join(figures)}; {self.lost} of {self.samples} probes lost{where}"


def _shown(value: Millis | None) -> str:
    return "lost" if value is None else f"{value} ms"


def percentile(samples: Sequence[Sample], percent: int) -> Millis | None:
    """By nearest rank: the least sample that so many of 100 are no greater than; None if that one was lost."""
    assert samples, "nothing was measured"
    assert 0 < percent <= 100, "so many of 100"
    rank = -(-len(samples) * percent // 100)
    answered = sorted(one for one in samples if one is not None)
    return answered[rank - 1] if rank <= len(answered) else None


def summarise(samples: Sequence[Sample], *, vantage: str = "") -> Latency:
    """What these samples, at least one, come to."""
    return Latency(
        p50=percentile(samples, 50),
        p95=percentile(samples, 95),
        p99=percentile(samples, 99),
        samples=len(samples),
        lost=sum(one is None for one in samples),
        vantage=vantage,
    )


def worst(measured: Sequence[Latency]) -> Latency:
    """Seen from several vantages: each percentile from where it is worst, so that a bound holds at every one.

    The vantage named is the one with the worst `p95`; losses are those of all.
    """
    assert measured, "nothing was measured"
    by_p95 = max(measured, key=lambda one: (one.p95 is None, one.p95 or one.lost))
    return Latency(
        p50=_worst([one.p50 for one in measured]),
        p95=by_p95.p95,
        p99=_worst([one.p99 for one in measured]),
        samples=sum(one.samples for one in measured),
        lost=sum(one.lost for one in measured),
        vantage=by_p95.vantage,
    )


def _worst(values: Sequence[Millis | None]) -> Millis | None:
    found = [one for one in values if one is not None]
    return max(found) if len(found) == len(values) else None
