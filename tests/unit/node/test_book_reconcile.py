"""Rounds between the books of two nodes, and what a neighbour can and cannot do with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.support.chains import Town, decline_by, offer_by, order_by, town_chain
from tests.support.ledger import RICH
from tests.support.streets import Street

from fondaco.node.book import Book, Reconciler
from fondaco.node.chain import Chain
from fondaco.protocol import codec, limits
from fondaco.protocol.book import bounds
from fondaco.protocol.book.bounds import OFFER_EVERY_MS
from fondaco.protocol.book.digests import BUCKETS, DIGEST_BYTES, ROOT_BYTES, item_id
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.market import SignedOrder
from fondaco.protocol.offers import GossipItem
from fondaco.protocol.scalars import MicroCredits, Millis, Signature

MINUTE = 60_000
THEM = "them"
Handlers = dict[str, Callable[[str, Any], Awaitable[Any]]]


class Side:
    """One node's book, and its rounds with another's."""

    def __init__(self, chain: Chain, book: Book) -> None:
        self.chain = chain
        self.book = book
        self.faults: list[str] = []
        self.asked: Handlers = {}
        self.calls: list[str] = []
        self.neighbours = [THEM]
        self.reconciler = Reconciler(book, lambda: self.neighbours, self._call, self._blame)

    async def _call(self, peer: str, method: str, params: list[Any]) -> Any:
        assert peer == THEM
        self.calls.append(method)
        return await self.asked[method]("us", params)

    def _blame(self, peer: str, fault: PeerFault) -> None:
        assert peer == THEM
        self.faults.append(fault.code)

    async def pulls_from(self, other: Side, **lies: Any) -> None:
        """One round, some of the other's answers replaced."""
        self.asked = {**other.reconciler.methods(), **lies}
        await self.reconciler.round(THEM)

    def holds(self, signed: GossipItem) -> bool:
        return item_id(self.book.check(signed)) in self.book.holdings.index


class Pair:
    """A street and somebody who follows its chain."""

    def __init__(self, street: Street, chain: Chain) -> None:
        self.street = street
        self.town: Town = street.town
        self.here = Side(street.chain, street.book)
        self.there = Side(chain, Book(chain))
        self.follow()

    def follow(self) -> None:
        """The other side takes in what blocks there are."""
        self.town.copy(self.here.chain, self.there.chain)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        town, chain = stack.enter_context(town_chain(tmp_path, "alice", "bob", "paul", "petra"))
        other = town.open(tmp_path / "other.db")
        stack.callback(other.close)
        yield Pair(Street(town, chain), other)


async def test_orders_bids_and_declines_are_pulled_once_and_come_to_who_watches(pair: Pair) -> None:
    identity, signed = order_by(pair.street.alice)
    bid, decline = pair.street.paul.bid(signed, 900), decline_by(pair.street.petra, identity)
    pair.here.book.add_order(signed)
    for answer in (bid, decline):
        pair.here.book.add_answer(answer)
    heard: list[GossipItem] = []
    pair.there.book.listeners.append(heard.append)
    await pair.there.pulls_from(pair.here)
    assert heard[0] == signed, "orders first: answers then find them"
    assert {codec.encode(one) for one in heard[1:]} == {codec.encode(one) for one in (bid, decline)}
    assert pair.there.calls == ["digests", "ids", "items"]
    await pair.there.pulls_from(pair.here)
    assert pair.there.calls[3:] == ["digests"], "nothing differs any more"
    counters = pair.there.reconciler.counters
    assert (counters.rounds, counters.rounds_failed, counters.pulled, counters.refused) == (2, 0, 3, 0)
    assert counters.bytes_in == pair.here.reconciler.counters.bytes_out > 0
    assert pair.here.reconciler.counters.served == 4
    assert pair.there.book.holdings.orders.of_source(THEM) == 1
    assert pair.there.faults == []


async def test_better_bids_spread_and_worse_ones_do_not_come_back(pair: Pair) -> None:
    identity, signed = order_by(pair.street.alice)
    first, better = pair.street.paul.bid(signed, 1_000), pair.street.paul.bid(signed, 900, serial=1)
    for side in (pair.here, pair.there):
        side.book.add_order(signed)
    pair.here.book.add_answer(first)
    pair.there.book.add_answer(better)
    await pair.there.pulls_from(pair.here)
    assert pair.there.book.answers(identity) == [better]
    calls = len(pair.there.calls)
    await pair.there.pulls_from(pair.here)
    assert "items" not in pair.there.calls[calls:], "it knows that one now"
    await pair.here.pulls_from(pair.there)
    assert pair.here.book.answers(identity) == [better]


