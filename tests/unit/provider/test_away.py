"""What runs workloads does not answer for a while: that says nothing about the workloads, and ends no lease."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from tests.support.providers import (
    FakeRuntime,
    Site,
    hand_off,
    inline_threads,
    make_lease,
    make_order,
    open_site,
)

from fondaco.protocol.channel_calls import Happening
from fondaco.protocol.errors import Unreachable
from fondaco.protocol.messages import CloseLease, Reclaim
from fondaco.protocol.records import Lease
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway
from fondaco.provider.leases import Phase
from fondaco.provider.runtimes.port import AWAY, workload_id

LONG_S = 3_600
LEASE = make_lease(make_order())
WEB = workload_id(LEASE.id, "web")


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    inline_threads(monkeypatch)
    async with open_site(tmp_path) as site:
        yield site


def machine(site: Site) -> FakeRuntime:
    assert isinstance(site.runtime, FakeRuntime)
    return site.runtime


async def run_lease(site: Site, agent: Agent) -> None:
    site.chain.put(LEASE)
    async for _ in site.client(Gateway(agent), LEASE).put_manifest(*hand_off(LEASE)):
        pass


def happened(agent: Agent, lease: Lease = LEASE) -> list[str]:
    return [event.kind for event in agent.events.of(lease.id).after(0)]


def ended_by_us(site: Site) -> bool:
    return any(isinstance(message, CloseLease | Reclaim) for message in site.chain.submitted)


async def test_a_provider_that_comes_back_while_its_control_plane_is_away_waits_and_ends_no_lease(
    site: Site, autojump_clock: object
) -> None:
    async with site.running() as agent:
        await run_lease(site, agent)
    machine(site).away = True

    async def come_back() -> None:
        await trio.sleep(LONG_S)
        machine(site).away = False

    site.nursery.start_soon(come_back)
    async with site.running() as agent:
        assert trio.current_time() >= LONG_S
        await trio.sleep(1)
        work = agent.work(LEASE.id)
        assert work is not None
        assert work.phase is Phase.RUNNING
        assert machine(site).starts == 1
    assert not ended_by_us(site)


async def test_a_workload_that_ends_while_the_control_plane_is_away_is_started_once_when_it_is_back(
    site: Site, autojump_clock: object
) -> None:
    async with site.running() as agent:
        await run_lease(site, agent)
        machine(site).end(WEB, 1)
        machine(site).away = True
        await trio.sleep(LONG_S)
        assert happened(agent)[-3:] == [Happening.EXITED, Happening.PAUSED, Happening.AWAY]
        with pytest.raises(Unreachable) as caught:
            await site.client(Gateway(agent), LEASE).status()
        assert caught.value.code == AWAY
        machine(site).away = False
        await trio.sleep(60)
        status = await site.client(Gateway(agent), LEASE).status()
        assert [(one.state, one.restarts) for one in status.services] == [("running", 1)]
        assert machine(site).starts == 2
    assert not ended_by_us(site)


async def test_what_was_handed_over_while_the_control_plane_is_away_comes_up_when_it_is_back(
    site: Site, autojump_clock: object
) -> None:
    async with site.running() as agent:
        machine(site).away = True

        async def come_back() -> None:
            await trio.sleep(120)
            machine(site).away = False

        site.nursery.start_soon(come_back)
        await run_lease(site, agent)
        assert happened(agent).count(Happening.AWAY) == 1
        assert Happening.FAILED not in happened(agent)


async def test_a_lease_that_ends_while_the_control_plane_is_away_is_torn_down_when_it_is_back(
    site: Site, autojump_clock: object
) -> None:
    async with site.running() as agent:
        await run_lease(site, agent)
        machine(site).away = True
        site.chain.close(LEASE.id)
        await trio.sleep(LONG_S)
        assert WEB in machine(site).workloads
        machine(site).away = False
        await trio.sleep(60)
        assert WEB not in machine(site).workloads
        assert machine(site).released == [LEASE.id]
        assert agent.work(LEASE.id) is None
