"""What is about to be bought: the bids on an order, ranked, before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fondaco.node.tenant.ordering import Answers, Draft
from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import SignedBid, SignedDecline
from fondaco.protocol.selection import Ranking, SetAside, show_credits


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is about to be bought: shown before anything is spent."""

    draft: Draft
    answers: Answers
    rankings: tuple[Ranking, ...]

    @property
    def price_per_hour(self) -> int:
        return sum(ranking.best.price_per_hour for ranking in self.rankings if ranking.best)

    def taking(self, text: str) -> Plan:
        """With another bid than the best: `text` is the start of its id, or of its provider's address.

        Raises `Refused` `bids.unknown` or `bids.ambiguous`.
        """
        found = [
            (index, one)
            for index, ranking in enumerate(self.rankings)
            for one in ranking.ranked
            if one.candidate.id.hex().startswith(text) or addresses.encode(one.candidate.provider).startswith(text)
        ]
        if len({index for index, _ in found}) != len(found):
            raise Refused("bids.ambiguous", f"{len(found)} bids start with {text!r}: give more of it")
        if not found:
            aside = next((one for one in self.set_aside() if one.candidate.id.hex().startswith(text)), None)
            why = "no bid here" if aside is None else f"it cannot be taken: {aside.reason}"
            raise Refused("bids.unknown", f"{text!r}: {why}", hint="list them: fondaco bids ORDER --explain")
        rankings = list(self.rankings)
        for index, one in found:
            rest = tuple(other for other in rankings[index].ranked if other is not one)
            rankings[index] = replace(rankings[index], ranked=(one, *rest))
        return replace(self, rankings=tuple(rankings))

    def set_aside(self) -> Iterator[SetAside]:
        """Bids that cannot be taken."""
        return (one for ranking in self.rankings for one in ranking.set_aside)

    def bids(self) -> tuple[SignedBid, ...]:
        return tuple(ranking.best.signed for ranking in self.rankings if ranking.best and ranking.best.signed)


def describe(answer: SignedBid | SignedDecline) -> str:
    """An answer as people read it: who, and the price or the reasons."""
    if isinstance(answer, SignedBid):
        price = show_credits(answer.bid.price_per_hour)
        return f"{addresses.encode(answer.bid.provider)[:16]} bids {price} credits/h"
    reasons = "; ".join(map(str, answer.decline.reasons))
    instead = "; or ".join(map(str, answer.decline.counter_offers))
    told = f"{addresses.encode(answer.decline.provider)[:16]} declines: {reasons}"
    return f"{told}; it would serve {instead}" if instead else told
