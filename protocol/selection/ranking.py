"""From bids and a strategy to a ranking in which every bid is told why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fondaco.protocol import addresses, matching
from fondaco.protocol.query import Query, failing, fields_of
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import Millis, PublicKey
from fondaco.protocol.selection.candidates import Candidate, show_credits
from fondaco.protocol.selection.facts import LATENCY, NOTHING_KNOWN, Knowledge
from fondaco.protocol.selection.strategies import Score, Strategy, cheapest


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    candidate: Candidate
    score: Score

    @property
    def key(self) -> tuple[int, ...]:
        return self.score.key

    @property
    def reason(self) -> str:
        """Why it stands where it stands."""
        return self.score.why()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A bid that could not be taken whatever the strategy."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    ranked: tuple[Ranked, ...]
    """The best first."""
    set_aside: tuple[SetAside, ...]

    @property
    def best(self) -> Candidate | None:
        return self.ranked[0].candidate if self.ranked else None

    def explain(self) -> list[str]:
        """One line a bid: its place, who made it, and why it won or lost."""
        lines = []
        for place, one in enumerate(self.ranked, start=1):
            tie = place > 1 and one.key == self.ranked[place - 2].key
            verdict = "chosen" if place == 1 else f"no. {place}" + (", tied, its hash is higher" if tie else "")
            lines.append(f"{_name(one.candidate)}: {verdict}: {one.reason}")
        lines += [f"{_name(one.candidate)}: not possible: {one.reason}" for one in self.set_aside]
        return lines


def rank(
    group: Group,
    bids: Iterable[Candidate],
    *,
    now: Millis,
    tenant: PublicKey | None = None,
    strategy: Strategy = cheapest,
    known: Knowledge = NOTHING_KNOWN,
    where: Query | None = None,
) -> Ranking:
    """Rank the bids on one group.

    `now` is block time, `tenant` may not be served by itself, and `where` is asked of each bid.
    """
    unwanted = _wanted(where, now, known)
    possible: list[Candidate] = []
    aside: list[SetAside] = []
    latest: dict[PublicKey, Candidate] = {}
    # In the order of their hashes, so that the order of arrival shows in nothing.
    ordered = sorted({one.id: one for one in bids}.values(), key=lambda one: one.id)
    for one in ordered:
        before = latest.get(one.provider)
        if before is None or one.serial > before.serial:
            latest[one.provider] = one
    for one in ordered:
        if latest[one.provider] is not one:
            reason = "the same provider bid again"
        else:
            reason = _why_not(group, one, now, tenant) or unwanted(one)
        if reason:
            aside.append(SetAside(candidate=one, reason=reason))
        else:
            possible.append(one)
    scores = strategy(group, possible, known)
    ranked = [Ranked(candidate=one, score=score) for one, score in zip(possible, scores, strict=True)]
    ranked.sort(key=lambda one: (one.score.key, one.candidate.id))
    return Ranking(ranked=tuple(ranked), set_aside=tuple(aside))


def _why_not(group: Group, one: Candidate, now: Millis, tenant: PublicKey | None) -> str:
    if one.expires_at <= now:
        return f"it expired {now - one.expires_at} ms ago"
    if one.provider == tenant:
        return "it is the tenant's own"
    if one.price_per_hour > group.max_price_per_hour:
        price, maximum = show_credits(one.price_per_hour), show_credits(group.max_price_per_hour)
        return f"{price}/h is above the maximum, {maximum}/h"
    if one.units is None:
        return ""
    return "; ".join(str(reason) for reason in matching.check_bid_units(group.units, one.units))


def _wanted(where: Query | None, now: Millis, known: Knowledge) -> Callable[[Candidate], str]:
    """What is asked of each bid: why it is not wanted, empty if it is."""
    if where is None:
        return lambda one: ""
    fails, measured = failing(where), any(name.startswith(LATENCY) for name in fields_of(where))

    def why(one: Candidate) -> str:
        facts = known.of(one.provider)
        lines = fails(one.subject(facts, now))
        if lines and measured and facts.latency is not None:
            lines.append(f"measured: {facts.latency}")
        return "; ".join(lines)

    return why


def _name(one: Candidate) -> str:
    return addresses.encode(one.provider)