async def test_what_was_used_does_not_come_back_from_who_lags(pair: Pair) -> None:
    identity, signed = order_by(pair.street.alice)
    bid, other = pair.street.paul.bid(signed, 900), pair.street.petra.bid(signed, 950)
    for side in (pair.here, pair.there):
        side.book.add_order(signed)
        side.book.add_answer(bid)
    pair.there.book.add_answer(other)
    pair.town.grow(pair.here.chain, pair.street.alice.opens(signed, bid, deposit=10_000))
    await pair.here.pulls_from(pair.there)
    assert pair.here.book.open_orders() == []
    assert pair.here.book.answers(identity) == []
    assert len(pair.here.book.holdings.index) == 0
    assert pair.here.reconciler.counters.refused == 1, "the bid it never had; the others it knew"
    await pair.here.pulls_from(pair.there)
    assert pair.here.reconciler.counters.refused == 1
    assert pair.here.faults == [], "who lags is not to blame"


async def test_what_expired_does_not_come_back_from_who_lags(pair: Pair) -> None:
    now = pair.here.chain.head.time
    _, signed = order_by(pair.street.alice, expires_at=Millis(now + MINUTE))
    _, longer = order_by(pair.street.alice, expires_at=Millis(now + 2 * MINUTE))
    for side in (pair.here, pair.there):
        side.book.add_order(signed)
    pair.there.book.add_order(longer)
    pair.town.grow(pair.here.chain, at=now + MINUTE)
    await pair.here.pulls_from(pair.there)
    assert not pair.here.holds(signed)
    assert pair.here.holds(longer)
    assert pair.here.reconciler.counters.refused == 0, "it was not even asked for"


async def test_what_our_state_does_not_allow_yet_is_nobodys_fault_and_tried_again_later(pair: Pair) -> None:
    """The other knows a payment that we do not."""
    pair.town.grow(pair.here.chain, pair.street.bob.pays(pair.street.alice, 50_000))
    _, signed = order_by(pair.street.alice, deposit=RICH + 1_000)
    pair.here.book.add_order(signed)
    await pair.there.pulls_from(pair.here)
    assert (pair.there.reconciler.counters.refused, pair.there.faults) == (1, [])
    await pair.there.pulls_from(pair.here)
    assert pair.there.reconciler.counters.refused == 1, "not in every round"
    pair.town.grow(pair.here.chain, at=pair.here.chain.head.time + limits.BOOK_RETRY_MS)
    pair.follow()
    await pair.there.pulls_from(pair.here)
    assert pair.there.holds(signed)


def lying(*items: bytes) -> Any:
    async def answer(peer: str, params: Any) -> Any:
        return list(items)

    return answer


async def test_an_item_that_is_bad_by_itself_is_blamed_on_who_gave_it(pair: Pair) -> None:
    _, signed = order_by(pair.street.alice)
    pair.here.book.add_order(signed)
    forged = codec.encode(replace(signed, signature=Signature(bytes(64))))
    await pair.there.pulls_from(pair.here, items=lying(forged))
    assert pair.there.faults == ["signature.bad"]
    await pair.there.pulls_from(pair.here, items=lying(b"garbage"))
    _, broken = order_by(pair.street.alice, commitments=())
    await pair.there.pulls_from(pair.here, items=lying(codec.encode(broken)))
    assert pair.there.faults[2:] == ["order.commitments"], "no honest book holds it"
    _, other = order_by(pair.street.alice)
    await pair.there.pulls_from(pair.here, items=lying(codec.encode(other)))
    assert pair.there.faults[3:] == ["book.unasked"]
    assert pair.there.reconciler.counters.rounds_failed == 4
    assert not any(pair.there.holds(one) for one in (signed, other))
    await pair.there.pulls_from(pair.here)
    assert pair.there.holds(signed), "no lie about it keeps it from us"


async def test_who_lists_what_it_does_not_give_keeps_nothing_from_us(pair: Pair) -> None:
    _, signed = order_by(pair.street.alice)
    pair.here.book.add_order(signed)
    await pair.there.pulls_from(pair.here, items=lying(b""))
    assert not pair.there.holds(signed)
    await pair.there.pulls_from(pair.here)
    assert pair.there.holds(signed)
    assert pair.there.faults == []


