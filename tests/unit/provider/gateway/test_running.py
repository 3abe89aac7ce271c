"""While a lease runs: restarts, events, usage, and streams that end or are slow."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from tests.support.providers import (
    Site,
    hand_off,
    make_lease,
    make_order,
)
from tests.unit.provider.gateway.conftest import machine, put

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.records import Lease, LeaseState
from fondaco.provider.gateway import Gateway
from fondaco.provider.runtimes.port import Reason, workload_id


async def test_what_ends_is_started_again_and_counted(
    site: Site, gateway: Gateway, lease: Lease, jumping: object
) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    machine(site).end(workload_id(lease.id, "web"), 137, Reason.MEMORY)
    (service,) = (await client.status()).services
    assert (service.state, service.exit_code, service.last_end) == ("exited", 137, "")
    await trio.sleep(2)
    (service,) = (await client.status()).services
    assert (service.state, service.restarts) == ("running", 1)
    assert service.last_end == "exit code 137, out of memory"


async def test_everything_that_happens_to_a_lease_is_told_also_after_a_restart_and_its_end(
    site: Site, lease: Lease, jumping: object
) -> None:
    async with site.running() as agent:
        client = site.client(Gateway(agent), lease)
        async for _ in client.put_manifest(*hand_off(lease)):
            pass
        machine(site).end(workload_id(lease.id, "web"), 137)
        await trio.sleep(5)
        machine(site).end(workload_id(lease.id, "web"), 0)
        await trio.sleep(5)
    heard: list[tuple[str, str, int | None]] = []
    async with site.running() as agent:
        gateway = Gateway(agent)
        client = site.client(gateway, lease)

        async def follow() -> None:
            heard.extend([(one.kind, one.service, one.code) async for one in client.events(follow=True)])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.sleep(1)
            site.chain.close(lease.id)
        told = [one async for one in client.events()]
        later = [one.number async for one in client.events(after=told[-1].number - 2)]
    assert [(one.kind, one.service, one.code) for one in told] == heard
    assert later == [told[-2].number, told[-1].number]
    assert heard == [
        *[(kind, "", None) for kind in ("handed_over", "image")],
        ("started", "web", None),
        *[(kind, "", None) for kind in ("probing", "activating", "running")],
        *(("exited", "web", 137), ("paused", "web", None), ("started", "web", None)),
        *(("exited", "web", 0), ("paused", "web", None), ("started", "web", None)),
        *[(kind, "", None) for kind in ("adopted", "probing", "activating", "running")],
        ("stopped", "web", None),
        ("closed", "", None),
    ]
    details = {one.kind: one.detail for one in told}
    assert details["paused"] == "started again in 2 s"
    assert details["closed"] == "closed_by_tenant (0, the tenant)"
    assert next(one for one in told if one.code == 137).detail.startswith("killed")


async def test_a_hand_off_that_fails_says_why_among_the_events(site: Site, gateway: Gateway, lease: Lease) -> None:
    machine(site).broken = {"web"}
    await put(site, gateway, lease, *hand_off(lease))
    told = [(one.kind, one.detail) async for one in site.client(gateway, lease).events()]
    assert told[-1] == ("failed", "the sandbox failed [runtime.start]")


async def test_usage_counts_what_runs_and_what_was_carried_and_follows(
    site: Site, gateway: Gateway, lease: Lease, jumping: object
) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    (before,) = [one async for one in client.usage()]
    answer = await client.http_get("web", 80, "/path")
    async with client.usage("web", follow=True) as items:
        first, second = [await anext(items) for _ in range(2)]
        machine(site).end(workload_id(lease.id, "web"), 0)
        third = await anext(items)  # once it runs again
    assert (first.service, first.cpu_ms, first.processes) == ("web", 20, 1)
    assert second.time >= first.time
    assert third.sent_bytes == first.sent_bytes
    assert (before.received_bytes, before.sent_bytes) == (100, 1_000)
    assert first.sent_bytes > before.sent_bytes + len(answer.body)
    assert first.received_bytes > before.received_bytes + len("GET /path")
    with pytest.raises(Refused, match=r"workload\.unknown"):
        await anext(client.usage("db"))


async def test_what_does_not_start_again_is_tried_again(
    site: Site, gateway: Gateway, lease: Lease, jumping: object
) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    machine(site).broken = {"web"}
    machine(site).end(workload_id(lease.id, "web"), 1)
    await trio.sleep(10)
    assert (await client.status()).services == ()
    machine(site).broken = set()
    await trio.sleep(60)
    assert (await client.status()).services[0].state == "running"


async def test_a_paid_workload_that_cannot_be_brought_back_ends_its_lease(site: Site, jumping: object) -> None:
    lease = make_lease(make_order(salt=1))
    site.chain.put(lease)
    async with site.running() as agent:
        async for _ in site.client(Gateway(agent), lease).put_manifest(*hand_off(lease)):
            pass
    await machine(site).stop(workload_id(lease.id, "web"))
    machine(site).broken = {"web"}
    async with site.running():
        await trio.sleep(60)
    closed = site.chain.leases[lease.id]
    assert (closed.state, closed.reason) == (LeaseState.CLOSED, 10_000)


async def test_followers_of_one_lease_are_bounded(
    site: Site, gateway: Gateway, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOG_FOLLOWERS_PER_LEASE", 1)
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    async with client.logs(follow=True) as lines:
        await anext(lines)
        with pytest.raises(Refused) as error:
            await anext(client.logs(follow=True))
    assert error.value.code == "lease.followers"


async def test_what_is_not_there_is_refused_by_name(site: Site, gateway: Gateway, lease: Lease) -> None:
    client = site.client(gateway, lease)
    with pytest.raises(Refused):
        await anext(client.logs())
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    with pytest.raises(Refused) as error:
        await anext(client.logs("db"))
    assert error.value.code == "workload.unknown"
    with pytest.raises(Refused) as error:
        await client.forward("db", 80)
    assert error.value.code == "workload.unknown"
    with pytest.raises(Refused) as error:
        await client.forward("web", 5432)
    assert error.value.code == "workload.dial"


async def test_http_that_is_no_http_and_paths_that_are_none_are_refused(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    with pytest.raises(Refused) as error:
        await client.http_get("web", 7, "/")
    assert error.value.code == "http.malformed"
    with pytest.raises(Refused) as error:
        await client.http_get("web", 80, "no path\n")
    assert error.value.code == "http.path"


async def test_a_forward_ends_when_the_tenant_goes_away(site: Site, gateway: Gateway, lease: Lease) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    stream = await client.forward("web", 7)
    await stream.send_all(b"hello")
    assert await stream.receive_some(2) == b"he"
    assert await stream.receive_some() == b"llo"
    await stream.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"more")
    with trio.fail_after(5):
        while gateway._open:
            await trio.sleep(0.001)


async def test_a_slow_reader_holds_the_sender_up_and_loses_nothing(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    stream = await client.forward("web", 7)
    sent = 0
    with trio.move_on_after(0.2):
        while True:
            await stream.send_all(bytes(65_536))
            sent += 65_536
    # The echo's way back fills up first: what is under way is bounded by credit both ways and by socket buffers.
    assert sent < 8 * limits.CHANNEL_WINDOW_BYTES
    await stream.aclose()


async def test_a_provider_that_is_still_starting_says_so(site: Site, lease: Lease) -> None:
    gateway = Gateway(site.agent())
    with pytest.raises(Unreachable) as error:
        await site.client(gateway, lease).status()
    assert error.value.code == "provider.starting"
