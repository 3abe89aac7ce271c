"""The order book: open orders, and what providers answered. Bounded, and emptied by block time.

Admission is two-fold. A stateless fault is the sender's (`PeerFault`, or `Refused` for a user's own order);
what only the ledger's state forbids is ignored without blame, because honest peers lag behind each other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable

from fondaco.consensus.ledger.accounts import account_of, params_of
from fondaco.consensus.ledger.application import Execution
from fondaco.consensus.ledger.escrow import HOUR_MS
from fondaco.node.book.entries import Entry, Place, improves, said
from fondaco.node.chain import Chain
from fondaco.node.news import News
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import LeaseOpened
from fondaco.protocol.market import (
    Answer,
    Bid,
    Decline,
    GossipItem,
    SignedBid,
    SignedOrder,
    check_bid,
    check_decline,
    check_order,
)
from fondaco.protocol.records import Provider, UsedOrder, key_provider, key_used_order
from fondaco.protocol.scalars import Millis, OrderId, PublicKey


class Book:
    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._entries: OrderedDict[OrderId, Entry] = OrderedDict()
        self._early: OrderedDict[OrderId, Entry] = OrderedDict()
        """Answers whose order has not come yet, apart, so that they cannot push orders out."""
        self._arrivals: dict[int, OrderId] = {}
        """Numbered, so that a reader who slept knows what it has not seen."""
        self._count = 0
        self._promised: dict[PublicKey, int] = {}
        """By tenant, the sum of its open orders' deposits."""
        self.news = News()
        """Rings when an order came in."""
        self.listeners: list[Callable[[GossipItem], None]] = []
        """Called with whatever is taken in: they must not wait and must not fail."""
        chain.listeners.append(self._after_commit)

    def add_order(self, signed: SignedOrder) -> OrderId:
        """Admit an order. Raises `PeerFault`, or `Refused` with what the order or the ledger's state lacks."""
        identity = check_order(self._chain.id, signed)
        if identity in self._entries:
            return identity
        self._check_affordable(signed)
        if self._chain.ledger.state().get(key_used_order(identity), UsedOrder) is not None:
            raise Refused("order.used", "this order has already been turned into leases")
        entry = self._early.pop(identity, None) or Entry(due=signed.order.expires_at)
        for place in [place for place in entry.answers if place[1] >= len(signed.order.groups)]:
            del entry.answers[place]
        while len(self._entries) >= limits.BOOK_ORDERS:
            self._remove(next(iter(self._entries)))
        self._count += 1
        entry.order, entry.number = signed, self._count
        entry.due = entry.next_expiry()
        self._entries[identity] = entry
        self._arrivals[self._count] = identity
        tenant = signed.order.tenant
        self._promised[tenant] = self._promised.get(tenant, 0) + signed.order.deposit
        self._tell(signed)
        self.news.ring()
        return identity

    def add_answer(self, signed: Answer) -> bool:
        """Admit a bid or decline; whether it said anything new. Raises `PeerFault` or `Refused`."""
        if isinstance(signed, SignedBid):
            check_bid(self._chain.id, signed)
        else:
            check_decline(self._chain.id, signed)
        answer = said(signed)
        entry = self._find(answer.order)
        self._check_answer(answer, entry)
        if entry is None:
            while len(self._early) >= limits.BOOK_EARLY_ORDERS:
                self._remove(next(iter(self._early)))
            entry = self._early[answer.order] = Entry(due=answer.expires_at)
        place = (answer.provider, answer.group)
        before = entry.answers.get(place)
        if before is not None and not improves(signed, before):
            return False
        if before is None and len(entry.answers) >= limits.BOOK_ANSWERS_PER_ORDER:
            raise Refused("book.full", "this order has as many answers as are kept")
        entry.answers[place] = signed
        entry.due = min(entry.due, answer.expires_at)
        self._tell(signed)
        entry.news.ring()
        return True

    def _tell(self, item: GossipItem) -> None:
        for listener in self.listeners:
            listener(item)

    def _check_answer(self, answer: Bid | Decline, entry: Entry | None) -> None:
        now = self._chain.head.time
        if answer.expires_at <= now:
            raise Refused("answer.expired", "it expired before it came")
        if answer.expires_at > now + limits.BID_LIFE_MS + limits.CLOCK_SLACK_MS:
            raise Refused("answer.expiry", f"an answer binds for {limits.BID_LIFE_MS} ms at most")
        groups = limits.GROUPS if entry is None or entry.order is None else len(entry.order.order.groups)
        if answer.group >= groups:
            raise Refused("answer.group", f"an answer on group {answer.group} of {groups}")
        if self._chain.ledger.state().get(key_provider(answer.provider), Provider) is None:
            raise Refused("provider.unknown", "the answer's provider is not registered")

    def order(self, identity: OrderId) -> SignedOrder | None:
        entry = self._entries.get(identity)
        return None if entry is None else entry.order

    def _find(self, identity: OrderId) -> Entry | None:
        return self._entries.get(identity) or self._early.get(identity)

    def answers(self, identity: OrderId) -> list[Answer]:
        entry = self._find(identity)
        return [] if entry is None else list(entry.answers.values())

    def open_orders(self) -> list[tuple[OrderId, SignedOrder]]:
        """Every order in the book, oldest first."""
        return [(key, entry.order) for key, entry in self._entries.items() if entry.order is not None]

    async def orders(self) -> AsyncGenerator[tuple[OrderId, SignedOrder], None]:
        """Every order from now on, and those that are open now."""
        seen = next(iter(self._arrivals), self._count + 1) - 1
        while True:
            waiting = self.news.next
            for number in range(seen + 1, self._count + 1):
                seen = number
                identity = self._arrivals.get(number)
                order = None if identity is None else self.order(identity)
                if identity is not None and order is not None:
                    yield identity, order
            await waiting.wait()

    async def watch(self, identity: OrderId) -> AsyncGenerator[Answer, None]:
        """Every answer to an order, those that are there and those that come, until it leaves the book."""
        entry = self._find(identity)
        sent: dict[Place, Answer] = {}
        while entry is not None and self._find(identity) is entry:
            waiting = entry.news.next
            for place, answer in list(entry.answers.items()):
                if sent.get(place) != answer:
                    sent[place] = answer
                    yield answer
            await waiting.wait()

    def _remove(self, identity: OrderId) -> None:
        """Forget an order, or what came early for one."""
        entry = self._entries.pop(identity, None) or self._early.pop(identity)
        if entry.order is not None:
            del self._arrivals[entry.number]
            tenant = entry.order.order.tenant
            self._promised[tenant] -= entry.order.order.deposit
            if not self._promised[tenant]:
                del self._promised[tenant]
        entry.news.ring()

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
        promised = order.deposit + self._promised.get(order.tenant, 0)
        free = account_of(state, order.tenant).credits
        if promised > free:
            raise Refused(
                "deposit.unaffordable",
                f"the deposits of this tenant's open orders come to {promised} ucredit, it has {free}",
            )

    def _after_commit(self, execution: Execution) -> None:
        """Forget what expired by block time, and what became a lease."""
        now = execution.block.header.time
        for event in execution.events:
            if isinstance(event, LeaseOpened) and OrderId(event.deployment) in self._entries:
                self._remove(OrderId(event.deployment))  # a deployment carries its order's id
        for entries in (self._entries, self._early):
            for identity in [key for key, entry in entries.items() if entry.due <= now]:
                self._expire(identity, entries[identity], now)

    def _expire(self, identity: OrderId, entry: Entry, now: Millis) -> None:
        for place, answer in list(entry.answers.items()):
            if said(answer).expires_at <= now:
                del entry.answers[place]
        entry.due = entry.next_expiry()
        if entry.due <= now:
            self._remove(identity)
