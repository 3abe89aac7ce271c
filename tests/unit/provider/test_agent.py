"""The agent: what it answers, what it reserves, and what a crash does not change."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.support.providers import (
    CHAIN,
    OTHER,
    PROVIDER,
    START,
    FakeRuntime,
    Site,
    hand_off,
    inline_threads,
    make_lease,
    make_order,
    manifest_group,
    open_site,
    web,
)

from fondaco.protocol import addresses, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import Order, SignedBid, SignedDecline, check_bid, check_decline, lease_of_order
from fondaco.protocol.messages import Activate, Alive
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.resources import Attribute, Placement
from fondaco.protocol.scalars import ChainId, GroupIndex, Hash, Height, Millis
from fondaco.protocol.signing import Signer
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway
from fondaco.provider.leases import Phase
from fondaco.provider.runtimes.port import State, WorkloadSpec, workload_id

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


async def until(site: Site, condition: Callable[[], bool]) -> None:
    """Let everybody run until `condition` holds; blocks are made by the tests, so no time passes."""
    with trio.fail_after(5):
        while not condition():
            await trio.sleep(0.001)


async def run_lease(site: Site, agent: Agent, lease: Lease) -> None:
    """Have `lease` handed over and running."""
    site.chain.put(lease)
    async for _ in site.client(Gateway(agent), lease).put_manifest(*hand_off(lease)):
        pass


def machine(site: Site) -> FakeRuntime:
    assert isinstance(site.runtime, FakeRuntime)
    return site.runtime


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


# --- Crashes


async def test_after_a_crash_a_running_lease_is_adopted_and_never_restarted(site: Site) -> None:
    lease = make_lease(make_order())
    async with site.running() as agent:
        await run_lease(site, agent, lease)
    assert machine(site).starts == 1
    async with trio.open_nursery() as nursery:
        agent = site.agent()
        plan = await nursery.start(agent.run)
        assert plan.adopt == {lease.id}
        client = site.client(Gateway(agent), lease)
        steps = [progress.step async for progress in client.put_manifest(*hand_off(lease))]
        assert steps[-1] == "running"
        assert (await client.http_get("web", 80)).status == 200
        nursery.cancel_scope.cancel()
    assert machine(site).starts == 1
    assert sum(isinstance(message, Activate) for message in site.chain.submitted) == 1


async def test_after_a_crash_what_was_handed_over_but_does_not_run_is_started_again(site: Site) -> None:
    lease = make_lease(make_order())
    async with site.running() as agent:
        await run_lease(site, agent, lease)
    await machine(site).stop(workload_id(lease.id, "web"))
    async with trio.open_nursery() as nursery:
        agent = site.agent()
        plan = await nursery.start(agent.run)
        assert plan.restart == {lease.id}
        await until(site, lambda: bool(machine(site).workloads))
        nursery.cancel_scope.cancel()


async def test_where_the_chain_goes_on_as_another_what_runs_is_adopted_though_its_receipt_is_of_the_old_one(
    site: Site,
) -> None:
    lease, waiting = make_lease(make_order()), make_lease(make_order(salt=9))
    async with site.running() as agent:
        await run_lease(site, agent, lease)
        await run_lease(site, agent, waiting)
    site.chain.put(waiting)  # as if its activation had come too late for the old chain
    site.chain.id = ChainId("heir")
    async with trio.open_nursery() as nursery:
        agent = site.agent()
        await nursery.start(agent.run)
        await until(site, lambda: phase(agent, lease) is Phase.RUNNING)
        assert phase(agent, waiting) is Phase.WAITING, "a receipt for this chain is needed to activate it"
        nursery.cancel_scope.cancel()
    assert machine(site).starts == 2


def phase(agent: Agent, lease: Lease) -> Phase | None:
    work = agent.work(lease.id)
    return None if work is None else work.phase


async def test_after_a_crash_what_runs_but_is_not_leased_is_stopped(site: Site) -> None:
    lease, gone = make_lease(make_order()), make_lease(make_order(salt=9))
    async with site.running() as agent:
        await run_lease(site, agent, lease)
    stray = WorkloadSpec(lease=gone.id, service="web", image="web:1", cpu_milli=1, memory_bytes=1)
    await machine(site).start(stray)
    site.chain.close(lease.id)
    async with trio.open_nursery() as nursery:
        agent = site.agent()
        plan = await nursery.start(agent.run)
        assert plan.stop == {lease.id, gone.id}
        assert not machine(site).workloads
        assert list((site.home / "handoffs").iterdir()) == []
        nursery.cancel_scope.cancel()


async def test_a_view_of_the_chain_that_is_too_old_tears_nothing_down(site: Site) -> None:
    """A node that lost its chain data and has not caught up must not take its ignorance for the lease's end."""
    lease = make_lease(make_order())
    async with site.running() as agent:
        await run_lease(site, agent, lease)
    record = site.chain.leases.pop(lease.id)
    height, site.chain.height = site.chain.height, Height(0)
    async with trio.open_nursery() as nursery:
        agent = site.agent()
        plan = await nursery.start(agent.run)
        assert plan.leave == {lease.id}
        assert machine(site).workloads
        site.chain.leases[lease.id], site.chain.height = record, height
        site.chain.block()
        await until(site, lambda: agent.work(lease.id) is not None)
        assert machine(site).workloads
        nursery.cancel_scope.cancel()


