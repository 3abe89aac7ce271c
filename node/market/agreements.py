"""What the messages of a transaction agreed on, for the events that only name it by its id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fondaco.protocol.market import Bid, SignedBid, SignedOrder, order_id
from fondaco.protocol.messages import OpenLease, ReplaceLease
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import ChainId, GroupIndex, MicroCredits, OrderId, PublicKey
from fondaco.protocol.transactions import Transaction

Place = tuple[OrderId, GroupIndex]
"""A group of an order: it becomes a lease once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One lease: the order and the bid that made it."""

    order_id: OrderId
    order: SignedOrder
    signed_bid: SignedBid
    deposit: MicroCredits | None
    """Put into the escrow of the whole deployment; None for a lease that takes another one's place."""
    payer: PublicKey
    """Whose money that is."""

    @property
    def bid(self) -> Bid:
        return self.signed_bid.bid

    @property
    def place(self) -> Place:
        return self.order_id, self.bid.group

    @property
    def group(self) -> Group:
        return self.order.order.groups[self.bid.group]

    @property
    def index(self) -> GroupIndex:
        """Which group of its deployment it serves."""
        replaces = self.order.order.replaces
        return self.bid.group if replaces is None else replaces.group


def agreements(chain: ChainId, transaction: Transaction) -> Iterator[Agreement]:
    """Every lease that the messages of a transaction, which took effect, make."""
    for message in transaction.messages:
        match message:
            case OpenLease(order=order, bids=bids):
                identity = order_id(chain, order.order)
                for bid in bids:
                    yield Agreement(
                        order_id=identity,
                        order=order,
                        signed_bid=bid,
                        deposit=message.deposit,
                        payer=order.order.payer or transaction.sender,
                    )
            case ReplaceLease(order=order, bid=bid):
                identity = order_id(chain, order.order)
                yield Agreement(
                    order_id=identity, order=order, signed_bid=bid, deposit=None, payer=transaction.sender
                )