async def test_an_answer_that_is_none_is_a_fault_and_no_answer_is_not(pair: Pair) -> None:
    async def nonsense(peer: str, params: Any) -> Any:
        return "nonsense"

    async def gone(peer: str, params: Any) -> Any:
        raise Unreachable("stream.refused", "it does not speak this")

    await pair.there.pulls_from(pair.here, digests=nonsense)
    assert pair.there.faults == ["book.answer"]
    await pair.there.pulls_from(pair.here, digests=gone)
    assert pair.there.faults == ["book.answer"]
    assert pair.there.reconciler.counters.rounds_failed == 2


async def test_a_neighbour_that_takes_its_time_does_not_hold_up_the_rounds(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow(peer: str, params: Any) -> Any:
        await trio.sleep(9)
        return await pair.here.reconciler.methods()["ids"](peer, params)

    async def never(peer: str, params: Any) -> Any:
        await trio.sleep_forever()

    pair.here.book.add_order(order_by(pair.street.alice)[1])
    began = trio.current_time()
    await pair.there.pulls_from(pair.here, ids=slow, items=never)
    assert (trio.current_time() - began) * 1_000 == pytest.approx(bounds.ROUND_LASTS_MS)
    assert pair.there.reconciler.counters.rounds_failed == 1
    assert pair.there.faults == []


async def test_who_asks_for_too_much_has_to_wait(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SERVED_BYTES", 16 * bounds.CALL_BYTES)
    monkeypatch.setattr(bounds, "SERVED_BYTES_PER_S", 1)
    side = Side(pair.here.chain, pair.here.book)
    digests = side.reconciler.methods()["digests"]
    differing = bytes(ROOT_BYTES)
    for _ in range(4):  # 5 KiB each
        assert len(await digests("one", [differing])) == BUCKETS * DIGEST_BYTES
    with pytest.raises(Refused) as refusal:
        await digests("one", [differing])
    assert refusal.value.code == "book.busy"
    assert side.reconciler.counters.served_refused == 1
    assert await digests("two", [differing]), "others need not"


async def test_a_question_that_is_none_costs_as_well(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(bounds, "SERVED_BYTES", 2 * bounds.CALL_BYTES)
    side = Side(pair.here.chain, pair.here.book)
    codes = []
    for _ in range(3):
        with pytest.raises(Refused) as refusal:
            await side.reconciler.methods()["items"]("one", [b"x"])
        codes.append(refusal.value.code)
    assert codes == ["request.params", "request.params", "book.busy"]


async def test_a_large_difference_is_pulled_in_rounds_that_follow_each_other_sooner(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(bounds, "ROUND_ITEMS", 8)
    monkeypatch.setattr(bounds, "PULL_ITEMS", 8)
    orders: list[SignedOrder] = []
    for _ in range(20):
        orders.append(order_by(pair.street.alice, deposit=MicroCredits(1_000))[1])
        pair.here.book.add_order(orders[-1])
    pair.there.asked = pair.here.reconciler.methods()
    counters = pair.there.reconciler.counters
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.there.reconciler.run)
        began = trio.current_time()
        while counters.pulled < 20:
            await trio.sleep(0.01)
        took_ms = (trio.current_time() - began) * 1_000
        nursery.cancel_scope.cancel()
    assert counters.rounds == 3
    assert took_ms <= 1.5 * (bounds.ROUND_MS + 2 * bounds.ROUND_SOON_MS) + 20
    assert all(pair.there.holds(one) for one in orders)


async def test_without_neighbours_there_are_no_rounds(pair: Pair, autojump_clock: trio.testing.MockClock) -> None:
    pair.there.neighbours = []
    with trio.move_on_after(60):
        await pair.there.reconciler.run()
    assert pair.there.reconciler.counters.rounds == 0


async def test_offers_are_pulled_and_the_newer_one_takes_the_place_of_the_older(pair: Pair) -> None:
    now = pair.here.chain.head.time
    old = offer_by(pair.street.paul, serial=now - OFFER_EVERY_MS)
    new, other = offer_by(pair.street.paul, serial=now), offer_by(pair.street.petra, serial=now)
    for offer in (new, other):
        pair.here.book.add_offer(offer)
    pair.there.book.add_offer(old)
    await pair.there.pulls_from(pair.here)
    assert pair.there.book.offers.all() == pair.here.book.offers.all()
    assert pair.there.holds(new)
    assert not pair.there.holds(old)
    calls = len(pair.here.calls)
    await pair.here.pulls_from(pair.there)
    assert pair.here.calls[calls:] == ["digests"], "nothing differs any more"
    assert pair.here.faults == pair.there.faults == []
