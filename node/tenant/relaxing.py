"""Why too few bid on what was ordered, and what would draw more: the solver's answer in the words of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fondaco.node.tenant.ordering import Answers, Draft
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import CounterOffer, Decline
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import GroupIndex, MicroCredits, PublicKey
from fondaco.protocol.sdl.edits import Edit, Source
from fondaco.protocol.selection import Ranking
from fondaco.protocol.selection.solver import Asked, Move, Relaxation, Solution, Unmoved, relaxes, solve


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What to write in the file, and what that would draw."""

    edits: tuple[Edit, ...]
    relaxation: Relaxation


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """One group with fewer bids than were wanted."""

    group: Group
    bids: int
    """That can be taken as they are."""
    proposals: tuple[Proposal, ...]
    """The cheapest first."""
    reached: int
    """The most bids that anything tried would draw."""
    unmoved: tuple[Unmoved, ...]
    """Providers that named nothing they would serve, with what would have to change."""
    complete: bool
    """Whether every change that was offered has been tried."""


class TooFewBids(Refused):
    """`bids.none` or `bids.few`, with what would draw more."""

    def __init__(self, refusal: Refused, shortfalls: tuple[Shortfall, ...]) -> None:
        best = [str(edit) for one in shortfalls if one.proposals for edit in one.proposals[0].edits]
        super().__init__(refusal.code, refusal.message, hint="; ".join(best) or refusal.hint)
        self.shortfalls = shortfalls


def too_few(
    refusal: Refused, text: bytes, order: Draft, answers: Answers, rankings: tuple[Ranking, ...], *, wanted: int
) -> TooFewBids:
    """The refusal, with what would draw `wanted` bids for each group that lacks them."""
    source = Source(text)
    found = []
    for index, (group, ranking) in enumerate(zip(order.groups, rankings, strict=True)):
        if len(ranking.ranked) >= wanted:
            continue
        bids = {one.candidate.provider: one.candidate.price_per_hour for one in ranking.ranked}
        declines = {
            provider: signed.decline for provider, signed in answers.declines.get(GroupIndex(index), {}).items()
        }
        window = order.signed.order.reclamation_window_ms
        asked = Asked(group=group, reclamation_window_ms=window, rates=source.rates(group.name))
        found.append(shortfall(source, asked, bids, declines, wanted=wanted))
    return TooFewBids(refusal, tuple(found))


def shortfall(
    source: Source,
    asked: Asked,
    bids: Mapping[PublicKey, MicroCredits],
    declines: Mapping[PublicKey, Decline],
    *,
    wanted: int,
) -> Shortfall:
    """What would draw `wanted` bids on one group of the file."""
    name = asked.group.name
    sayable = {
        provider: replace(
            one, counter_offers=tuple(offer for offer in one.counter_offers if _sayable(source, asked, offer))
        )
        for provider, one in declines.items()
    }
    solution: Solution = solve(asked, bids=bids, declines=sayable, wanted=wanted)
    return Shortfall(
        group=asked.group,
        bids=len(bids),
        proposals=tuple(
            Proposal(edits=source.edits(name, one.moves), relaxation=one) for one in solution.relaxations
        ),
        reached=solution.reached,
        unmoved=solution.unmoved,
        complete=solution.complete,
    )


def _sayable(source: Source, asked: Asked, offer: CounterOffer) -> bool:
    """Whether it is an offer to what was asked, and one that an SDL file can ask for."""
    if not relaxes(asked, offer):
        return False
    move = Move(change=offer.change, unit=offer.unit, subject=offer.subject, before=1, value=offer.value)
    try:
        source.edits(asked.group.name, (move,))
    except Refused:
        return False
    return True
