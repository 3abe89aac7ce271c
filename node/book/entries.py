"""What the book keeps of one order, and when one answer takes the place of another."""

from __future__ import annotations

from dataclasses import dataclass, field

from fondaco.node.news import News
from fondaco.protocol import limits
from fondaco.protocol.book.digests import ItemId
from fondaco.protocol.market import Answer, Bid, Decline, SignedBid, SignedOrder
from fondaco.protocol.scalars import GroupIndex, Millis, PublicKey

Place = tuple[PublicKey, GroupIndex]
"""One provider's answer on one group."""


@dataclass(slots=True)
class Entry:
    """An order and its answers; answers may come first, since gossip keeps no order."""

    due: Millis
    """When something of it expires next, or earlier; kept by `Book`, so that a block need not look into each."""
    order: SignedOrder | None = None
    number: int = 0
    """Of its arrival, from 1; 0 while the order itself is missing."""
    answers: dict[Place, Answer] = field(default_factory=dict)
    ids: dict[Place, ItemId] = field(default_factory=dict)
    """Of the answers."""
    news: News = field(default_factory=News)

    def next_expiry(self) -> Millis:
        """When something of it expires next; 0 where there is nothing in it."""
        moments = [said(answer).expires_at for answer in self.answers.values()]
        if self.order is not None:
            moments.append(self.order.order.expires_at)
        return min(moments, default=Millis(0))


def said(signed: Answer) -> Bid | Decline:
    return signed.bid if isinstance(signed, SignedBid) else signed.decline


def improves(new: Answer, old: Answer) -> bool:
    """A bid may follow a decline; a later bid must carry a higher serial and be a hundredth cheaper."""
    if not isinstance(new, SignedBid):
        return False
    if not isinstance(old, SignedBid):
        return True
    return (
        new.bid.serial > old.bid.serial
        and new.bid.serial <= limits.BID_SERIALS
        and new.bid.price_per_hour * 100 <= old.bid.price_per_hour * 99
    )
