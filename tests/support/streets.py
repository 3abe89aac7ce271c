"""A book over a real chain, and who trades on it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Literal

import pytest
from tests.support.chains import Town, order_by
from tests.support.ledger import Actor

from fondaco.node.book import Book, said
from fondaco.node.chain import Chain
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import SignedBid, SignedDecline, SignedOrder
from fondaco.protocol.scalars import OrderId


class Street:
    """A book, two tenants, and two registered providers."""

    def __init__(self, town: Town, chain: Chain) -> None:
        self.town = town
        self.chain = chain
        self.book = Book(chain)
        self.alice, self.bob, self.paul, self.petra = town.actors("alice", "bob", "paul", "petra")
        town.grow(chain, self.paul.registers(), self.petra.registers())

    def order(self, tenant: Actor | None = None, **other: object) -> OrderId:
        """An order that was admitted."""
        identity, signed = order_by(tenant or self.alice, **other)  # type: ignore[arg-type]
        assert self.book.add_order(signed) == identity
        return identity

    def bid(self, provider: Actor, order: OrderId, price: int, **other: object) -> SignedBid:
        signed = self.book.order(order)
        assert signed is not None
        return provider.bid(signed, price, **other)  # type: ignore[arg-type]

    def refuses_order(self, signed: SignedOrder) -> str:
        before = self.book.open_orders()
        with pytest.raises(Refused) as refusal:
            self.book.add_order(signed)
        assert self.book.open_orders() == before
        return refusal.value.code

    def refuses(self, answer: SignedBid | SignedDecline) -> str:
        identity = said(answer).order
        before = self.book.answers(identity)
        with pytest.raises(Refused) as refusal:
            self.book.add_answer(answer)
        assert self.book.answers(identity) == before
        return refusal.value.code

    def cap(self, kind: Literal["orders", "answers", "early"], **caps: int) -> None:
        """Have less room for these from now on."""
        shares = getattr(self.book.holdings, kind)
        shares.caps = replace(shares.caps, **caps)

    def dropped(self) -> dict[str, int]:
        """What the book tells of what it could not keep."""
        return {name: count for name, count in asdict(self.book.holdings.counters).items() if count}
