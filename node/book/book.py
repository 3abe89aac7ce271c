"""The order book: open orders, and what providers answered. Bounded, and emptied by block time.

Admission is two-fold. A stateless fault is the sender's (`PeerFault`, or `Refused` for a user's own order);
what only the ledger's state forbids is ignored without blame, because honest peers lag behind each other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from typing import assert_never

from fondaco.consensus.ledger.application import Execution
from fondaco.node.book.affordable import check_affordable, payer_of
from fondaco.node.book.entries import Entry, Place, improves, said
from fondaco.node.book.holdings import Holdings
from fondaco.node.book.offers import Offers
from fondaco.node.chain import Chain
from fondaco.node.news import News
from fondaco.node.refusals import Refusals, counting
from fondaco.protocol import codec, limits
from fondaco.protocol.book.digests import ItemId, item_id
from fondaco.protocol.book.memory import Memory
from fondaco.protocol.book.shares import OWN, Share, Shares
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import LeaseOpened
from fondaco.protocol.market import (
    Answer,
    Bid,
    Decline,
    OrderItem,
    SignedBid,
    SignedDecline,
    SignedOrder,
    check_bid,
    check_decline,
    check_order,
)
from fondaco.protocol.offers import GossipItem, SignedOffer, check_offer
from fondaco.protocol.records import Provider, UsedOrder, key_provider, key_used_order
from fondaco.protocol.scalars import Hash, Millis, OrderId, PublicKey
from fondaco.protocol.signing import message_id


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
        """By payer, the sum of the deposits that open orders count on."""
        self.holdings = Holdings()
        self.refusals = Refusals()
        """Items that did not come in, by code."""
        self.offers = Offers(chain, self.holdings)
        self.news = News()
        """Rings when an order came in."""
        self.listeners: list[Callable[[GossipItem], None]] = []
        """Called with whatever is taken in: they must not wait and must not fail."""
        chain.listeners.append(self._after_commit)

    def check(self, signed: GossipItem) -> Hash:
        """Judge an item by itself; the hash of what was signed. Raises `Refused` or `PeerFault`."""
        match signed:
            case SignedOrder():
                return Hash(check_order(self._chain.id, signed))
            case SignedBid():
                check_bid(self._chain.id, signed)
            case SignedDecline():
                check_decline(self._chain.id, signed)
            case SignedOffer():
                check_offer(self._chain.id, signed)
                return message_id(self._chain.id, signed.offer)
            case _:
                assert_never(signed)
        return message_id(self._chain.id, said(signed))

    def admit(self, message: Hash, signed: GossipItem, source: str) -> bool:
        """Take in what `check` found good, from this neighbour; whether it was new.

        Raises `Refused` with what the ledger's state does not allow, or there is no room for.
        """
        with counting(self.refusals):
            if isinstance(signed, SignedOrder):
                return self._admit_order(OrderId(message), signed, source)
            if isinstance(signed, SignedOffer):
                return self._admit_offer(item_id(message), signed)
            return self._admit_answer(item_id(message), signed, source)

    def add_offer(self, signed: SignedOffer) -> bool:
        """Admit our own offer; whether it was new. Raises `PeerFault` or `Refused`."""
        return self._admit_offer(item_id(self.check(signed)), signed)

    def _admit_offer(self, item: ItemId, signed: SignedOffer) -> bool:
        if not self.offers.admit(item, signed):
            return False
        self._tell(signed)
        return True

    def add_order(self, signed: SignedOrder, source: str = OWN) -> OrderId:
        """Admit an order. Raises `PeerFault`, or `Refused` with what the order or the ledger's state lacks."""
        message = self.check(signed)
        self.admit(message, signed, source)
        return OrderId(message)

    def add_answer(self, signed: Answer, source: str = OWN) -> bool:
        """Admit a bid or decline; whether it said anything new. Raises `PeerFault` or `Refused`."""
        return self.admit(self.check(signed), signed, source)

    def _admit_order(self, identity: OrderId, signed: SignedOrder, source: str) -> bool:
        if identity in self._entries:
            return False
        state, payer = self._chain.ledger.state(), payer_of(signed.order)
        if state.get(key_used_order(identity), UsedOrder) is not None:
            raise Refused("order.used", "this order has already been turned into leases")
        promised = self._promised.get(payer, 0)
        check_affordable(state, signed.order, promised=promised, now=self._chain.head.time)
        item, tenant = item_id(identity), signed.order.tenant
        self._check_quota(tenant)
        self._make_room(self.holdings.orders, item, Share(source=source, account=tenant, size=_size(signed)))
        entry = self._early.pop(identity, None) or Entry(due=signed.order.expires_at)
        self._count += 1
        entry.order, entry.number = signed, self._count
        self._entries[identity] = entry
        self._arrivals[self._count] = identity
        if signed.order.deposit:
            self._promised[payer] = promised + signed.order.deposit
        self.holdings.hold(item, identity, None)
        self._settle_early(entry)
        entry.due = entry.next_expiry()
        self._tell(signed)
        self.news.ring()
        return True

    def _settle_early(self, entry: Entry) -> None:
        """The order has come: its answers so far go among the others, but for those on groups it does not have."""
        assert entry.order is not None
        for place, item in list(entry.ids.items()):
            if place[1] >= len(entry.order.order.groups):
                self._forget_answer(entry, place, self.holdings.ended)
                continue
            share = self.holdings.early.share(item)
            self.holdings.early.remove(item)
            for fallen in self.holdings.answers.add(item, share):
                self._shed(fallen)

    def _admit_answer(self, item: ItemId, signed: Answer, source: str) -> bool:
        answer = said(signed)
        entry = self._find(answer.order)
        self._check_answer(answer, entry)
        place = (answer.provider, answer.group)
        before = None if entry is None else entry.answers.get(place)
        if entry is not None and before is not None:
            if not improves(signed, before):
                if entry.ids[place] != item:
                    self.holdings.ended.remember(item, _until(answer.expires_at))
                return False
            self._forget_answer(entry, place, self.holdings.ended)
        elif entry is not None and len(entry.answers) >= limits.BOOK_ANSWERS_PER_ORDER:
            self.holdings.counters.refused_full += 1
            raise Refused("book.full", "this order has as many answers as are kept")
        shares = self.holdings.early if entry is None or entry.order is None else self.holdings.answers
        self._make_room(shares, item, Share(source=source, account=answer.provider, size=_size(signed)))
        entry = self._find(answer.order)  # what was shed may have been the last of an early one
        if entry is None:
            entry = self._early[answer.order] = Entry(due=answer.expires_at)
        entry.answers[place], entry.ids[place] = signed, item
        entry.due = min(entry.due, answer.expires_at)
        self.holdings.hold(item, answer.order, place)
        self._tell(signed)
        entry.news.ring()
        return True

    def _check_quota(self, tenant: PublicKey) -> None:
        count = self.holdings.orders.of_account(tenant)
        if count >= self.holdings.orders.caps.per_account:
            self.holdings.counters.refused_quota += 1
            raise Refused("book.tenant_quota", f"this tenant has {count} open orders, as many as are kept of one")

    def _make_room(self, shares: Shares, item: ItemId, share: Share) -> None:
        """Give an item its share and shed what falls away for it. Raises `Refused` if it is the one to go."""
        fallen = shares.add(item, share)
        for one in fallen:
            if one != item:
                self._shed(one)
        if item in fallen:
            self.holdings.counters.refused_full += 1
            raise Refused("book.full", "there is no room, and whose this is has the most of it")

    def _shed(self, item: ItemId) -> None:
        """Forget what lost its share; it is not pulled again at once, or two would push each other out in turn."""
        found = self.holdings.place(item)
        assert found is not None
        identity, place = found
        counters, entry = self.holdings.counters, self._find(identity)
        assert entry is not None
        if place is None:
            counters.shed_orders += 1
            counters.shed_answers += len(entry.answers)
            self._remove(identity, self.holdings.waived)
        else:
            counters.shed_answers += 1
            self._forget_answer(entry, place, self.holdings.waived)
            if entry.order is None and not entry.answers:
                self._remove(identity, self.holdings.waived)

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
        if entry is None and self._is_over(answer.order):
            raise Refused("order.over", "its order has expired or become leases")
        if self._chain.ledger.state().get(key_provider(answer.provider), Provider) is None:
            raise Refused("provider.unknown", "the answer's provider is not registered")

    def _is_over(self, identity: OrderId) -> bool:
        return (
            self.holdings.ended.has(item_id(identity), self._chain.head.time)
            or self._chain.ledger.state().get(key_used_order(identity), UsedOrder) is not None
        )

    def over(self, item: ItemId) -> bool:
        """Whether an item that is not here shall not be pulled either."""
        return self.holdings.over(item, self._chain.head.time)

    def waive(self, item: ItemId) -> None:
        """The ledger's state does not allow it, or there was no room: it is not pulled for a while."""
        self.holdings.waived.remember(item, Millis(self._chain.head.time + limits.BOOK_RETRY_MS))

    def item(self, item: ItemId) -> GossipItem | None:
        """What is held under this id."""
        found = self.holdings.place(item)
        if found is None:
            return self.offers.item(item)
        identity, place = found
        entry = self._find(identity)
        assert entry is not None
        return entry.order if place is None else entry.answers[place]

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

    def _remove(self, identity: OrderId, memory: Memory) -> None:
        """Forget an order, or what came early for one."""
        entry = self._entries.pop(identity, None) or self._early.pop(identity)
        if entry.order is not None:
            del self._arrivals[entry.number]
            order = entry.order.order
            payer = payer_of(order)
            left = self._promised.pop(payer, 0) - order.deposit
            if left:
                self._promised[payer] = left
            self.holdings.forget(item_id(identity), memory, self._again(memory, order.expires_at))
        for place in list(entry.answers):
            self._forget_answer(entry, place, memory)
        entry.news.ring()

    def _forget_answer(self, entry: Entry, place: Place, memory: Memory) -> None:
        answer = said(entry.answers.pop(place))
        wait_ms = limits.BOOK_RETRY_MS if entry.order is None else limits.BOOK_SHED_MS  # its order may come soon
        self.holdings.forget(entry.ids.pop(place), memory, self._again(memory, answer.expires_at, wait_ms))

    def _again(self, memory: Memory, expires_at: Millis, wait_ms: int = limits.BOOK_SHED_MS) -> Millis:
        """Until when what goes is not pulled again: to its end, or for a while where it was shed."""
        shed = memory is self.holdings.waived
        return Millis(self._chain.head.time + wait_ms) if shed else _until(expires_at)

    def _after_commit(self, execution: Execution) -> None:
        """Forget what expired by block time, and what became a lease."""
        now = execution.block.header.time
        self.offers.expire(now)
        for event in execution.events:
            if isinstance(event, LeaseOpened):
                self._end_used(event.order)
        for entries in (self._entries, self._early):
            for identity in [key for key, entry in entries.items() if entry.due <= now]:
                self._expire(identity, entries[identity], now)

    def _end_used(self, identity: OrderId) -> None:
        """An order became leases; what is here of it, or came early for it, goes."""
        if self._find(identity) is not None:
            self._remove(identity, self.holdings.ended)

    def _expire(self, identity: OrderId, entry: Entry, now: Millis) -> None:
        for place, answer in list(entry.answers.items()):
            if said(answer).expires_at <= now:
                self._forget_answer(entry, place, self.holdings.ended)
        entry.due = entry.next_expiry()
        if entry.due <= now:
            self._remove(identity, self.holdings.ended)


def _size(signed: OrderItem) -> int:
    """What an item counts for its share."""
    return len(codec.encode(signed)) + limits.BOOK_ITEM_OVERHEAD_BYTES


def _until(expires_at: Millis) -> Millis:
    """So long what expires then is remembered, for neighbours whose chain lags."""
    return Millis(expires_at + limits.BOOK_REMEMBER_MS)
