"""How the bidder goes about it: reservations before prices, programs beside each other, policies applied."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.providers import CHAIN, OTHER, PROVIDER, START, TENANT, Site, make_order, open_site

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import (
    Bid,
    Change,
    Order,
    SignedBid,
    SignedDecline,
    check_bid,
    check_decline,
    order_id,
)
from fondaco.protocol.scalars import GroupIndex, MicroCredits, Millis, OrderId, PublicKey
from fondaco.provider.policy import Policy
from fondaco.provider.pricing import Program
from fondaco.provider.undercut import Standing, Undercut, lower


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


class SlowProgram:
    """Answers what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = trio.Event()
        self.refusal: Refused | None = None

    async def ask(self, question: bytes, tenant: PublicKey) -> Fraction:
        assert tenant == TENANT.public_key
        self.asked += 1
        await self.may_answer.wait()
        if self.refusal is not None:
            raise self.refusal
        return Fraction(1_234)


async def test_what_a_program_says_is_bid_and_orders_do_not_wait_for_each_other(site: Site) -> None:
    program = SlowProgram()
    async with site.running(pricing=Program(), program=program) as agent:
        for salt in range(3):
            site.market.place(make_order(salt=salt))
        with trio.fail_after(5):
            while program.asked < 3:
                await trio.sleep(0.001)
        assert len(agent.inventory.reservations) == 3, "reserved before the price is known"
        program.may_answer.set()
        answers = await site.market.wait_answers(3)
    assert [one.bid.price_per_hour for one in answers if isinstance(one, SignedBid)] == [1_234] * 3


async def test_a_program_that_fails_is_a_decline_with_its_reason_and_nothing_stays_reserved(site: Site) -> None:
    program = SlowProgram()
    program.refusal = Refused("pricing.program", "the pricing program ended with 3: no idea")
    program.may_answer.set()
    async with site.running(pricing=Program(), program=program) as agent:
        site.market.place(make_order())
        (answer,) = await site.market.wait_answers(1)
        assert isinstance(answer, SignedDecline)
        check_decline(CHAIN, answer)
        assert "ended with 3: no idea" in str(answer.decline.reasons[0])
        assert agent.inventory.reservations == ()


async def test_a_price_above_the_tenants_gives_the_reservation_back(site: Site) -> None:
    async with site.running() as agent:
        site.market.place(make_order(price=1))
        (answer,) = await site.market.wait_answers(1)
        assert isinstance(answer, SignedDecline)
        check_decline(CHAIN, answer)
        (offer,) = answer.decline.counter_offers
        assert (offer.change, offer.value) == (Change.PRICE, offer.price_per_hour)
        assert agent.inventory.reservations == ()


async def test_the_policy_of_the_operator_decides(site: Site) -> None:
    policy = Policy(min_deposit=2_000_000, most=(("cpu_milli", 50),))
    async with site.running(policy=policy):
        site.market.place(make_order())
        (answer,) = await site.market.wait_answers(1)
        assert isinstance(answer, SignedDecline)
        assert [one.dimension for one in answer.decline.reasons] == ["policy cpu_milli", "policy deposit"]


async def test_leases_of_one_tenant_and_in_all_are_capped(site: Site) -> None:
    async with site.running(leases_per_tenant=1, leases=1):
        site.market.place(make_order())
        site.market.place(make_order(salt=1))
        first, second = await site.market.wait_answers(2)
        assert isinstance(first, SignedBid)
        assert isinstance(second, SignedDecline)
        assert [one.dimension for one in second.decline.reasons] == ["leases for this tenant", "leases"]


# --- Competing


def rival(mine: Bid, price: int, **changes: Any) -> Bid:
    return replace(mine, provider=OTHER.public_key, price_per_hour=MicroCredits(price), serial=0, **changes)


def make_bid(order: Order, identity: OrderId) -> Bid:
    """Ours."""
    return Bid(
        order=identity,
        group=GroupIndex(0),
        provider=PROVIDER.public_key,
        price_per_hour=MicroCredits(106_250),
        units=order.groups[0].units,
        reclamation_window_ms=Millis(0),
        peer="provider",
        addresses=("a",),
        serial=0,
        expires_at=Millis(START + 60_000),
    )