async def test_an_activation_lost_in_a_crash_is_sent_again(site: Site) -> None:
    lease = make_lease(make_order())
    site.chain.put(lease)
    site.chain.lose = 1
    async with site.running() as agent:
        client = site.client(Gateway(agent), lease)
        async with client.put_manifest(*hand_off(lease)) as progress:
            async for item in progress:
                if item.step == "activating":
                    break
    assert site.chain.leases[lease.id].state is LeaseState.AWAITING
    async with site.running():
        await until(site, lambda: site.chain.leases[lease.id].state is LeaseState.ACTIVE)
    assert machine(site).starts == 1


async def test_the_reservations_of_open_bids_survive_a_crash(site: Site) -> None:
    async with site.running() as agent:
        site.market.place(make_order())
        await site.market.wait_answers(1)
        await until(site, (site.home / "reservations").exists)
        before = agent.inventory.reservations
    async with site.running() as agent:
        assert agent.inventory.reservations == before


async def test_files_that_cannot_be_read_are_left_alone_and_do_not_stop_the_agent(site: Site) -> None:
    (site.home / "handoffs").mkdir(exist_ok=True)
    broken = site.home / "handoffs" / "00.handoff"
    broken.write_bytes(b"not a hand-off")
    (site.home / "reservations").write_bytes(b"\xc1")
    async with site.running() as agent:
        assert agent.inventory.reservations == ()
    assert broken.exists()


async def test_reservations_that_no_longer_fit_are_said_and_dropped(site: Site) -> None:
    async with site.running():
        site.market.place(make_order())
        await site.market.wait_answers(1)
        await until(site, (site.home / "reservations").exists)
    async with site.running(nodes=()) as agent:
        assert agent.inventory.reservations == ()


async def test_a_stored_hand_off_that_no_longer_opens_stops_nothing(site: Site) -> None:
    lease = make_lease(make_order())
    async with site.running() as agent:
        await run_lease(site, agent, lease)
    site.chain.put(replace(site.chain.leases[lease.id], commitment=Hash(bytes(32))))
    async with site.running() as agent:
        work = agent.work(lease.id)
        assert work is not None
        await trio.testing.wait_all_tasks_blocked()
        assert work.phase == "waiting"
        assert [one.state for one in machine(site).workloads.values()] == [State.RUNNING]


async def test_hand_offs_on_disk_are_for_the_owner_only_and_stay_sealed(site: Site) -> None:
    lease = make_lease(make_order())
    async with site.running() as agent:
        await run_lease(site, agent, lease)
        (path,) = (site.home / "handoffs").iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"GREETING" not in path.read_bytes()


async def test_a_lease_opened_for_many_replicas_runs_them_all(site: Site) -> None:
    group = manifest_group(web(count=3))
    lease = make_lease(make_order(group), group)
    async with site.running() as agent:
        site.chain.put(lease)
        client = site.client(Gateway(agent), lease)
        async for _ in client.put_manifest(*hand_off(lease, group)):
            pass
        assert len(machine(site).workloads) == 3
        assert [item.replica async for item in client.logs()] == [0, 1, 2]
    assert PROVIDER.public_key == lease.provider


async def test_a_disk_that_takes_nothing_refuses_the_hand_off_and_serves_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = make_lease(make_order())
    site.chain.put(lease)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with site.running() as agent:
        client = site.client(Gateway(agent), lease)
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", full)
            with pytest.raises(Refused) as error:
                async for _ in client.put_manifest(*hand_off(lease)):
                    pass
            assert error.value.code == "provider.disk"
            site.market.place(make_order(salt=1))
            assert isinstance((await site.market.wait_answers(1))[0], SignedBid)
        assert list((site.home / "handoffs").iterdir()) == []
        async for item in client.put_manifest(*hand_off(lease)):
            last = item
        assert last.step == "running"
