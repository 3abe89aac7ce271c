"""How the bidder goes about it: reservations before prices, programs beside each other, policies applied."""

from __future__ import annotations

from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import pytest
import trio
from tests.support.providers import CHAIN, TENANT, Site, make_order, open_site

from fondaco.protocol.errors import Refused
from fondaco.protocol.market import SignedBid, SignedDecline, check_decline
from fondaco.protocol.scalars import PublicKey
from fondaco.provider.policy import Policy
from fondaco.provider.pricing import Program


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
