"""Which bid a tenant takes, and why.

A strategy is a pure function of the group that was asked for, the bids that qualify, and what is known of the
bidders; it scores, lower is better, and says why.  `rank` does the rest: it sets aside what cannot be taken, keeps
each provider's latest word, and breaks ties by the hash of the bid, so that being first on the wire wins nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from fondaco.protocol import matching
from fondaco.protocol.market import Bid, SignedBid
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import ChainId, Hash, Millis, PublicKey
from fondaco.protocol.signing import message_id

MICRO = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A bid and the hash of its signed bytes."""

    signed: SignedBid
    id: Hash

    @property
    def bid(self) -> Bid:
        return self.signed.bid


def candidate(chain: ChainId, signed: SignedBid) -> Candidate:
    return Candidate(signed=signed, id=message_id(chain, signed.bid))


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the tenant has seen of providers before; absent keys mean "nothing known"."""

    latency_ms: Mapping[PublicKey, Millis] = field(default_factory=dict)
    outages: Mapping[PublicKey, int] = field(default_factory=dict)
    attested: Mapping[PublicKey, int] = field(default_factory=dict)
    """How many live attestations each provider carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A strategy's judgement of one bid; compared as a tuple, lower is better."""

    key: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    candidate: Candidate
    key: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A bid that could not be taken whatever the strategy."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    strategy: str
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


Strategy = Callable[[Group, tuple[Candidate, ...], History], tuple[Score, ...]]
"""One score a candidate, in their order."""


def cheapest(group: Group, candidates: tuple[Candidate, ...], history: History) -> tuple[Score, ...]:
    """The lowest price for the whole group."""
    maximum = group.max_price_per_hour
    scores = []
    for one in candidates:
        price = one.bid.price_per_hour
        share = (maximum - price) * 100 // maximum
        scores.append(Score(key=(price,), reason=f"{show_credits(price)}/h, {share} % below the maximum"))
    return tuple(scores)


STRATEGIES: Mapping[str, Strategy] = {"cheapest": cheapest}


def rank(
    group: Group,
    bids: Iterable[Candidate],
    *,
    now: Millis,
    tenant: PublicKey | None = None,
    strategy: str = "cheapest",
    history: History | None = None,
) -> Ranking:
    """Rank the bids on one group; `now` is block time, `tenant` may not be served by itself."""
    possible: list[Candidate] = []
    aside: list[SetAside] = []
    latest: dict[PublicKey, Candidate] = {}
    # In the order of their hashes, so that the order of arrival shows in nothing.
    ordered = sorted({one.id: one for one in bids}.values(), key=lambda one: one.id)
    for one in ordered:
        known = latest.get(one.bid.provider)
        if known is None or one.bid.serial > known.bid.serial:
            latest[one.bid.provider] = one
    for one in ordered:
        reason = _why_not(group, one, now=now, tenant=tenant)
        if latest[one.bid.provider] is not one:
            reason = "the same provider bid again"
        if reason:
            aside.append(SetAside(candidate=one, reason=reason))
        else:
            possible.append(one)
    scores = STRATEGIES[strategy](group, tuple(possible), history or History())
    ranked = [
        Ranked(candidate=one, key=score.key, reason=score.reason)
        for one, score in zip(possible, scores, strict=True)
    ]
    ranked.sort(key=lambda one: (one.key, one.candidate.id))
    return Ranking(strategy=strategy, ranked=tuple(ranked), set_aside=tuple(aside))


def _why_not(group: Group, one: Candidate, *, now: Millis, tenant: PublicKey | None) -> str:
    bid = one.bid
    if bid.expires_at <= now:
        return f"it expired {now - bid.expires_at} ms ago"
    if bid.provider == tenant:
        return "it is the tenant's own"
    if bid.price_per_hour > group.max_price_per_hour:
        price, maximum = show_credits(bid.price_per_hour), show_credits(group.max_price_per_hour)
        return f"{price}/h is above the maximum, {maximum}/h"
    return "; ".join(str(reason) for reason in matching.check_bid_units(group.units, bid.units))


def _name(one: Candidate) -> str:
    return one.bid.provider.hex()[:12]


def show_credits(amount: int) -> str:
    """Micro-credits as credits: at least two decimals, no more than needed."""
    whole, fraction = divmod(amount, MICRO)
    digits = f"{fraction:06d}"
    return f"{whole}.{digits[:2]}{digits[2:].rstrip('0')}"
