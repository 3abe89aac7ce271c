"""The rest of what a tenant may ask: what it handed over, evidence of the hardware, and to stop."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import trio
from tests.support.providers import (
    CHAIN,
    OTHER,
    SALT,
    TENANT,
    Site,
    hand_off,
    make_lease,
    make_order,
    manifest_group,
    web,
)
from tests.unit.provider.gateway.conftest import machine

from fondaco.node.tenant.channel import ChannelClient
from fondaco.node.tenant.handed_over import check_served
from fondaco.protocol import channel_bounds, limits, manifest
from fondaco.protocol.channel_calls import HandedOver
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import Receipt, SignedReceipt
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.scalars import BlindingSalt, ChainId, Hash
from fondaco.provider.gateway import Gateway
from fondaco.provider.handoffs import HandOffStore
from fondaco.provider.leases import Phase
from fondaco.provider.runtimes.port import Workload, WorkloadId

LARGE = manifest_group(replace(web(), env=tuple(f"LONG_{n}={'x' * 4_000}" for n in range(100))))


async def handed_over(site: Site, gateway: Gateway, lease: Lease, **group: Any) -> ChannelClient:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease, **group)):
        pass
    return client


# --- get_manifest


async def test_what_was_handed_over_comes_back_whole_and_is_checked(site: Site, gateway: Gateway) -> None:
    lease = make_lease(make_order(LARGE), LARGE)
    site.chain.put(lease)
    client = await handed_over(site, gateway, lease, group=LARGE)
    said = await client.get_manifest()
    assert len(said.manifest) > limits.CHANNEL_FRAME_BYTES, "more than one frame"
    served = check_served(CHAIN, lease, said)
    assert (served.group, served.version, served.newest) == (LARGE, 1, 1)
    assert served.manifest == manifest.group_to_json(LARGE)


async def test_before_the_hand_off_there_is_nothing_to_give_back(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    with pytest.raises(Refused) as error:
        await site.client(gateway, lease).get_manifest()
    assert error.value.code == "manifest.none"


async def test_an_older_version_that_is_served_is_shown_to_be_the_tenants(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    """The ledger counts a version that was not handed over, or did not come up."""
    client = await handed_over(site, gateway, lease)
    newer = replace(lease, version=2, commitment=Hash(b"c" * 32))
    served = check_served(CHAIN, newer, await client.get_manifest())
    assert (served.version, served.newest, served.group) == (1, 2, manifest_group())


def said(lease: Lease, **changes: Any) -> HandedOver:
    _, receipt = hand_off(lease)
    found = HandedOver(salt=SALT, manifest=manifest.group_to_json(manifest_group()), receipt=receipt)
    return replace(found, **changes)


def test_a_provider_cannot_make_up_what_it_serves() -> None:
    lease = make_lease(make_order())
    other = manifest_group(web(image="other:1"))
    invented = Receipt(lease=lease.id, version=1, commitment=manifest.commitment(SALT, other))
    lies = replace(said(lease), manifest=manifest.group_to_json(other))
    signed = SignedReceipt(receipt=invented, signature=OTHER.sign(CHAIN, invented))
    newer = replace(lease, version=2, commitment=Hash(b"c" * 32))
    genuine = replace(invented, version=2)
    for record, told, code in (
        (lease, said(lease, manifest=b"nonsense"), "manifest.malformed"),
        (lease, said(lease, salt=BlindingSalt(bytes(32))), "manifest.commitment"),
        (lease, lies, "manifest.commitment"),
        (lease, replace(lies, receipt=signed), "manifest.commitment"),
        (newer, replace(lies, receipt=signed), "receipt.signature"),
        (replace(lease, id=type(lease.id)(b"M" * 32)), said(lease), "manifest.commitment"),
    ):
        with pytest.raises(Refused) as error:
            check_served(CHAIN, record, told)
        assert error.value.code == code
    with pytest.raises(Refused):
        check_served(ChainId("other"), newer, said(lease))
    told = replace(lies, receipt=SignedReceipt(receipt=genuine, signature=TENANT.sign(CHAIN, genuine)))
    assert check_served(CHAIN, lease, told).version == 2, "this view of the ledger is somewhat old"


# --- attestation


async def test_hardware_that_attests_nothing_says_so(site: Site, gateway: Gateway, lease: Lease) -> None:
    with pytest.raises(Refused) as error:
        await site.client(gateway, lease).attest(Hash(bytes(32)))
    assert error.value.code == "attestation.none"
    assert "whoever runs this machine can read" in error.value.message


# --- close


async def test_a_tenant_stops_everything_with_a_grace_and_hears_how_it_ended(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    client = await handed_over(site, gateway, lease)
    stopped = await client.stop(grace_ms=5_000)
    assert [(one.service, one.replica) for one in stopped.services] == [("web", 0)]
    assert machine(site).workloads == {}
    assert machine(site).graces == [5_000]
    status = await client.status()
    assert (status.phase, status.services) == ("waiting", ())
    assert site.chain.leases[lease.id].state is LeaseState.ACTIVE, "closing it is the tenant's word to the ledger"
    assert {type(message).__name__ for message in site.chain.submitted} <= {"Activate", "Alive"}
    assert (await client.stop()).services == (), "again: nothing is left"
    kinds = [(event.kind, event.detail) async for event in client.events()]
    assert kinds.count(("stopped", "all, at the tenant's word")) == 2


async def test_what_was_stopped_stays_so_over_a_crash_until_it_is_handed_over_again(
    site: Site, lease: Lease
) -> None:
    async with site.running() as agent:
        client = await handed_over(site, Gateway(agent), lease)
        await client.stop()
    assert HandOffStore(site.home / "handoffs").all() == {}
    async with site.running() as agent:
        work = agent.work(lease.id)
        assert work is not None
        assert work.phase is Phase.WAITING
        assert machine(site).workloads == {}
        client = await handed_over(site, Gateway(agent), lease)
        assert (await client.status()).phase == "running"
        assert len(machine(site).workloads) == 1


async def test_a_hand_off_under_way_is_stopped_too_and_its_tenant_told(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    machine(site).deaf.add("web")
    codes: list[str] = []

    async def hand() -> None:
        with pytest.raises(Refused) as error:
            await handed_over(site, gateway, lease)
        codes.append(error.value.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hand)
        with trio.fail_after(5):
            while not machine(site).workloads:
                await trio.sleep(0.001)
        await site.client(gateway, lease).stop()
    assert codes == ["lease.stopped"]
    assert machine(site).workloads == {}


async def test_what_does_not_stop_at_once_is_stopped_again(
    site: Site, gateway: Gateway, lease: Lease, monkeypatch: pytest.MonkeyPatch, jumping: object
) -> None:
    client, stop, failures = await handed_over(site, gateway, lease), machine(site).stop, [1, 2]

    async def stubborn(workload: WorkloadId, *, grace_ms: int) -> Workload | None:
        if failures:
            raise Refused("runtime.stop", f"not yet, {failures.pop()}")
        return await stop(workload, grace_ms=grace_ms)

    monkeypatch.setattr(machine(site), "stop", stubborn)
    assert [one.service for one in (await client.stop()).services] == ["web"]
    assert machine(site).workloads == {}


async def test_a_lease_that_ends_while_it_is_stopped_lets_nobody_wait(
    site: Site, gateway: Gateway, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, begun = await handed_over(site, gateway, lease), trio.Event()
    stop = machine(site).stop

    async def slow(workload: WorkloadId, *, grace_ms: int) -> Workload | None:
        if grace_ms == 30_000:
            begun.set()
            await trio.sleep_forever()
        return await stop(workload, grace_ms=grace_ms)

    monkeypatch.setattr(machine(site), "stop", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(client.stop, grace_ms=30_000))
        await begun.wait()
        site.chain.close(lease.id)
    assert machine(site).workloads == {}


async def test_a_grace_without_end_is_refused(site: Site, gateway: Gateway, lease: Lease) -> None:
    client = await handed_over(site, gateway, lease)
    with pytest.raises(Refused) as error:
        await client.stop(grace_ms=channel_bounds.STOP_GRACE_MS + 1)
    assert error.value.code == "close.grace"
    assert len(machine(site).workloads) == 1
