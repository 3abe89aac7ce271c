"""A newer manifest is handed over while the lease runs: what changed is started anew, all else runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from tests.support.agents import machine, until
from tests.support.providers import (
    SALT,
    Site,
    hand_off,
    inline_threads,
    make_lease,
    make_order,
    manifest_group,
    open_site,
    web,
)

from fondaco.protocol import manifest
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.manifest import Expose, ManifestGroup, Service
from fondaco.protocol.records import Lease, LeaseState
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway
from fondaco.provider.handoffs import HandOffStore, StoredHandOff
from fondaco.provider.leases import ATTEMPTS, Phase
from fondaco.provider.runtimes.port import Link, workload_id


def api(**changes: object) -> Service:
    return replace(web(name="api"), resource_id=2, **changes)  # type: ignore[arg-type]


FIRST = manifest_group(api(), web())
SECOND = manifest_group(api(env=("GREETING=goodbye",)), web())
RENAMED = manifest_group(replace(api(), name="backend"), web())


@pytest.fixture
def jumping(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> object:
    inline_threads(monkeypatch)
    return autojump_clock  # pytest-trio takes the clock that a test asks for by value


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


def phase(agent: Agent, lease: Lease) -> Phase | None:
    work = agent.work(lease.id)
    return None if work is None else work.phase


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
    async with site.running() as agent:
        await running(site, agent, lease)
        newer = updated(site, lease, RENAMED)
        await handed(site, agent, RENAMED, newer)
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
        assert error.value.code == "update.rolled_back"
        assert "there is no image nowhere:1 [image.unknown]; version 1 runs as before" in error.value.message
        assert machine(site).workloads == before, "nothing was stopped"
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


async def refused(site: Site, agent: Agent, group: ManifestGroup, lease: Lease) -> Refused:
    with pytest.raises(Refused) as error:
        await handed(site, agent, group, lease)
    return error.value


async def test_an_update_that_does_not_start_gives_way_to_what_ran_and_no_end_is_offered(
    site: Site, lease: Lease
) -> None:
    async with site.running() as agent:
        await running(site, agent, lease)
        kept = machine(site).workloads[workload_id(lease.id, "web")]
        newer = updated(site, lease, RENAMED)
        machine(site).broken.add("backend")
        for _ in range(ATTEMPTS + 1):
            error = await refused(site, agent, RENAMED, newer)
            assert error.code == "update.rolled_back"
            assert "the sandbox failed [runtime.start]; version 1 runs as before" in error.message
        assert set(machine(site).workloads) == {workload_id(lease.id, name) for name in ("web", "api")}
        assert machine(site).workloads[workload_id(lease.id, "web")] is kept, "it was the same in both"
        assert {type(message).__name__ for message in site.chain.submitted} <= {"Activate", "Alive"}
        client = site.client(Gateway(agent), newer)
        status = await client.status()
        assert status.phase == "running"
        assert "version 2 did not come up" in status.detail
        told = [event.kind async for event in client.events()]
        assert told.count("rolled_back") == ATTEMPTS + 1
        machine(site).broken.clear()
        assert (await handed(site, agent, RENAMED, newer))[-1] == "running", "it may be said again"
        assert set(machine(site).workloads) == {workload_id(lease.id, name) for name in ("web", "backend")}


async def test_what_was_rolled_back_stays_so_over_a_crash(site: Site, lease: Lease) -> None:
    async with site.running() as agent:
        await running(site, agent, lease)
        newer = updated(site, lease, RENAMED)
        machine(site).broken.add("backend")
        await refused(site, agent, RENAMED, newer)
        starts = machine(site).starts
    machine(site).broken.clear()
    async with site.running() as agent:
        await until(site, lambda: phase(agent, lease) is Phase.RUNNING)
        assert machine(site).starts == starts, "the older version runs on, untouched"
        assert workload_id(lease.id, "api") in machine(site).workloads
        assert (await handed(site, agent, RENAMED, newer))[-1] == "running"


@pytest.mark.parametrize("comes_up", [True, False])
async def test_a_crash_while_an_update_comes_up_loses_neither_version(
    site: Site, lease: Lease, comes_up: bool
) -> None:
    async with site.running() as agent:
        await running(site, agent, lease)
        newer = updated(site, lease, RENAMED)
        machine(site).deaf.add("backend")  # started, and not seen to serve yet
        site.nursery.start_soon(given_up, site, agent, newer)
        await until(site, lambda: workload_id(lease.id, "backend") in machine(site).workloads)
    machine(site).deaf.clear()
    if not comes_up:
        machine(site).end(workload_id(lease.id, "backend"), 3)
        machine(site).broken.add("backend")
    async with site.running() as agent:
        await until(site, lambda: phase(agent, lease) is Phase.RUNNING)
        expected = {workload_id(lease.id, name) for name in ("web", "backend" if comes_up else "api")}
        assert set(machine(site).workloads) == expected
        (stored,) = HandOffStore(site.home / "handoffs").all().values()
        assert isinstance(stored, StoredHandOff), "one version is left"
        assert stored.receipt.receipt.version == (2 if comes_up else 1)


async def given_up(site: Site, agent: Agent, newer: Lease) -> None:
    """A tenant whose provider is killed while it waits."""
    with pytest.raises((Refused, Unreachable)):
        await handed(site, agent, RENAMED, newer)


async def test_an_update_that_ran_for_a_while_is_no_more_rolled_back(
    site: Site, lease: Lease, jumping: object
) -> None:
    async with site.running() as agent:
        await running(site, agent, lease)
        await handed(site, agent, RENAMED, updated(site, lease, RENAMED))
    machine(site).end(workload_id(lease.id, "backend"), 3)
    machine(site).broken.add("backend")
    async with site.running():
        await trio.sleep(60)
        assert workload_id(lease.id, "api") not in machine(site).workloads
        assert "CloseLease" in {type(message).__name__ for message in site.chain.submitted}


async def test_if_what_ran_before_does_not_come_back_either_both_are_said_and_the_end_is_offered(
    site: Site, lease: Lease, jumping: object
) -> None:
    async with site.running() as agent:
        await running(site, agent, lease)
        newer = updated(site, lease, RENAMED)
        machine(site).broken |= {"backend", "api"}
        error = await refused(site, agent, RENAMED, newer)
        assert error.code == "update.failed"
        assert (
            "version 2 did not come up: the sandbox failed [runtime.start]; nor does the one before"
            in error.message
        )
        await trio.sleep(60)
        assert "CloseLease" in {type(message).__name__ for message in site.chain.submitted}


async def test_a_newer_update_takes_the_place_of_one_that_is_being_rolled_back(site: Site, lease: Lease) -> None:
    heard: list[str] = []
    async with site.running() as agent, trio.open_nursery() as nursery:
        await running(site, agent, lease)
        newer = updated(site, lease, RENAMED)
        machine(site).broken.add("backend")
        machine(site).deaf.add("api")  # it is started again, and not seen to serve

        async def hand() -> None:
            heard.append((await refused(site, agent, RENAMED, newer)).code)

        nursery.start_soon(hand)
        await until(site, lambda: machine(site).starts == 3)
        machine(site).deaf.clear()
        newest = updated(site, newer, SECOND)
        assert (await handed(site, agent, SECOND, newest))[-1] == "running"
    assert heard in (["manifest.superseded"], ["update.rolled_back"])


async def test_a_lease_that_ends_while_an_update_is_rolled_back_tells_who_waits(site: Site, lease: Lease) -> None:
    async with site.running() as agent, trio.open_nursery() as nursery:
        await running(site, agent, lease)
        newer = updated(site, lease, RENAMED)
        machine(site).broken.add("backend")
        machine(site).deaf.add("api")
        codes: list[str] = []

        async def hand() -> None:
            codes.append((await refused(site, agent, RENAMED, newer)).code)

        nursery.start_soon(hand)
        await until(site, lambda: machine(site).starts == 3)
        site.chain.close(lease.id)
        await until(site, lambda: codes == ["lease.closed"])


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