RULE = Undercut(permille=20, times=5, floor=lambda units: MicroCredits(50_000))


async def first_bid(site: Site, **changes: Any) -> Bid:
    site.market.place(make_order(**changes))
    (answer,) = await site.market.wait_answers(1)
    assert isinstance(answer, SignedBid)
    assert answer.bid.price_per_hour == 106_250
    return answer.bid


async def test_a_lower_bid_is_answered_by_a_lower_one_that_holds_its_reservation(site: Site) -> None:
    async with site.running(undercut=RULE) as agent:
        mine = await first_bid(site)
        site.chain.block(ms=10_000)
        site.market.hear(rival(mine, 100_000, expires_at=Millis(START + 30_000)))
        _, answer = await site.market.wait_answers(2)
        assert isinstance(answer, SignedBid)
        check_bid(CHAIN, answer)
        assert (answer.bid.price_per_hour, answer.bid.serial) == (98_000, 1)
        assert answer.bid.expires_at == site.chain.now() + 60_000
        (held,) = agent.inventory.reservations
        assert held.expires_at == answer.bid.expires_at
        assert answer.bid.units == mine.units


async def test_competition_ends_at_the_cost_or_when_all_serials_are_used(site: Site) -> None:
    async with site.running(undercut=RULE):
        mine = await first_bid(site)
        price = mine.price_per_hour
        for number in range(2, 7):
            site.market.hear(rival(mine, price))
            answer = (await site.market.wait_answers(number))[-1]
            assert isinstance(answer, SignedBid)
            assert answer.bid.price_per_hour < price
            price = answer.bid.price_per_hour
            assert answer.bid.serial == number - 1
        assert number == limits.BID_SERIALS
        site.market.hear(rival(mine, price - 1))
        site.market.place(make_order(salt=1))
        assert len(await site.market.wait_answers(7)) == 7, "the next answer is that to the next order"


@pytest.mark.parametrize(
    ("price", "changes"),
    [
        (106_251, {}),
        (50_000, {}),
        (100_000, {"expires_at": START}),
        (100_000, {"provider": TENANT.public_key}),
        (100_000, {"units": ()}),
    ],
)
def test_what_is_no_competition_or_cannot_be_met_leaves_a_bid_as_it_is(
    price: int, changes: dict[str, Any]
) -> None:
    order = make_order()
    mine = make_bid(order, OrderId(bytes(32)))
    standing = Standing(
        bid=mine,
        group=order.groups[0],
        tenant=TENANT.public_key,
        order_expires_at=order.expires_at,
        min_window_ms=Millis(0),
    )
    other = replace(rival(mine, price), **changes)
    assert lower(RULE, standing, other, now=START) is None
    assert lower(RULE, standing, rival(mine, 106_250), now=START) == 104_125, "an equal price is one to beat"
    assert lower(replace(RULE, permille=1), standing, rival(mine, 106_250), now=START) == 105_187, (
        "by 1 % at least"
    )
    assert lower(RULE, standing, rival(mine, 51_000), now=START) == 50_000, "down to the cost"
    picky = replace(standing, min_window_ms=Millis(1))
    assert lower(RULE, picky, rival(mine, 100_000), now=START) is None


async def test_a_bid_that_was_quicker_is_undercut_at_once(site: Site) -> None:
    order = make_order()
    offer = make_bid(order, order_id(CHAIN, order))
    site.market.quicker = [rival(offer, 100_000)]
    async with site.running(undercut=RULE):
        site.market.place(order)
        first, second = await site.market.wait_answers(2)
        assert isinstance(first, SignedBid)
        assert isinstance(second, SignedBid)
        assert (first.bid.price_per_hour, second.bid.price_per_hour) == (106_250, 98_000)


async def test_a_bid_that_is_over_is_not_made_lower(site: Site) -> None:
    async with site.running(undercut=RULE) as agent:
        mine = await first_bid(site)
        site.chain.block(ms=61_000)
        with trio.fail_after(5):
            while agent.inventory.reservations:
                await trio.sleep(0.001)
        site.market.hear(rival(mine, 100_000, expires_at=Millis(START + 200_000)))
        site.market.place(make_order(salt=1))
        answers = await site.market.wait_answers(2)
        assert len(answers) == 2
