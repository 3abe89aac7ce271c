"""The order book over a real chain: what it admits, what it forgets and when, and what its readers see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import trio
import trio.testing
from tests.support.chains import decline_by, order_by, stranger, town_chain
from tests.support.ledger import RICH, a_group
from tests.support.streets import Street

from fondaco.node.book import said
from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.market import SignedBid, SignedDecline
from fondaco.protocol.scalars import MicroCredits, Millis, OrderId, Salt, Signature

T = TypeVar("T")
MINUTE = 60_000


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    with town_chain(tmp_path, "alice", "bob", "paul", "petra") as (town, chain):
        yield Street(town, chain)


async def take(items: AsyncIterator[T], count: int) -> list[T]:
    with trio.fail_after(5):
        return [await anext(items) for _ in range(count)]


# Orders


def test_an_order_is_kept_once_however_often_it_comes(street: Street) -> None:
    identity, signed = order_by(street.alice)
    assert street.book.add_order(signed) == street.book.add_order(signed) == identity
    assert street.book.open_orders() == [(identity, signed)]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"expires_at": 0}, "order.expired"),
        ({"expires_at": limits.ORDER_LIFE_MS + limits.CLOCK_SLACK_MS + 1}, "order.expiry"),
        ({"deposit": 166}, "deposit.too_small"),
        ({"deposit": RICH + 1}, "deposit.unaffordable"),
        ({"commitments": ()}, "order.commitments"),
    ],
)
def test_an_order_that_the_rules_do_not_allow_is_refused(
    street: Street, changes: dict[str, int], code: str
) -> None:
    if "expires_at" in changes:
        changes = {"expires_at": street.chain.head.time + changes["expires_at"]}
    _, signed = order_by(street.alice, **changes)
    assert street.refuses_order(signed) == code


def test_the_least_deposit_covers_the_runway_rounded_up(street: Street) -> None:
    street.order(deposit=167)  # 1,000 an hour for ten minutes is 166 2/3


def test_a_forged_order_is_its_senders_fault(street: Street) -> None:
    _, signed = order_by(street.alice)
    with pytest.raises(PeerFault) as fault:
        street.book.add_order(replace(signed, signature=Signature(bytes(64))))
    assert fault.value.code == "signature.bad"


def test_open_orders_of_one_tenant_promise_no_more_than_it_owns(street: Street) -> None:
    free = RICH  # alice paid no fee yet
    street.order(deposit=free - 500)
    _, more = order_by(street.alice, deposit=501)
    assert street.refuses_order(more) == "deposit.unaffordable"
    street.order(street.bob, deposit=501)
    street.order(deposit=500)


def test_a_promise_ends_with_its_order(street: Street) -> None:
    street.order(deposit=RICH, expires_at=Millis(street.chain.head.time + MINUTE))
    street.town.grow(street.chain, at=street.chain.head.time + MINUTE)
    street.order(deposit=RICH)


def test_an_order_that_became_a_lease_leaves_and_does_not_come_back(street: Street) -> None:
    identity, signed = order_by(street.alice)
    street.book.add_order(signed)
    bid = street.bid(street.paul, identity, 900)
    street.book.add_answer(bid)
    street.town.grow(street.chain, street.alice.opens(signed, bid, deposit=10_000))
    assert street.book.open_orders() == []
    assert street.book.answers(identity) == []
    assert street.refuses_order(signed) == "order.used"


def test_orders_expire_by_block_time_and_not_before(street: Street) -> None:
    soon = street.order(expires_at=Millis(street.chain.head.time + MINUTE))
    later = street.order(expires_at=Millis(street.chain.head.time + 2 * MINUTE))
    street.town.grow(street.chain, at=street.chain.head.time + MINUTE - 1)
    assert [key for key, _ in street.book.open_orders()] == [soon, later]
    street.town.grow(street.chain, at=street.chain.head.time + 1)
    assert [key for key, _ in street.book.open_orders()] == [later]


def test_the_oldest_order_makes_room_when_the_book_is_full(street: Street) -> None:
    street.cap("orders", items=3)
    orders = [street.order() for _ in range(5)]
    assert [key for key, _ in street.book.open_orders()] == orders[2:]
    assert street.book.order(orders[0]) is None


# Answers


def test_bids_and_declines_are_kept_one_a_provider_and_group(street: Street) -> None:
    identity = street.order()
    bid, decline = street.bid(street.paul, identity, 900), decline_by(street.petra, identity)
    assert street.book.add_answer(bid)
    assert street.book.add_answer(decline)
    assert not street.book.add_answer(bid), "nothing new"
    assert street.book.answers(identity) == [bid, decline]


def test_an_answer_may_come_before_its_order(street: Street) -> None:
    identity, signed = order_by(street.alice)
    early = street.paul.bid(signed, 900)
    assert street.book.add_answer(early)
    assert street.book.order(identity) is None
    assert street.book.open_orders() == []
    street.book.add_order(signed)
    assert street.book.answers(identity) == [early]


def test_early_answers_never_push_orders_out(street: Street) -> None:
    street.cap("early", items=2)
    kept = street.order()
    unknown = [order_by(street.alice)[0] for _ in range(3)]
    for identity in unknown:
        street.book.add_answer(decline_by(street.paul, identity))
    assert [bool(street.book.answers(identity)) for identity in unknown] == [False, True, True]
    assert street.book.order(kept) is not None


def test_early_answers_are_forgotten_when_they_expire(street: Street) -> None:
    identity, signed = order_by(street.alice)
    street.book.add_answer(street.paul.bid(signed, 900))
    street.town.grow(street.chain, at=street.chain.head.time + MINUTE)
    assert street.book.answers(identity) == []


def test_an_early_answer_on_a_group_that_the_order_does_not_have_goes_when_it_comes(street: Street) -> None:
    identity, signed = order_by(street.alice)
    street.book.add_answer(decline_by(street.paul, identity, group=1))
    street.book.add_answer(decline_by(street.petra, identity, group=0))
    street.book.add_order(signed)
    assert [said(one).provider for one in street.book.answers(identity)] == [street.petra.key]


def test_answers_that_the_rules_do_not_allow_are_refused(street: Street) -> None:
    identity, now = street.order(), street.chain.head.time
    longest = limits.BID_LIFE_MS + limits.CLOCK_SLACK_MS
    assert street.refuses(street.bid(street.paul, identity, 900, expires_at=now)) == "answer.expired"
    assert street.refuses(street.bid(street.paul, identity, 900, expires_at=now + longest + 1)) == "answer.expiry"
    assert street.refuses(street.bid(street.paul, identity, 0)) == "price.too_small"
    assert street.refuses(decline_by(street.paul, identity, reasons=())) == "decline.reasons"
    assert street.refuses(decline_by(street.paul, identity, group=1)) == "answer.group"
    assert street.refuses(decline_by(stranger(street.town), identity)) == "provider.unknown"
    unknown = OrderId(bytes(32))
    assert street.refuses(decline_by(street.paul, unknown, group=limits.GROUPS)) == "answer.group"


def test_a_forged_answer_is_its_senders_fault(street: Street) -> None:
    identity = street.order()
    for forged in (
        replace(street.bid(street.paul, identity, 900), signature=Signature(bytes(64))),
        replace(decline_by(street.paul, identity), signature=Signature(bytes(64))),
    ):
        with pytest.raises(PeerFault):
            street.book.add_answer(forged)
    assert street.book.answers(identity) == []


@pytest.mark.parametrize(
    ("serial", "price", "better"),
    [(1, 990, True), (1, 991, False), (0, 500, False), (limits.BID_SERIALS, 500, True), (7, 500, False)],
)
def test_a_later_serial_may_only_improve_a_bid_by_a_hundredth_and_five_times(
    street: Street, serial: int, price: int, better: bool
) -> None:
    identity = street.order()
    first = street.bid(street.paul, identity, 1_000)
    second = street.bid(street.paul, identity, price, serial=serial)
    street.book.add_answer(first)
    assert street.book.add_answer(second) is better
    assert street.book.answers(identity) == [second if better else first]


def test_a_bid_follows_a_decline_and_binds_against_one(street: Street) -> None:
    identity = street.order()
    street.book.add_answer(decline_by(street.paul, identity))
    bid = street.bid(street.paul, identity, 900)
    assert street.book.add_answer(bid)
    assert not street.book.add_answer(decline_by(street.paul, identity))
    assert street.book.answers(identity) == [bid]


def test_answers_of_an_order_are_bounded(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BOOK_ANSWERS_PER_ORDER", 1)
    identity = street.order()
    street.book.add_answer(street.bid(street.paul, identity, 900))
    assert street.refuses(street.bid(street.petra, identity, 900)) == "book.full"
    assert street.book.add_answer(street.bid(street.paul, identity, 800, serial=1)), "an improvement takes no room"


def test_answers_expire_by_block_time_while_their_order_stays(street: Street) -> None:
    identity = street.order()
    street.book.add_answer(street.bid(street.paul, identity, 900))
    longer = street.bid(street.petra, identity, 900, expires_at=Millis(street.chain.head.time + 2 * MINUTE))
    street.book.add_answer(longer)
    street.town.grow(street.chain, at=street.chain.head.time + MINUTE)
    assert street.book.answers(identity) == [longer]
    assert street.book.order(identity) is not None
    assert street.book.add_answer(street.bid(street.paul, identity, 900)), "a provider may bid again"


# Readers


async def test_orders_gives_what_is_open_and_then_what_comes(street: Street) -> None:
    gone = street.order(expires_at=Millis(street.chain.head.time + MINUTE))
    there = street.order()
    street.town.grow(street.chain, at=street.chain.head.time + MINUTE)
    async with aclosing(street.book.orders()) as orders:
        assert [key for key, _ in await take(orders, 1)] == [there]
        come = [street.order(), street.order()]
        assert [key for key, _ in await take(orders, 2)] == come
        come.append(street.order())
        assert [key for key, _ in await take(orders, 1)] == come[2:]
    assert gone != there


async def test_no_order_is_missed_that_comes_while_the_reader_is_busy_or_waits(street: Street) -> None:
    seen: list[OrderId] = []
    came: list[OrderId] = []

    async def read() -> None:
        async with aclosing(street.book.orders()) as orders:
            async for identity, _ in orders:
                seen.append(identity)
                await trio.lowlevel.checkpoint()  # more come here

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for number in range(20):
            came.append(street.order())
            if number % 3 == 0:
                await trio.testing.wait_all_tasks_blocked()
            elif number % 3 == 1:
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert seen == came


async def test_an_order_that_left_before_its_reader_came_to_it_is_passed_over(street: Street) -> None:
    street.order()
    async with aclosing(street.book.orders()) as orders:
        await take(orders, 1)
        street.order(expires_at=Millis(street.chain.head.time + MINUTE))
        street.town.grow(street.chain, at=street.chain.head.time + MINUTE)
        kept = street.order()
        assert [key for key, _ in await take(orders, 1)] == [kept]


async def test_watch_gives_every_answer_and_improvement_and_ends_with_the_order(street: Street) -> None:
    identity, signed = order_by(street.alice)
    street.book.add_order(signed)
    first = street.bid(street.paul, identity, 1_000)
    better = street.bid(street.paul, identity, 800, serial=1)
    decline = decline_by(street.petra, identity)
    street.book.add_answer(first)
    async with aclosing(street.book.watch(identity)) as answers:
        assert await take(answers, 1) == [first]
        street.book.add_answer(decline)
        street.book.add_answer(better)
        got = await take(answers, 2)
        assert {type(one) for one in got} == {SignedBid, SignedDecline}
        assert better in got
        street.town.grow(street.chain, street.alice.opens(signed, better, deposit=10_000))
        with trio.fail_after(5):
            assert [one async for one in answers] == []


async def test_watching_an_order_that_is_not_there_ends_at_once(street: Street) -> None:
    async with aclosing(street.book.watch(OrderId(bytes(32)))) as answers:
        assert [one async for one in answers] == []


def test_the_sum_of_deposits_is_kept_and_not_counted_anew(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand open orders must not make the next one slower: only the sum is looked at."""
    for number in range(200):
        order = street.alice.order(a_group(), deposit=MicroCredits(1_000), salt=Salt(number.to_bytes(16, "big")))
        street.book.add_order(order)
    assert street.book._promised == {street.alice.key: 200_000}
    street.town.grow(street.chain, at=street.chain.head.time + 10 * MINUTE + 1)
    assert street.book.open_orders() == []
    assert street.book._promised == {}
    assert street.book._arrivals == {}
