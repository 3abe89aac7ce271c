"""The order book: open orders, and what providers answered. Bounded, and emptied by block time.

Admission is two-fold. A stateless fault is the sender's (`PeerFault`, or `Refused` for a user's own order);
what only the ledger's state forbids is ignored without blame, because honest peers lag behind each other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fondaco.consensus.ledger.accounts import account_of, params_of
from fondaco.consensus.ledger.application import Execution
from fondaco.consensus.ledger.escrow import HOUR_MS
from fondaco.node.chain import Chain
from fondaco.node.news import News
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import (
    Answer,
    Bid,
    Decline,
    SignedBid,
    SignedOrder,
    check_bid,
    check_decline,
    check_order,
)
from fondaco.protocol.records import Provider, UsedOrder, key_provider, key_used_order
from fondaco.protocol.scalars import GroupIndex, OrderId, PublicKey

Place = tuple[PublicKey, GroupIndex]
"""One provider's answer on one group."""


@dataclass(slots=True)
class Entry:
    """An order and its answers; answers may come first, since gossip keeps no order."""

    order: SignedOrder | None
    answers: dict[Place, Answer] = field(default_factory=dict)
    news: News = field(default_factory=News)


class Book:
    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._entries: OrderedDict[OrderId, Entry] = OrderedDict()
        self._arrivals: OrderedDict[int, OrderId] = OrderedDict()
        """Numbered, so that a reader who slept knows what it has not seen."""
        self._count = 0
        self.news = News()
        """Rings when an order came in."""
        chain.listeners.append(self._after_commit)

    def add_order(self, signed: SignedOrder) -> OrderId:
        """Admit an order. Raises `PeerFault`, or `Refused` with what the order or the ledger's state lacks."""
        identity = check_order(self._chain.id, signed)
        entry = self._entries.get(identity)
        if entry is not None and entry.order is not None:
            return identity
        self._check_affordable(signed)
        if self._chain.ledger.state().get(key_used_order(identity), UsedOrder) is not None:
            raise Refused("order.used", "this order has already been turned into leases")
        self._entry(identity).order = signed
        self._count += 1
        self._arrivals[self._count] = identity
        self.news.ring()
        return identity

    def add_answer(self, signed: Answer) -> bool:
        """Admit a bid or decline; whether it said anything new. Raises `PeerFault` or `Refused`."""
        if isinstance(signed, SignedBid):
            check_bid(self._chain.id, signed)
        else:
            check_decline(self._chain.id, signed)
        answer = said(signed)
        now = self._chain.head.time
        if answer.expires_at <= now:
            raise Refused("answer.expired", "it expired before it came")
        if answer.expires_at > now + limits.BID_LIFE_MS + limits.CLOCK_SLACK_MS:
            raise Refused("answer.expiry", f"an answer binds for {limits.BID_LIFE_MS} ms at most")
        if self._chain.ledger.state().get(key_provider(answer.provider), Provider) is None:
            raise Refused("provider.unknown", "the answer's provider is not registered")
        entry = self._entry(answer.order)
        place = (answer.provider, answer.group)
        before = entry.answers.get(place)
        if before is not None and not _improves(signed, before):
            return False
        if before is None and len(entry.answers) >= limits.BOOK_ANSWERS_PER_ORDER:
            raise Refused("book.full", "this order has as many answers as are kept")
        entry.answers[place] = signed
        entry.news.ring()
        return True

    def order(self, identity: OrderId) -> SignedOrder | None:
        entry = self._entries.get(identity)
        return None if entry is None else entry.order

    def answers(self, identity: OrderId) -> list[Answer]:
        entry = self._entries.get(identity)
        return [] if entry is None else list(entry.answers.values())

    def open_orders(self) -> list[tuple[OrderId, SignedOrder]]:
        """Every order in the book, oldest first."""
        return [(key, entry.order) for key, entry in self._entries.items() if entry.order is not None]

    async def orders(self) -> AsyncIterator[tuple[OrderId, SignedOrder]]:
        """Every order from now on, and those that are open now."""
        seen = 0
        while True:
            waiting = self.news.next
            for number, identity in list(self._arrivals.items()):
                if number > seen:
                    seen = number
                    order = self.order(identity)
                    if order is not None:
                        yield identity, order
            await waiting.wait()

    async def watch(self, identity: OrderId) -> AsyncIterator[Answer]:
        """Every answer to an order, those that are there and those that come, until it leaves the book."""
        entry = self._entry(identity)
        sent: dict[Place, Answer] = {}
        while self._entries.get(identity) is entry:
            waiting = entry.news.next
            for place, answer in list(entry.answers.items()):
                if sent.get(place) != answer:
                    sent[place] = answer
                    yield answer
            await waiting.wait()

    def _entry(self, identity: OrderId) -> Entry:
        entry = self._entries.get(identity)
        if entry is None:
            while len(self._entries) >= limits.BOOK_ORDERS:
                self._remove(next(iter(self._entries)))
            entry = self._entries[identity] = Entry(order=None)
        return entry

    def _remove(self, identity: OrderId) -> None:
        self._entries.pop(identity).news.ring()

    def _check_affordable(self, signed: SignedOrder) -> None:
        order, head, state = signed.order, self._chain.head, self._chain.ledger.state()
        if order.expires_at <= head.time:
            raise Refused("order.expired", "the order has expired")
        if order.expires_at > head.time + limits.ORDER_LIFE_MS + limits.CLOCK_SLACK_MS:
            raise Refused("order.expiry", "an order lives for an hour at most")
        rate = sum(group.max_price_per_hour for group in order.groups)
        least = -(-rate * params_of(state).min_runway_ms // HOUR_MS)
        if order.deposit < least:
            raise Refused("deposit.too_small", f"the deposit is {order.deposit} ucredit, {least} are needed")
        promised = order.deposit + sum(
            entry.order.order.deposit
            for entry in self._entries.values()
            if entry.order is not None and entry.order.order.tenant == order.tenant
        )
        free = account_of(state, order.tenant).credits
        if promised > free:
            raise Refused(
                "deposit.unaffordable",
                f"the deposits of this tenant's open orders come to {promised} ucredit, it has {free}",
            )

    def _after_commit(self, execution: Execution) -> None:
        """Forget what expired by block time, and what became a lease."""
        now, state = execution.block.header.time, self._chain.ledger.state()
        for identity, entry in list(self._entries.items()):
            for place, answer in list(entry.answers.items()):
                if said(answer).expires_at <= now:
                    del entry.answers[place]
            order = entry.order
            if order is None:
                stale = not entry.answers
            else:
                used = state.get(key_used_order(identity), UsedOrder) is not None
                stale = used or order.order.expires_at <= now
            if stale:
                self._remove(identity)
        for number, identity in list(self._arrivals.items()):
            if identity not in self._entries:
                del self._arrivals[number]


def said(signed: Answer) -> Bid | Decline:
    return signed.bid if isinstance(signed, SignedBid) else signed.decline


def _improves(new: Answer, old: Answer) -> bool:
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
