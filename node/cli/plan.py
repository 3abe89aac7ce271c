"""What is about to be bought, as commands show it before anything is spent: every bid, the chosen ones ticked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fondaco.node.cli.output import credits
from fondaco.protocol import addresses

if TYPE_CHECKING:
    from fondaco.node.tenant.plans import Plan
    from fondaco.protocol.selection import Candidate, Ranking

SHOWN = 12
"""Bids of a group that people are shown; programs get them all."""
NAME, ID = 16, 12
"""Characters of a provider's address, and of a bid's id."""
HEADS = ("", "group", "bid", "provider", "credits/h", "why")


def table(plan: Plan, *, explain: bool = False) -> Iterator[str]:
    """To people: the bids of each group, the best first; with `explain` all, and why some cannot be taken."""
    rows: list[tuple[str, ...]] = [HEADS]
    for group, ranking in zip(plan.draft.groups, plan.rankings, strict=True):
        rows += _rows(group.name, ranking, explain)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS) - 1)]
    for row in rows:
        yield ("  " + "  ".join([*map(str.ljust, row, widths), row[-1]])).rstrip()
    escrow = credits(plan.draft.signed.order.deposit)
    yield f"  {credits(plan.price_per_hour)}/h in all; {escrow} go into escrow, what is not used comes back"


def _rows(group: str, ranking: Ranking, explain: bool) -> Iterator[tuple[str, ...]]:
    for place, one in enumerate(ranking.ranked):
        if place < SHOWN or explain:
            yield _row("✓" if place == 0 else "", group, one.candidate, one.reason)
    if len(ranking.ranked) > SHOWN and not explain:
        yield ("", group, f"and {len(ranking.ranked) - SHOWN} more", "", "", "")
    for aside in ranking.set_aside if explain else ():
        yield _row("✗", group, aside.candidate, f"cannot be taken: {aside.reason}")
    if ranking.set_aside and not explain:
        yield ("✗", group, f"{len(ranking.set_aside)} more", "", "", "cannot be taken; --explain says why")


def _row(mark: str, group: str, bid: Candidate, why: str) -> tuple[str, ...]:
    price = credits(bid.price_per_hour).removesuffix(" credits")
    return mark, group, bid.id.hex()[:ID], addresses.encode(bid.provider)[:NAME], price, why


def plain(plan: Plan) -> dict[str, Any]:
    """To programs."""
    return {
        "order": plan.draft.id.hex(),
        "price_per_hour_ucredit": plan.price_per_hour,
        "deposit_ucredit": plan.draft.signed.order.deposit,
        "bids": plan.answers.count_bids(),
        "declines": plan.answers.count_declines(),
        "groups": [
            {
                "group": group.name,
                "max_price_per_hour_ucredit": group.max_price_per_hour,
                "ranked": [_bid(one.candidate, one.reason) for one in ranking.ranked],
                "set_aside": [_bid(one.candidate, one.reason) for one in ranking.set_aside],
            }
            for group, ranking in zip(plan.draft.groups, plan.rankings, strict=True)
        ],
        "counter_offers": _counter_offers(plan),
    }


def _bid(bid: Candidate, reason: str) -> dict[str, Any]:
    return {
        "bid": bid.id.hex(),
        "provider": addresses.encode(bid.provider),
        "price_per_hour_ucredit": bid.price_per_hour,
        "expires_at": bid.expires_at,
        "reason": reason,
    }


def _counter_offers(plan: Plan) -> list[dict[str, Any]]:
    """What providers that declined would have served instead."""
    return [
        {
            "group": group,
            "provider": addresses.encode(provider),
            "change": offer.change.name.lower(),
            "unit": offer.unit,
            "subject": offer.subject,
            "value": offer.value,
            "price_per_hour_ucredit": offer.price_per_hour,
        }
        for group, declines in plan.answers.declines.items()
        for provider, signed in declines.items()
        for offer in signed.decline.counter_offers
    ]
