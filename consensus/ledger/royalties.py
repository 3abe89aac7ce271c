"""What of a lease's payments goes to the authors of its template.

Everything follows from what the lease has paid in all, so that paying often and paying once divide alike. Of
`paid` ucredit the authors together get `paid * basis points // 10_000`; the provider gets the rest, which never
shrinks.
Rounding each author's share by itself would not do: five shares may tick over at the same ucredit. So what is the
authors' is dealt out in turn, in rounds of as many ucredit as they have basis points, each getting as many of a
round as it has basis points: exact after each round, and less than one round's worth apart before.
"""

from __future__ import annotations

from collections.abc import Sequence

from fondaco.consensus.ledger import accounts
from fondaco.consensus.ledger.state import State
from fondaco.protocol.events import Event, RoyaltyPaid
from fondaco.protocol.records import Deployment, Lease, Royalty, Template, key_template
from fondaco.protocol.scalars import MicroCredits

WHOLE = 10_000


def shares(paid: int, royalties: Sequence[Royalty]) -> list[int]:
    """What each author has got of `paid` ucredit, in the order of `royalties`."""
    points = sum(one.basis_points for one in royalties)
    rounds, left = divmod(paid * points // WHOLE, points) if points else (0, 0)
    got = list[int]()
    for one in royalties:
        dealt = min(left, one.basis_points)
        left -= dealt
        got.append(rounds * one.basis_points + dealt)
    return got


def pay(state: State, events: list[Event], deployment: Deployment, lease: Lease, amount: int) -> int:
    """Give the authors their part of the `amount` that `lease` pays now, and return what is the provider's.

    `lease.paid` is what it has paid before.
    """
    if deployment.template is None:
        return amount
    template = state.require(key_template(deployment.template), Template)
    before, after = (shares(paid, template.royalties) for paid in (lease.paid, lease.paid + amount))
    left = amount
    for one, had, has in zip(template.royalties, before, after, strict=True):
        if has == had:
            continue
        accounts.change(state, one.author, credits=has - had)
        events.append(
            RoyaltyPaid(lease=lease.id, template=template.id, author=one.author, amount=MicroCredits(has - had))
        )
        left -= has - had
    return left
