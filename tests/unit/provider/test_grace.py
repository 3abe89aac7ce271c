"""While an escrow is dry its workloads are held; a deposit sets them going, whenever it came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.hand_offs import hand_off
from tests.support.providers import FakeRuntime, Site, make_lease, make_order, open_site

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.records import Lease
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway
from fondaco.provider.runtimes.port import WorkloadId


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


def machine(site: Site) -> FakeRuntime:
    assert isinstance(site.runtime, FakeRuntime)
    return site.runtime


async def run_lease(site: Site, agent: Agent, number: int = 0) -> Lease:
    lease = make_lease(make_order(salt=number))
    site.chain.put(lease)
    async for _ in site.client(Gateway(agent), lease).put_manifest(*hand_off(lease)):
        pass
    return lease


def of(site: Site, lease: Lease) -> set[WorkloadId]:
    return {one for one in machine(site).workloads if one.startswith(lease.id.hex())}


async def test_workloads_are_held_while_the_escrow_is_dry_and_others_are_left_alone(site: Site) -> None:
    async with site.running() as agent:
        poor, rich = await run_lease(site, agent), await run_lease(site, agent, 1)
        await agent.grace.look()
        site.chain.parched = {poor.id}
        await agent.grace.look()
        assert machine(site).held == of(site, poor)
        client = site.client(Gateway(agent), poor)
        assert (await client.status()).phase == "paused"
        with pytest.raises(Refused) as refusal:
            await client.forward("web", 80)
        assert refusal.value.code == "lease.paused"
        assert [line.line async for line in client.logs()], "what it said can be read"
        assert (await site.client(Gateway(agent), rich).status()).phase == "running"
        site.chain.parched = set()
        await agent.grace.look()
        assert machine(site).held == set()
        assert (await client.http_get("web", 80, "/")).status == 200
        kinds = [event.kind for event in agent.events.of(poor.id).after(0)]
        assert [kind for kind in kinds if kind in ("held", "resumed")] == ["held", "resumed"]


async def test_a_deposit_that_came_while_the_provider_was_down_sets_them_going(site: Site) -> None:
    async with site.running() as agent:
        lease = await run_lease(site, agent)
        site.chain.parched = {lease.id}
        await agent.grace.look()
        assert machine(site).held == of(site, lease)
    site.chain.parched = set()
    async with site.running() as agent:
        await agent.grace.look()
        assert machine(site).held == set()


async def test_what_was_started_again_while_it_should_be_held_is_held_again(site: Site) -> None:
    async with site.running() as agent:
        lease = await run_lease(site, agent)
        site.chain.parched = {lease.id}
        await agent.grace.look()
        machine(site).held.clear()
        await agent.grace.look()
        assert machine(site).held == of(site, lease)


async def test_a_runtime_that_is_away_or_cannot_hold_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise Unreachable("runtime.podman", "nobody answers")

    async def cannot(workload: WorkloadId) -> None:
        raise Refused("runtime.pause", "this runtime cannot hold anything")

    async with site.running() as agent:
        lease = await run_lease(site, agent)
        await agent.grace.look()
        site.chain.parched = {lease.id}
        with monkeypatch.context() as patch:
            patch.setattr(machine(site), "list", away)
            await agent.grace.look()
        assert not agent.grace.holds(lease.id)
        monkeypatch.setattr(machine(site), "pause", cannot)
        await agent.grace.look()
        assert agent.grace.holds(lease.id), "nobody is let in who does not pay"
