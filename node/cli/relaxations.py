"""What would draw a bid, as `fondaco deploy` tells it where too few came."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fondaco.node.cli.output import credits
from fondaco.protocol import addresses

if TYPE_CHECKING:
    from fondaco.node.tenant.relaxing import Proposal, Shortfall, TooFewBids
    from fondaco.protocol.market import Reason
    from fondaco.protocol.scalars import PublicKey

NAME = 16
"""Characters of a provider's address that are shown to people."""
UNMOVED = 8
"""Of the providers that named nothing they would serve, those told to people."""


def plain(error: TooFewBids) -> dict[str, Any]:
    """To programs."""
    return {
        "error": error.code,
        "message": error.message,
        "groups": [
            {
                "group": one.group.name,
                "bids": one.bids,
                "reached": one.reached,
                "complete": one.complete,
                "max_price_per_hour_ucredit": one.group.max_price_per_hour,
                "proposals": [_proposal(proposal) for proposal in one.proposals],
                "unmoved": [
                    {"provider": addresses.encode(other.provider), "reasons": list(map(_reason, other.reasons))}
                    for other in one.unmoved
                ],
            }
            for one in error.shortfalls
        ],
    }


def _proposal(proposal: Proposal) -> dict[str, Any]:
    relaxation = proposal.relaxation
    return {
        "extra_per_hour_ucredit": relaxation.extra_per_hour,
        "price_per_hour_ucredit": relaxation.price_per_hour,
        "edits": [
            {
                "path": edit.path,
                "line": edit.line,
                "column": edit.column,
                "found": edit.found,
                "wanted": edit.wanted,
            }
            for edit in proposal.edits
        ],
        "draws": [
            {
                "provider": addresses.encode(one.provider),
                "price_per_hour_ucredit": one.price_per_hour,
                "promised": one.promised,
            }
            for one in relaxation.drawn
        ],
    }


def _reason(reason: Reason) -> dict[str, str]:
    return {"dimension": reason.dimension, "asked": reason.asked, "available": reason.available}


def table(error: TooFewBids, file: Path) -> Iterator[str]:
    """To people: a block for each group that lacks bids."""
    for one in error.shortfalls:
        yield from _block(one, file)


def _block(one: Shortfall, file: Path) -> Iterator[str]:
    name, most = one.group.name, credits(one.group.max_price_per_hour)
    if not one.proposals:
        yield f"nothing that providers said would draw more bids on group {name}"
    else:
        yield f"what would draw bids on group {name}, now at most {most}/h:"
    for place, proposal in enumerate(one.proposals, start=1):
        relaxation = proposal.relaxation
        extra = f"{credits(relaxation.extra_per_hour)}/h more" if relaxation.extra_per_hour else "nothing more"
        yield f"  {place}. at {credits(relaxation.price_per_hour)}/h, {extra}"
        for edit in proposal.edits:
            yield f"       {file}:{edit.line}:{edit.column}: {edit}"
        for drawn in relaxation.drawn:
            how = "offers just that" if drawn.promised else "offered on more than that"
            yield f"       {_name(drawn.provider)} at {credits(drawn.price_per_hour)}/h: {how}"
    if not one.complete:
        yield "  more was offered than has been tried"
    if one.unmoved:
        yield "  others name nothing they would serve; this would also have to change:"
    for other in one.unmoved[:UNMOVED]:
        yield f"       {_name(other.provider)}: {'; '.join(map(str, other.reasons))}"
    if len(one.unmoved) > UNMOVED:
        yield f"       and {len(one.unmoved) - UNMOVED} more"


def _name(provider: PublicKey) -> str:
    return addresses.encode(provider)[:NAME]
