"""What a tenant hands over: refused for what is wrong with it, all or nothing, and once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing
from tests.support.providers import (
    OTHER,
    SEALING,
    Site,
    hand_off,
    make_lease,
    make_order,
    manifest_group,
    resources,
    units_of,
    web,
)
from tests.unit.provider.gateway.conftest import machine, put

from fondaco.node.keys.sealing import seal
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.scalars import BlindingSalt
from fondaco.provider.gateway import Gateway
from fondaco.provider.runtimes.port import workload_id


async def test_a_manifest_that_is_not_the_committed_one_is_refused(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    assert await put(site, gateway, lease, *hand_off(lease, manifest_group(web(image="evil:1")))) == (
        "manifest.commitment"
    )
    assert await put(site, gateway, lease, *hand_off(lease, salt=BlindingSalt(b"x" * 32))) == "manifest.commitment"


async def test_a_manifest_for_more_than_was_leased_is_refused(site: Site, gateway: Gateway) -> None:
    asked, used = manifest_group(web()), manifest_group(web(count=2))
    lease = replace(
        make_lease(make_order(salt=1), asked), commitment=make_lease(make_order(salt=1), used).commitment
    )
    site.chain.put(lease)
    assert await put(site, gateway, lease, *hand_off(lease, used)) == "manifest.mismatch"


async def test_receipts_that_do_not_hold_are_refused(site: Site, gateway: Gateway, lease: Lease) -> None:
    assert await put(site, gateway, lease, *hand_off(lease, signer=OTHER)) == "receipt.signature"
    other = replace(lease, version=2)
    assert await put(site, gateway, lease, *hand_off(other)) == "receipt.manifest"


async def test_boxes_that_do_not_open_are_refused(site: Site, gateway: Gateway, lease: Lease) -> None:
    _, receipt = hand_off(lease)
    assert await put(site, gateway, lease, b"not sealed", receipt) == "sealing.broken"
    assert await put(site, gateway, lease, seal(b"nonsense", SEALING.key), receipt) == "manifest.malformed"


async def test_an_image_that_is_not_there_is_told_and_another_try_is_allowed(site: Site, gateway: Gateway) -> None:
    group = manifest_group(web(image="late:1"))
    lease = make_lease(make_order(group, salt=1), group)
    site.chain.put(lease)
    assert await put(site, gateway, lease, *hand_off(lease, group)) == "image.unknown"
    assert (await site.client(gateway, lease).status()).phase == "waiting"
    machine(site).images.add("late:1")
    async for last in site.client(gateway, lease).put_manifest(*hand_off(lease, group)):
        step = last.step
    assert step == "running"


async def test_it_is_all_or_nothing(site: Site, gateway: Gateway) -> None:
    group = manifest_group(web(name="good"), web(name="bad"))
    group = replace(group, services=tuple(sorted(group.services, key=lambda service: service.name)))
    leased = replace(units_of(group)[0], count=2)
    leased = replace(leased, resources=replace(leased.resources, endpoints=leased.resources.endpoints * 2))
    lease = replace(make_lease(make_order(group, salt=1), group), units=(leased,))
    site.chain.put(lease)
    machine(site).deaf = {"bad"}
    machine(site).broken = {"good"}
    assert await put(site, gateway, lease, *hand_off(lease, group)) == "runtime.start"
    assert not machine(site).workloads
    assert site.chain.leases[lease.id].state is LeaseState.AWAITING


async def test_a_workload_that_never_listens_is_not_charged_for(
    site: Site, gateway: Gateway, lease: Lease, jumping: object
) -> None:
    machine(site).deaf = {"web"}
    assert await put(site, gateway, lease, *hand_off(lease)) == "probe.timeout"
    assert not machine(site).workloads
    assert site.chain.submitted == []


async def test_a_workload_that_ends_before_it_listens_is_told_with_its_exit_code(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    machine(site).deaf = {"web"}

    async def die() -> None:
        while not machine(site).workloads:
            await trio.sleep(0.001)
        machine(site).end(workload_id(lease.id, "web"), 3)

    site.nursery.start_soon(die)
    with pytest.raises(Refused, match="exit code 3"):
        async for _ in site.client(gateway, lease).put_manifest(*hand_off(lease)):
            pass


async def test_a_service_that_exposes_nothing_has_to_stay_up(
    site: Site, gateway: Gateway, jumping: object
) -> None:
    quiet = replace(web(), expose=(), resources=replace(resources(), endpoints=()))
    group = manifest_group(quiet)
    lease = make_lease(make_order(group, salt=1), group)
    site.chain.put(lease)
    steps = [item.step async for item in site.client(gateway, lease).put_manifest(*hand_off(lease, group))]
    assert steps[-1] == "running"


async def test_a_second_hand_off_of_what_runs_tells_its_state_and_starts_nothing(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    assert [item.step async for item in client.put_manifest(*hand_off(lease))] == ["running"]
    assert machine(site).starts == 1


async def test_two_hand_offs_at_once_share_one_attempt(site: Site, gateway: Gateway, lease: Lease) -> None:
    seen: list[list[str]] = []

    async def hand_over() -> None:
        client = site.client(gateway, lease)
        seen.append([item.step async for item in client.put_manifest(*hand_off(lease))])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hand_over)
        nursery.start_soon(hand_over)
    assert [steps[-1] for steps in seen] == ["running", "running"]
    assert machine(site).starts == 1


async def test_a_tenant_that_leaves_does_not_stop_its_deployment(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    async with site.client(gateway, lease).put_manifest(*hand_off(lease)) as progress:
        async for _ in progress:
            break
    with trio.fail_after(5):
        while site.chain.leases[lease.id].state is not LeaseState.ACTIVE:
            await trio.sleep(0.001)


async def test_a_lease_that_ends_while_it_is_handed_over_says_so(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    machine(site).deaf = {"web"}
    codes = []

    async def hand_over() -> None:
        codes.append(await put(site, gateway, lease, *hand_off(lease)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hand_over)
        while not machine(site).workloads:
            await trio.sleep(0.001)
        site.chain.close(lease.id)
    assert codes == ["lease.closed"]
