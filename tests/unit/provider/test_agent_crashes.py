"""What a crash of the provider does not change."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.support.agents import machine, run_lease, until
from tests.support.providers import (
    PROVIDER,
    Site,
    hand_off,
    make_lease,
    make_order,
    manifest_group,
    open_site,
    web,
)

from fondaco.protocol.errors import Refused
from fondaco.protocol.market import SignedBid
from fondaco.protocol.messages import Activate
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.scalars import ChainId, Hash, Height
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway
from fondaco.provider.leases import Phase
from fondaco.provider.runtimes.port import State, WorkloadSpec, workload_id


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


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
