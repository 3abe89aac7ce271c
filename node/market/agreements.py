"""What the messages of a transaction agreed on, for the events that only name it by its id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fondaco.protocol.market import Bid, SignedBid, SignedOrder, deployment_id, lease_id, order_id
from fondaco.protocol.messages import OpenLease
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import ChainId, GroupIndex, LeaseId, MicroCredits, OrderId
from fondaco.protocol.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One lease: the order and the bid that made it."""

    lease: LeaseId
    order_id: OrderId
    order: SignedOrder
    signed_bid: SignedBid
    deposit: MicroCredits
    """Put into the escrow of the whole deployment."""

    @property
    def bid(self) -> Bid:
        return self.signed_bid.bid

    @property
    def index(self) -> GroupIndex:
        return self.bid.group

    @property
    def group(self) -> Group:
        return self.order.order.groups[self.index]


def agreements(chain: ChainId, transaction: Transaction) -> Iterator[Agreement]:
    """Every lease that the messages of a transaction, which took effect, make."""
    for message in transaction.messages:
        if isinstance(message, OpenLease):
            identity = order_id(chain, message.order.order)
            for index, bid in enumerate(message.bids):
                yield Agreement(
                    lease=lease_id(deployment_id(identity), GroupIndex(index)),
                    order_id=identity,
                    order=message.order,
                    signed_bid=bid,
                    deposit=message.deposit,
                )
