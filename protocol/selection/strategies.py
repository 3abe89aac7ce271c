"""Ways to choose among bids: each scores them all, lower is better, and says why.

Whole numbers only. What is not known of a provider counts as no better than the worst that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fondaco.protocol.resources import Group
from fondaco.protocol.selection.candidates import Candidate, show_credits
from fondaco.protocol.selection.facts import Knowledge, ProviderFacts

WORST = 1_000
"""Of a component of a score; the best is 0."""
OUTAGE = 100
"""What each known outage costs of reliability."""
UPTIME_DAYS = 7
LATENCY_MS = 20
"""Differences below that are noise in part, and count in part."""
ALL = 1_000
"""Probes lost, in thousandths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A strategy's judgement of one bid; compared as a tuple, lower is better."""

    key: tuple[int, ...]
    reason: str | Callable[[], str]
    """Or what tells it when it is asked for: of a market decided again, most reasons never are."""

    def why(self) -> str:
        return self.reason if isinstance(self.reason, str) else self.reason()


Strategy = Callable[[Group, Sequence[Candidate], Knowledge], Sequence[Score]]
"""One score a candidate, in their order."""


def cheapest(group: Group, candidates: Sequence[Candidate], known: Knowledge) -> list[Score]:
    """The lowest price for the whole group."""
    return [Score(key=(one.price_per_hour,), reason=partial(_price, group, one)) for one in candidates]


def fastest(group: Group, candidates: Sequence[Candidate], known: Knowledge) -> list[Score]:
    """The lowest measured latency, 95 of 100; then those that lost too many probes to have one, the fewest first.

    Those never measured, and those that answered nothing, come last, the cheapest of them first.
    """
    scores = []
    for one in candidates:
        latency = known.of(one.provider).latency
        if latency is None:
            key, told = (1, ALL), "never measured"
        elif latency.p95 is None:
            key, told = (1, latency.lost * ALL // latency.samples), latency.told
        else:
            key, told = (0, latency.p95), latency.told
        scores.append(Score(key=(*key, one.price_per_hour), reason=f"{told}, {_price(group, one)}"))
    return scores


def audited_first(group: Group, candidates: Sequence[Candidate], known: Knowledge) -> list[Score]:
    """Those with most live attestations, the cheapest of them first."""
    scores = []
    for one in candidates:
        count = known.of(one.provider).attestations
        told = f"{count} attestation{'' if count == 1 else 's'}"
        scores.append(Score(key=(-count, one.price_per_hour), reason=f"{told}, {_price(group, one)}"))
    return scores


def spread(group: Group, candidates: Sequence[Candidate], known: Knowledge) -> list[Score]:
    """Where fewest replicas of the service are, by provider, then by region; then the fewest outages."""
    scores = []
    for one in candidates:
        facts = known.of(one.provider)
        here, near = known.used.get(one.provider, 0), known.used_in(facts.region)
        told = f"{here} replicas there, {near} in region {facts.region or 'unknown'}"
        key = (here, near, facts.outages or 0, one.price_per_hour)
        scores.append(Score(key=key, reason=f"{told}, {_price(group, one)}"))
    return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much each component counts, against each other."""

    price: int = 50
    latency: int = 20
    reliability: int = 20
    audits: int = 10

    @property
    def total(self) -> int:
        return self.price + self.latency + self.reliability + self.audits


def balanced(
    group: Group, candidates: Sequence[Candidate], known: Knowledge, *, weights: Weights | None = None
) -> list[Score]:
    """By price, latency, reliability and audits together: each from 0, the best, to 1,000; the weighted mean."""
    weights = weights or Weights()
    facts = [known.of(one.provider) for one in candidates]
    prices = _spanned([one.price_per_hour for one in candidates])
    latencies = _spanned([None if one.latency is None else one.latency.p95 for one in facts], LATENCY_MS)
    scores = []
    for one, price, latency, about in zip(candidates, prices, latencies, facts, strict=True):
        reliability, audits = _unreliability(about), WORST // (1 + about.attestations)
        whole = (
            weights.price * price
            + weights.latency * latency
            + weights.reliability * reliability
            + weights.audits * audits
        )
        mean = whole // max(1, weights.total)
        told = partial(_balance, group, one, about, mean, price, latency, reliability, audits)
        scores.append(Score(key=(mean, one.price_per_hour), reason=told))
    return scores


def _balance(
    group: Group,
    one: Candidate,
    about: ProviderFacts,
    mean: int,
    price: int,
    latency: int,
    reliability: int,
    audits: int,
) -> str:
    measured = "" if about.latency is None else f" ({about.latency.told})"
    parts = f"price {price}, latency {latency}{measured}, reliability {reliability}, audits {audits}"
    return f"score {mean} of 1,000: {parts}; {_price(group, one)}"


def _spanned(values: Sequence[int | None], least: int = 1) -> list[int]:
    """Each between the least (0) and the greatest (1,000), as if they were `least` apart if they are less.

    What is not known is as bad as can be.
    """
    found = [one for one in values if one is not None]
    low, high = min(found, default=0), max(found, default=0)
    width = max(least, high - low)
    return [WORST if one is None else (one - low) * WORST // width for one in values]


def _unreliability(facts: ProviderFacts) -> int:
    """From the uptime of a week and the outages known; where nothing is known, half."""
    uptime = facts.uptime_permille.get(UPTIME_DAYS)
    if uptime is None and facts.outages is None:
        return WORST // 2
    return min(WORST, (0 if uptime is None else WORST - uptime) + OUTAGE * (facts.outages or 0))


def _price(group: Group, one: Candidate) -> str:
    maximum = group.max_price_per_hour
    share = (maximum - one.price_per_hour) * 100 // maximum
    return f"{show_credits(one.price_per_hour)}/h, {share} % below the maximum"


STRATEGIES: Mapping[str, Strategy] = {
    "cheapest": cheapest,
    "fastest": fastest,
    "balanced": partial(balanced),
    "audited-first": audited_first,
    "spread": spread,
}
