"""A newer manifest is handed over while the lease runs: what changed is started anew, all else runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from tests.support.providers import (
    SALT,
    Site,
    hand_off,
    make_lease,
    make_order,
    manifest_group,
    open_site,
    web,
)
from tests.unit.provider.test_agent import machine, until

from fondaco.protocol import manifest
from fondaco.protocol.errors import Refused
from fondaco.protocol.manifest import Expose, ManifestGroup, Service
from fondaco.protocol.records import Lease, LeaseState
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway
from fondaco.provider.leases import Phase
from fondaco.provider.runtimes.port import Link, workload_id


def api(**changes: object) -> Service:
    return replace(web(name="api"), resource_id=2, **changes)  # type: ignore[arg-type]


FIRST = manifest_group(api(), web())
SECOND = manifest_group(api(env=("GREETING=goodbye",)), web())


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


@pytest.fixture
def lease() -> Lease:
    return make_lease(make_order(FIRST), FIRST)


async def handed(site: Site, agent: Agent, group: ManifestGroup, lease: Lease) -> list[str]:
    client = site.client(Gateway(agent), lease)
    return [progress.step async for progress in client.put_manifest(*hand_off(lease, group))]


def updated(site: Site, lease: Lease, group: ManifestGroup) -> Lease:
    """The ledger has taken an update."""
    before = site.chain.leases[lease.id]
    after = replace(before, version=before.version + 1, commitment=manifest.commitment(SALT, group))
    site.chain.put(after)
    return after


async def running(site: Site, agent: Agent, lease: Lease) -> None:
    site.chain.put(lease)
    assert (await handed(site, agent, FIRST, lease))[-1] == "running"


async def test_only_what_the_update_changes_is_started_anew(site: Site, lease: Lease) -> None:
    async with site.running() as agent:
        await running(site, agent, lease)
        kept = machine(site).workloads[workload_id(lease.id, "web")]
        newer = updated(site, lease, SECOND)
        assert (await handed(site, agent, SECOND, newer))[-1] == "running"
        assert machine(site).workloads[workload_id(lease.id, "web")] is kept
        assert machine(site).specs[workload_id(lease.id, "api")].env == ("GREETING=goodbye",)
        assert machine(site).starts == 3
        client = site.client(Gateway(agent), newer)
        assert (await client.status()).phase == "running"
        told = [(one.kind, one.service) async for one in client.events()]
        update = told[told.index(("updated", "")) + 1 :]
        assert update[:3] == [("image", ""), ("stopped", "api"), ("started", "api")]
        assert sum(type(message).__name__ == "Activate" for message in site.chain.submitted) == 1


async def test_who_may_reach_a_service_changes_without_starting_them_anew(site: Site, lease: Lease) -> None:
    opened = manifest_group(api(expose=(*api().expose, Expose(port=7, service="web"))), web())
    async with site.running() as agent:
        await running(site, agent, lease)
        assert [spec.links for spec in machine(site).linked] == [(), ()]
        kept = machine(site).workloads[workload_id(lease.id, "web")]
        await handed(site, agent, opened, updated(site, lease, opened))
        assert {spec.service: spec.links for spec in machine(site).linked} == {
            "api": (),
            "web": (Link(service="api", port=7, target_port=7),),
        }
        assert machine(site).workloads[workload_id(lease.id, "web")] is kept


async def test_a_service_that_is_named_no_more_is_stopped(site: Site, lease: Lease) -> None:
    renamed = manifest_group(replace(api(), name="backend"), web())
    async with site.running() as agent:
        await running(site, agent, lease)
        newer = updated(site, lease, renamed)
        await handed(site, agent, renamed, newer)
        names = {workload_id(lease.id, name) for name in ("web", "backend")}
        assert set(machine(site).workloads) == names


async def test_what_the_ledger_does_not_know_yet_is_not_taken(site: Site, lease: Lease) -> None:
    async with site.running() as agent:
        await running(site, agent, lease)
        early = replace(site.chain.leases[lease.id], version=2, commitment=manifest.commitment(SALT, SECOND))
        with pytest.raises(Refused) as error:
            await handed(site, agent, SECOND, early)
        assert error.value.code == "receipt.manifest"
        assert machine(site).starts == 2


async def test_the_same_version_again_is_joined_and_starts_nothing(site: Site, lease: Lease) -> None:
    async with site.running() as agent:
        await running(site, agent, lease)
        newer = updated(site, lease, SECOND)
        await handed(site, agent, SECOND, newer)
        assert await handed(site, agent, SECOND, newer) == ["running"]
        assert machine(site).starts == 3


async def test_an_update_whose_image_is_not_to_be_had_leaves_the_old_version_running(
    site: Site, lease: Lease
) -> None:
    broken = manifest_group(api(image="nowhere:1"), web())
    async with site.running() as agent:
        await running(site, agent, lease)
        before = dict(machine(site).workloads)
        newer = updated(site, lease, broken)
        with pytest.raises(Refused) as error:
            await handed(site, agent, broken, newer)
        assert error.value.code == "image.unknown"
        assert machine(site).workloads == before
        newest = updated(site, newer, SECOND)
        assert (await handed(site, agent, SECOND, newest))[-1] == "running"
        assert machine(site).starts == 3


async def test_an_update_before_the_activation_takes_the_first_ones_place(site: Site, lease: Lease) -> None:
    machine(site).deaf.add("api")  # it is never seen to serve
    site.chain.put(lease)
    heard: list[str] = []
    async with site.running() as agent, trio.open_nursery() as nursery:

        async def hand(group: ManifestGroup, version: Lease) -> None:
            try:
                heard.append((await handed(site, agent, group, version))[-1])
            except Refused as error:
                heard.append(error.code)

        nursery.start_soon(hand, FIRST, lease)
        await until(site, lambda: machine(site).starts == 2)
        nursery.start_soon(hand, SECOND, updated(site, lease, SECOND))
        await until(site, lambda: heard == ["manifest.superseded"])
        machine(site).deaf.clear()
        await until(site, lambda: len(heard) == 2)
    assert heard == ["manifest.superseded", "running"]
    assert site.chain.leases[lease.id].state is LeaseState.ACTIVE


async def test_after_a_crash_in_the_middle_the_update_is_seen_through(site: Site, lease: Lease) -> None:
    async with site.running() as agent:
        await running(site, agent, lease)
        newer = updated(site, lease, SECOND)
        machine(site).broken.add("api")
        work = agent.work(lease.id)
        assert work is not None
        async with trio.open_nursery() as nursery:

            async def hand() -> None:
                with pytest.raises(Refused):
                    await handed(site, agent, SECOND, newer)

            nursery.start_soon(hand)
    machine(site).broken.clear()
    async with site.running() as agent:
        await until(site, lambda: len(machine(site).workloads) == 2)
        assert machine(site).specs[workload_id(lease.id, "api")].env == ("GREETING=goodbye",)
        assert machine(site).starts == 3


async def test_until_the_newer_version_is_handed_over_the_older_one_is_served(site: Site, lease: Lease) -> None:
    async with site.running() as agent:
        await running(site, agent, lease)
    newer = updated(site, lease, SECOND)
    async with site.running() as agent:
        work = agent.work(lease.id)
        assert work is not None
        await until(site, lambda: work.phase is Phase.RUNNING)
        assert machine(site).starts == 2
        assert (await handed(site, agent, SECOND, newer))[-1] == "running"
        assert machine(site).starts == 3
