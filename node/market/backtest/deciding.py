"""Decides recorded orders again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fondaco.node.market.backtest.recording import Asked, Recording
from fondaco.protocol.query import Query
from fondaco.protocol.scalars import Millis, PublicKey
from fondaco.protocol.selection import Candidate, Knowledge, ProviderFacts, Strategy, rank

DAY_MS = 86_400_000
EVERY = 1_000
"""Orders between two reports of progress."""
TENANTS = 100_000
"""Whose earlier choices are remembered, for strategies that spread replicas."""


@dataclass(slots=True)
class Report:
    """What came of it. Money is ucredit an hour, summed over the groups that were placed."""

    groups: int = 0
    placed: int = 0
    without_bids: int = 0
    all_set_aside: int = 0
    """There were bids, and none that the query, the price or the time allowed."""
    price_per_hour: int = 0
    cheapest_per_hour: int = 0
    """What the cheapest of the bids that could be taken would have come to."""
    maximum_per_hour: int = 0
    same_as_taken: int = 0
    """Placed where they were placed in fact."""
    taken: int = 0
    """Placed in fact."""
    outages_within_a_day: int = 0
    """Placed with a provider that failed some lease in the day after."""
    outages_before: int = 0
    """Outages known at the time of those chosen, summed."""
    providers: Counter[PublicKey] = field(default_factory=Counter)
    """How often each was chosen."""
    set_aside: Counter[str] = field(default_factory=Counter)
    """Bids passed over, by the reason's first words."""


def replay(
    recording: Recording,
    strategy: Callable[[Millis], Strategy],
    *,
    since: Millis = Millis(0),  # noqa: B008 - a NewType is its integer
    where: Query | None = None,
    window_ms: int = 2_000,
    progress: Callable[[int], None] = lambda groups: None,
) -> Report:
    """Let `strategy(now)` decide each group, `window_ms` after its order, or with its first bid if later."""
    report, facts = Report(), _Facts(recording)
    used: dict[PublicKey, Counter[PublicKey]] = {}
    for asked in recording.asked(since):
        report.groups += 1
        if report.groups % EVERY == 0:
            progress(report.groups)
        if not asked.bids:
            report.without_bids += 1
            continue
        now = Millis(max(asked.at + window_ms, asked.bids[0].at))
        bids = [seen.candidate for seen in asked.bids if seen.at <= now]
        known = Knowledge(
            providers={one.provider: facts.of(one.provider, now) for one in bids},
            used=used.get(asked.tenant, {}),
        )
        ranking = rank(
            asked.group, bids, now=now, tenant=asked.tenant, strategy=strategy(now), known=known, where=where
        )
        report.set_aside.update(one.reason.partition(":")[0] for one in ranking.set_aside)
        if ranking.best is None:
            report.all_set_aside += 1
            continue
        chosen = ranking.best
        _count(report, recording, asked, chosen, now)
        report.cheapest_per_hour += min(one.candidate.price_per_hour for one in ranking.ranked)
        if len(used) < TENANTS or asked.tenant in used:
            used.setdefault(asked.tenant, Counter())[chosen.provider] += 1
    return report


def _count(report: Report, recording: Recording, asked: Asked, chosen: Candidate, now: Millis) -> None:
    report.placed += 1
    report.price_per_hour += chosen.price_per_hour
    report.maximum_per_hour += asked.group.max_price_per_hour
    report.providers[chosen.provider] += 1
    report.taken += asked.taken is not None
    report.same_as_taken += asked.taken == chosen.provider
    before = recording.outages(chosen.provider, now)
    report.outages_before += before
    report.outages_within_a_day += recording.outages(chosen.provider, Millis(now + DAY_MS)) > before


class _Facts:
    """What was known of each provider at a time: made anew only where something changed."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._newest: dict[PublicKey, ProviderFacts] = {}

    def of(self, provider: PublicKey, now: Millis) -> ProviderFacts:
        auditors, outages = self._recording.auditors(provider, now), self._recording.outages(provider, now)
        before = self._newest.get(provider)
        if before is not None and before.outages == outages and before.audited_by == auditors:
            return before
        found = ProviderFacts(
            attributes=self._recording.attributes.get(provider, ()),
            audited_by=auditors,
            attestations=len(auditors),
            outages=outages,
        )
        self._newest[provider] = found
        return found
