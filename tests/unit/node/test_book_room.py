"""Room in the book: who is refused, what falls away, what is told of it, and what may not come back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.support.chains import decline_by, order_by, town_chain
from tests.support.ledger import Actor
from tests.support.streets import Street

from fondaco.node.book import said
from fondaco.protocol import limits
from fondaco.protocol.book.digests import Index, ItemId, item_id
from fondaco.protocol.book.shares import OWN
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import SignedOrder
from fondaco.protocol.offers import GossipItem
from fondaco.protocol.scalars import Millis, OrderId

MINUTE = 60_000


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    with town_chain(tmp_path, "alice", "bob", "carl", "paul", "petra") as (town, chain):
        yield Street(town, chain)


def id_of(street: Street, signed: GossipItem) -> ItemId:
    return item_id(street.book.check(signed))


def brought(street: Street, tenant: Actor, source: str) -> OrderId:
    return street.book.add_order(order_by(tenant)[1], source)


def open_ids(street: Street) -> list[OrderId]:
    return [identity for identity, _ in street.book.open_orders()]


def assert_whole(street: Street) -> None:
    """The digests are those of what is held, and every share has its item."""
    book, held = street.book, set[ItemId]()
    for identity, signed in book.open_orders():
        held |= {id_of(street, signed)} | {id_of(street, answer) for answer in book.answers(identity)}
    early = [item for entry in vars(book)["_early"].values() for item in entry.ids.values()]
    assert book.holdings.index.root() == Index(held | set(early)).root()
    kinds = (book.holdings.orders, book.holdings.answers, book.holdings.early)
    assert all(len(shares) <= shares.caps.items and shares.size <= shares.caps.size for shares in kinds)
    counts = [len(shares) for shares in kinds]
    assert sum(counts) == len(book.holdings.index) == len(held) + len(early)
    assert (counts[0], counts[2]) == (len(book.open_orders()), len(early))


def test_a_tenant_with_as_many_open_orders_as_one_may_have_is_told(street: Street) -> None:
    street.cap("orders", per_account=2)
    orders = [street.order(), street.order()]
    assert street.refuses_order(order_by(street.alice)[1]) == "book.tenant_quota"
    assert street.dropped() == {"refused_quota": 1}
    street.order(street.bob)
    assert open_ids(street)[:2] == orders
    assert_whole(street)


def test_one_tenant_pushes_out_its_own_orders_and_not_those_of_others(street: Street) -> None:
    street.cap("orders", items=4)
    (carl,) = street.town.actors("carl")
    others = [street.order(street.bob), street.order(carl)]
    flood = [street.order() for _ in range(5)]
    assert open_ids(street) == [*others, *flood[3:]]
    assert street.dropped() == {"shed_orders": 3}
    assert_whole(street)


def test_one_neighbour_pushes_out_what_it_brought_and_not_what_others_did(street: Street) -> None:
    street.cap("orders", items=4)
    first = [brought(street, street.alice, "honest"), brought(street, street.alice, "honest")]
    flood = [brought(street, who, "flood") for who in (street.bob, *street.town.actors("carl", "paul", "petra"))]
    assert open_ids(street) == [*first, *flood[2:]]


def test_a_neighbour_has_a_quota_though_the_book_is_not_full(street: Street) -> None:
    street.cap("orders", per_source=2)
    orders = [brought(street, street.alice, "one") for _ in range(3)]
    other, own = brought(street, street.alice, "two"), street.order()
    assert open_ids(street) == [*orders[1:], other, own]
    assert street.dropped() == {"shed_orders": 1}


def test_the_answers_of_an_order_that_falls_away_go_with_it_and_are_counted(street: Street) -> None:
    street.cap("orders", items=1)
    gone = street.order()
    bid = street.bid(street.paul, gone, 900)
    street.book.add_answer(bid)
    street.order(expires_at=Millis(street.chain.head.time + limits.BOOK_SHED_MS))
    assert street.book.answers(gone) == []
    assert street.dropped() == {"shed_orders": 1, "shed_answers": 1}
    assert street.book.over(id_of(street, bid)), "it is not pulled again"
    assert street.book.over(item_id(gone))
    assert_whole(street)
    street.town.grow(street.chain, at=street.chain.head.time + limits.BOOK_SHED_MS)
    assert not street.book.over(item_id(gone)), "by now there may be room"


def test_a_provider_beyond_its_quota_loses_its_oldest_answer(street: Street) -> None:
    street.cap("answers", per_account=2)
    orders = [street.order() for _ in range(3)]
    street.book.add_answer(street.bid(street.petra, orders[0], 950))
    for identity in orders:
        street.book.add_answer(street.bid(street.paul, identity, 900))
    assert [len(street.book.answers(identity)) for identity in orders] == [1, 1, 1]
    assert said(street.book.answers(orders[0])[0]).provider == street.petra.key
    assert street.dropped() == {"shed_answers": 1}
    assert_whole(street)


def test_early_answers_that_fall_away_leave_nothing_and_are_wanted_again_after_a_while(street: Street) -> None:
    street.cap("early", per_account=1)
    (one, _), (two, _) = order_by(street.alice), order_by(street.alice)
    first = decline_by(street.paul, one)
    street.book.add_answer(first)
    street.book.add_answer(decline_by(street.paul, two))
    assert street.book.answers(one) == []
    assert len(vars(street.book)["_early"]) == 1
    assert_whole(street)
    assert street.book.over(id_of(street, first))
    street.town.grow(street.chain, at=street.chain.head.time + limits.BOOK_RETRY_MS - 1)
    assert street.book.over(id_of(street, first))
    street.town.grow(street.chain, at=street.chain.head.time + 1)
    assert not street.book.over(id_of(street, first))


def test_an_answer_that_pushes_out_the_last_of_its_own_early_order_is_kept(street: Street) -> None:
    street.cap("early", items=1)
    identity, signed = order_by(street.alice)
    street.book.add_answer(decline_by(street.paul, identity))
    kept = decline_by(street.petra, identity)
    street.book.add_answer(kept)
    assert street.book.answers(identity) == [kept]
    street.book.add_order(signed)
    assert street.book.answers(identity) == [kept]
    assert_whole(street)


def test_early_answers_come_under_the_quotas_of_all_when_their_order_comes(street: Street) -> None:
    street.cap("answers", items=1)
    identity, signed = order_by(street.alice)
    for provider in (street.paul, street.petra):
        street.book.add_answer(decline_by(provider, identity))
    street.book.add_order(signed)
    assert len(street.book.answers(identity)) == 1
    assert street.dropped() == {"shed_answers": 1}
    assert_whole(street)


def test_what_would_be_the_first_to_go_is_refused(street: Street) -> None:
    street.cap("orders", size=1)
    assert street.refuses_order(order_by(street.alice)[1]) == "book.full"
    assert street.dropped() == {"refused_full": 1}
    assert_whole(street)


def test_a_used_order_takes_its_answers_along_and_those_that_come_late_are_refused(street: Street) -> None:
    identity, signed = order_by(street.alice)
    street.book.add_order(signed)
    bid = street.bid(street.paul, identity, 900)
    street.book.add_answer(bid)
    late = street.bid(street.petra, identity, 950)
    street.town.grow(street.chain, street.alice.opens(signed, bid, deposit=10_000))
    assert street.refuses(late) == street.refuses(bid) == "order.over"
    assert all(street.book.over(id_of(street, one)) for one in (signed, bid))
    assert len(street.book.holdings.index) == 0
    assert_whole(street)


def test_answers_that_came_early_for_an_order_that_is_used_go_too(street: Street) -> None:
    identity, signed = order_by(street.alice)
    bid = street.paul.bid(signed, 900)
    street.book.add_answer(bid)
    street.town.grow(street.chain, street.alice.opens(signed, bid, deposit=10_000))
    assert street.book.answers(identity) == []
    assert street.refuses(bid) == "order.over"
    assert_whole(street)


def test_an_expired_order_takes_no_more_answers_and_is_not_pulled(street: Street) -> None:
    identity, signed = order_by(street.alice, expires_at=Millis(street.chain.head.time + MINUTE))
    street.book.add_order(signed)
    street.town.grow(street.chain, at=street.chain.head.time + MINUTE)
    assert street.refuses(decline_by(street.paul, identity)) == "order.over"
    assert street.book.over(id_of(street, signed))
    street.town.grow(street.chain, at=street.chain.head.time + limits.BOOK_REMEMBER_MS)
    assert not street.book.over(id_of(street, signed)), "by then nobody has it"


def test_a_bid_that_a_better_one_took_the_place_of_is_not_pulled(street: Street) -> None:
    identity = street.order()
    first, better = street.bid(street.paul, identity, 1_000), street.bid(street.paul, identity, 900, serial=1)
    street.book.add_answer(first)
    street.book.add_answer(better)
    assert street.book.over(id_of(street, first))
    worse = street.bid(street.paul, identity, 950, serial=2)
    assert not street.book.over(id_of(street, worse))
    assert not street.book.add_answer(worse)
    assert street.book.over(id_of(street, worse)), "nor one that is none"
    assert not street.book.add_answer(better)
    assert not street.book.over(id_of(street, better)), "what is held is not over"
    assert_whole(street)


def test_what_is_held_is_found_by_its_id(street: Street) -> None:
    identity, signed = order_by(street.alice)
    street.book.add_order(signed)
    bid = street.bid(street.paul, identity, 900)
    street.book.add_answer(bid)
    assert street.book.item(id_of(street, signed)) == signed
    assert street.book.item(id_of(street, bid)) == bid
    assert street.book.item(ItemId(bytes(16))) is None


async def test_orders_that_fell_away_do_not_reach_who_reads_them(street: Street) -> None:
    street.cap("orders", items=2)
    async with aclosing(street.book.orders()) as orders:
        identities = [street.order() for _ in range(4)]
        got: list[tuple[OrderId, SignedOrder]] = [await anext(orders) for _ in range(2)]
        assert [identity for identity, _ in got] == identities[2:]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_comes_and_goes_shares_and_digests_stay_those_of_what_is_held(street: Street, seed: int) -> None:
    chance, now = random.Random(seed), street.chain.head.time
    for kind in ("orders", "answers", "early"):
        street.cap(
            kind, items=chance.randint(1, 5), per_account=chance.randint(1, 4), per_source=chance.randint(1, 5)
        )
    tenants, providers = (street.alice, street.bob), (street.paul, street.petra)
    made = [
        order_by(chance.choice(tenants), expires_at=Millis(now + chance.randint(1, 4) * MINUTE)) for _ in range(9)
    ]
    for _ in range(120):
        identity, signed = chance.choice(made)
        provider, source = chance.choice(providers), chance.choice([OWN, "one", "two"])
        with contextlib.suppress(Refused):
            match chance.randrange(8):
                case 0 | 1:
                    street.book.add_order(signed, source)
                case 2 | 3 | 4:
                    serial = chance.randrange(3)
                    street.book.add_answer(provider.bid(signed, 1_000 - 20 * serial, serial=serial), source)
                case 5 | 6:
                    street.book.add_answer(decline_by(provider, identity, group=chance.randrange(2)), source)
                case _:
                    street.town.grow(street.chain, at=street.chain.head.time + chance.randrange(1, MINUTE // 4))
        assert_whole(street)
    street.town.grow(street.chain, at=street.chain.head.time + 5 * MINUTE)
    assert len(street.book.holdings.index) == 0
    assert_whole(street)
