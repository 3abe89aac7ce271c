"""The agent: what it answers, what it reserves, and how a lease ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.support.agents import machine, run_lease, until
from tests.support.providers import (
    CHAIN,
    OTHER,
    START,
    Site,
    hand_off,
    inline_threads,
    make_lease,
    make_order,
    open_site,
)

from fondaco.protocol import addresses, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import Order, SignedBid, SignedDecline, check_bid, check_decline, lease_of_order
from fondaco.protocol.messages import Alive
from fondaco.protocol.records import LeaseState
from fondaco.protocol.resources import Attribute, Placement
from fondaco.protocol.scalars import GroupIndex, Millis
from fondaco.protocol.signing import Signer
from fondaco.provider.gateway import Gateway

EU = Attribute(key="region", value="eu")
ANN, BEA = (Signer(bytes([number]) * 32) for number in (21, 22))


@pytest.fixture
def jumping(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> object:
    inline_threads(monkeypatch)
    return autojump_clock  # pytest-trio takes the clock that a test asks for by value


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


# --- Bids


def audited(*, all_of: tuple[Signer, ...] = (), any_of: tuple[Signer, ...] = (), salt: int = 0) -> Order:
    """An order for somebody in the EU, as auditors say."""
    order = make_order(salt=salt)
    placement = Placement(
        attributes=(EU,),
        all_of=tuple(one.public_key for one in all_of),
        any_of=tuple(one.public_key for one in any_of),
    )
    return replace(order, groups=(replace(order.groups[0], placement=placement),))


async def test_an_order_signed_by_an_auditor_draws_a_bid_from_whom_it_attested(site: Site) -> None:
    site.chain.audits[ANN.public_key] = (EU,)
    async with site.running():
        site.market.place(audited(all_of=(ANN,)))
        site.market.place(audited(any_of=(BEA, ANN), salt=1))
        assert [type(answer) for answer in await site.market.wait_answers(2)] == [SignedBid, SignedBid]


async def test_who_is_not_attested_declines_and_names_the_auditor_it_lacks(site: Site) -> None:
    site.chain.audits[ANN.public_key] = (EU,)
    async with site.running() as agent:
        site.market.place(audited(all_of=(ANN, BEA)))
        (answer,) = await site.market.wait_answers(1)
        assert isinstance(answer, SignedDecline)
        check_decline(CHAIN, answer)
        (reason,) = answer.decline.reasons
        assert reason.dimension == "signed_by all_of"
        assert reason.asked == addresses.encode(BEA.public_key)
        assert agent.inventory.reservations == ()


async def test_trust_counts_from_the_block_on_in_which_it_comes_and_until_that_in_which_it_ends(
    site: Site,
) -> None:
    async with site.running():
        site.market.place(audited(any_of=(ANN,)))
        (answer,) = await site.market.wait_answers(1)
        assert isinstance(answer, SignedDecline)
        assert addresses.encode(ANN.public_key) in answer.decline.reasons[0].asked
        site.chain.audits[ANN.public_key] = (EU,)
        site.market.place(audited(any_of=(ANN,), salt=1))
        assert isinstance((await site.market.wait_answers(2))[1], SignedBid)
        site.chain.audits.clear()
        site.market.place(audited(any_of=(ANN,), salt=2))
        assert isinstance((await site.market.wait_answers(3))[2], SignedDecline)


async def test_an_order_that_fits_gets_a_signed_bid_and_a_reservation(site: Site) -> None:
    async with site.running() as agent:
        order = make_order()
        identity = site.market.place(order)
        (answer,) = await site.market.wait_answers(1)
        assert isinstance(answer, SignedBid)
        check_bid(CHAIN, answer)
        assert answer.bid.order == identity
        assert answer.bid.expires_at == START + 60_000
        assert answer.bid.peer == "provider"
        (reservation,) = agent.inventory.reservations
        assert reservation.id == lease_of_order(identity, order, GroupIndex(0))
        assert reservation.expires_at == answer.bid.expires_at


async def test_a_bid_never_outlives_what_the_protocol_allows(site: Site) -> None:
    async with site.running(bid_life_ms=Millis(10**9)):
        site.market.place(make_order())
        (answer,) = await site.market.wait_answers(1)
        assert isinstance(answer, SignedBid)
        assert answer.bid.expires_at == START + limits.BID_LIFE_MS


async def test_an_order_that_pays_too_little_is_declined_with_the_number(site: Site) -> None:
    async with site.running() as agent:
        site.market.place(make_order(price=1))
        (answer,) = await site.market.wait_answers(1)
        assert isinstance(answer, SignedDecline)
        check_decline(CHAIN, answer)
        assert [reason.dimension for reason in answer.decline.reasons] == ["price"]
        assert agent.inventory.reservations == ()


async def test_one_tenant_holds_only_so_many_reservations(site: Site) -> None:
    async with site.running(reservations_per_tenant=1):
        site.market.place(make_order(salt=1))
        site.market.place(make_order(salt=2))
        first, second = await site.market.wait_answers(2)
        assert isinstance(first, SignedBid)
        assert isinstance(second, SignedDecline)
        assert "tenant" in second.decline.reasons[0].dimension


async def test_an_order_is_answered_once(site: Site) -> None:
    async with site.running():
        site.market.place(make_order(salt=1))
        site.market.place(make_order(salt=1))
        site.market.place(make_order(salt=2))
        answers = await site.market.wait_answers(2)
        assert len(answers) == 2
        assert answers[0] != answers[1]


async def test_a_full_inventory_declines_rather_than_breaks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESERVATIONS", 0)
    async with site.running():
        site.market.place(make_order())
        (answer,) = await site.market.wait_answers(1)
        assert isinstance(answer, SignedDecline)
        assert answer.decline.reasons[0].dimension == "reservation"


async def test_a_bid_that_nobody_heard_holds_nothing(site: Site) -> None:
    site.market.down = True
    async with site.running() as agent:
        site.market.place(make_order(salt=1))
        await trio.testing.wait_all_tasks_blocked()
        await until(site, lambda: agent.inventory.reservations == ())
        site.market.down = False
        site.market.place(make_order(salt=2))
        assert len(await site.market.wait_answers(1)) == 1


# --- Reservations


async def test_a_reservation_is_held_until_block_time_passes_the_bid(site: Site) -> None:
    async with site.running() as agent:
        site.market.place(make_order())
        await site.market.wait_answers(1)
        site.chain.block(ms=59_000)
        await trio.testing.wait_all_tasks_blocked()
        assert len(agent.inventory.reservations) == 1
        site.chain.block(ms=1_000)
        await until(site, lambda: agent.inventory.reservations == ())


async def test_a_reservation_is_released_at_once_when_another_bid_wins(site: Site) -> None:
    async with site.running() as agent:
        order = make_order()
        site.market.place(order)
        await site.market.wait_answers(1)
        site.chain.put(make_lease(order, provider=OTHER))
        await until(site, lambda: agent.inventory.reservations == ())


async def test_a_won_bid_keeps_its_reservation_for_the_lease(site: Site) -> None:
    async with site.running() as agent:
        order = make_order()
        site.market.place(order)
        await site.market.wait_answers(1)
        lease = make_lease(order)
        site.chain.put(lease)
        site.chain.block(ms=10**6)
        await until(site, lambda: agent.inventory.for_lease(lease.id) is not None)
        assert len(agent.inventory.reservations) == 1


async def test_a_lease_without_a_reservation_is_found_room_for(site: Site) -> None:
    lease = make_lease(make_order())
    site.chain.put(lease)
    async with site.running() as agent:
        assert agent.inventory.for_lease(lease.id) is not None


async def test_a_lease_without_any_room_is_served_all_the_same(site: Site) -> None:
    lease = make_lease(make_order())
    async with site.running(nodes=()) as agent:
        await run_lease(site, agent, lease)
        assert site.chain.leases[lease.id].state is LeaseState.ACTIVE


# --- The end of a lease, and money


async def test_when_the_lease_closes_everything_is_torn_down_and_given_back(site: Site) -> None:
    lease = make_lease(make_order())
    async with site.running() as agent:
        await run_lease(site, agent, lease)
        assert machine(site).workloads
        site.chain.close(lease.id)
        await until(site, lambda: agent.inventory.reservations == ())
        assert not machine(site).workloads
        assert list((site.home / "handoffs").iterdir()) == []
        with pytest.raises(Refused) as error:
            async for _ in site.client(Gateway(agent), lease).put_manifest(*hand_off(lease)):
                pass
        assert error.value.code == "lease.closed"
        assert (await site.client(Gateway(agent), lease).status()).phase == "closed"


async def test_while_it_serves_a_provider_gives_signs_of_life(site: Site, jumping: object) -> None:
    def signs() -> int:
        return sum(isinstance(message, Alive) for message in site.chain.submitted)

    every_s = site.chain.alive_every_ms() / 1_000
    async with site.running():
        await trio.sleep(1.5 * every_s)
        assert signs() == 0, "nothing is leased from it"
        site.chain.put(make_lease(make_order(), state=LeaseState.ACTIVE))
        await trio.sleep(3 * every_s)
        assert signs() == 3


async def test_a_sign_of_life_that_was_lost_is_given_again_soon(site: Site, jumping: object) -> None:
    site.chain.put(make_lease(make_order(), state=LeaseState.ACTIVE))
    site.chain.lose = 3
    async with site.running():
        await trio.sleep(60)
    assert sum(isinstance(message, Alive) for message in site.chain.submitted) == 1
