"""What the book holds item by item: digests to compare with, shares of the room, and what is over.

The book itself goes by order; neighbours and quotas go by item.
"""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.node.book.entries import Place
from fondaco.protocol import limits
from fondaco.protocol.book.digests import Index, ItemId
from fondaco.protocol.book.memory import Memory
from fondaco.protocol.book.shares import Caps, Shares
from fondaco.protocol.scalars import Millis, OrderId


@dataclass(slots=True)
class BookCounters:
    """What the book could not keep since the start, for metrics: nothing is dropped without a trace."""

    refused_quota: int = 0
    """Orders of tenants that had as many as one may have."""
    refused_full: int = 0
    """Items there was no room for."""
    shed_orders: int = 0
    shed_answers: int = 0
    """With those of shed orders, and those whose order was not known yet."""

    @property
    def shed(self) -> int:
        return self.shed_orders + self.shed_answers


class Holdings:
    """Items that are held, and ids of those that are not wanted."""

    def __init__(self) -> None:
        self.index = Index()
        self.orders = Shares(
            Caps(
                items=limits.BOOK_ORDERS,
                size=limits.BOOK_ORDER_BYTES,
                per_account=limits.BOOK_ORDERS_PER_TENANT,
                per_source=limits.BOOK_ORDERS_PER_PEER,
            )
        )
        self.answers = Shares(
            Caps(
                items=limits.BOOK_ANSWERS,
                size=limits.BOOK_ANSWER_BYTES,
                per_account=limits.BOOK_ANSWERS_PER_PROVIDER,
                per_source=limits.BOOK_ANSWERS_PER_PEER,
            )
        )
        self.early = Shares(
            Caps(
                items=limits.BOOK_EARLY_ANSWERS,
                size=limits.BOOK_EARLY_BYTES,
                per_account=limits.BOOK_EARLY_PER_PROVIDER,
                per_source=limits.BOOK_EARLY_PER_PEER,
            )
        )
        """Answers whose order has not come yet, apart, so that they push out nothing else."""
        self.ended = Memory(limits.BOOK_REMEMBERED)
        """What expired, was used, or gave way to a better bid: it must not come back."""
        self.waived = Memory(limits.BOOK_REMEMBERED)
        """What was shed, or what the ledger's state did not allow when it was looked at."""
        self.counters = BookCounters()
        self._places: dict[ItemId, tuple[OrderId, Place | None]] = {}

    def place(self, item: ItemId) -> tuple[OrderId, Place | None] | None:
        """The order of an item that is held; with the place of an answer, None for the order itself."""
        return self._places.get(item)

    def hold(self, item: ItemId, order: OrderId, place: Place | None) -> None:
        """An item that has its share."""
        self._places[item] = (order, place)
        self.index.add(item)

    def forget(self, item: ItemId, memory: Memory, until: Millis) -> None:
        """Let go of an item that is held; it is not pulled again until then."""
        del self._places[item]
        self.index.remove(item)
        for shares in (self.orders, self.answers, self.early):
            if item in shares:
                shares.remove(item)
        memory.remember(item, until)

    def over(self, item: ItemId, now: Millis) -> bool:
        """Whether it shall not be pulled though it is not held."""
        return self.ended.has(item, now) or self.waived.has(item, now)
