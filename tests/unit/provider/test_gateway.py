"""Gateway and tenant client against each other, over real in-memory streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.support.providers import (
    OTHER,
    SEALING,
    FakeRuntime,
    MemoryStream,
    Site,
    hand_off,
    inline_threads,
    make_lease,
    make_order,
    manifest_group,
    open_site,
    resources,
    stream_pair,
    units_of,
    web,
)

from fondaco.node.keys.sealing import seal
from fondaco.protocol import limits
from fondaco.protocol.channel_calls import StatusRequest, Step
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.frames import frame
from fondaco.protocol.market import SignedReceipt
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.scalars import BlindingSalt
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway
from fondaco.provider.runtimes.port import Reason, workload_id


def machine(site: Site) -> FakeRuntime:
    assert isinstance(site.runtime, FakeRuntime)
    return site.runtime


@pytest.fixture
def jumping(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> object:
    inline_threads(monkeypatch)
    return autojump_clock  # pytest-trio takes the clock that a test asks for by value


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


@pytest.fixture
async def agent(site: Site) -> AsyncIterator[Agent]:
    async with site.running() as agent:
        yield agent


@pytest.fixture
def gateway(agent: Agent) -> Gateway:
    return Gateway(agent)


@pytest.fixture
def lease(site: Site) -> Lease:
    lease = make_lease(make_order())
    site.chain.put(lease)
    return lease


async def test_a_hand_off_runs_and_is_activated_and_every_step_is_told(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    client = site.client(gateway, lease)
    told = [progress async for progress in client.put_manifest(*hand_off(lease))]
    assert list(dict.fromkeys(progress.step for progress in told)) == [*Step]
    images = [progress.detail for progress in told if progress.step == Step.IMAGE]
    assert images[:2] == ["web:1", "web:1: 10.0 of 100.0 MiB"]
    assert len(images) == 11
    assert site.chain.leases[lease.id].state is LeaseState.ACTIVE
    status = await client.status()
    assert status.phase == "running"
    assert [(one.service, one.state, one.restarts) for one in status.services] == [("web", "running", 0)]


async def test_http_goes_through_the_channel(site: Site, gateway: Gateway, lease: Lease) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    answer = await client.http_get("web", 80, "/path")
    assert answer.status == 200
    assert answer.headers["x-served-by"] == "web"
    assert answer.body == b"you asked for /path"


async def test_a_forward_carries_megabytes_both_ways_and_respects_half_close(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    stream = await client.forward("web", 7)
    sent = bytes(range(256)) * 16_384
    received = bytearray()

    async def send() -> None:
        await stream.send_all(sent)
        await stream.send_eof()

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        async for data in stream:
            received += data
    assert bytes(received) == sent + b"bye"


async def test_logs_are_told_and_followed_until_the_workload_ends(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    assert [item.line async for item in client.logs()] == ["started"]
    assert [item.line async for item in client.logs("web", tail=1)] == ["started"]
    async with client.logs(follow=True) as lines:
        async for item in lines:
            assert (item.service, item.stream, item.line) == ("web", "out", "started")
            break


# --- Who gets in


async def refusal(site: Site, gateway: Gateway, lease: Lease, **who: object) -> str:
    client = site.client(gateway, lease, **who)  # type: ignore[arg-type]
    with pytest.raises(Refused) as error:
        await client.status()
    return error.value.code


async def test_a_stranger_is_refused(site: Site, gateway: Gateway, lease: Lease) -> None:
    assert await refusal(site, gateway, lease, signer=OTHER) == "lease.tenant"


async def test_a_tenant_seen_under_another_peer_id_is_refused(site: Site, gateway: Gateway, lease: Lease) -> None:
    assert await refusal(site, gateway, lease, seen_as="middle") == "channel.proof"


async def test_a_lease_of_another_provider_is_refused(site: Site, gateway: Gateway) -> None:
    lease = make_lease(make_order(salt=1), provider=OTHER)
    site.chain.put(lease)
    assert await refusal(site, gateway, lease) == "lease.provider"


async def test_a_tenant_that_expects_another_provider_refuses(site: Site, gateway: Gateway, lease: Lease) -> None:
    assert await refusal(site, gateway, lease, provider=OTHER) == "channel.provider"


async def test_a_lease_that_never_comes_is_unknown_after_a_while(
    site: Site, gateway: Gateway, jumping: object
) -> None:
    assert await refusal(site, gateway, make_lease(make_order(salt=1))) == "lease.unknown"


async def test_a_tenant_that_knows_its_lease_first_is_waited_for(site: Site, gateway: Gateway) -> None:
    lease = make_lease(make_order(salt=1))

    async def commit_later() -> None:
        await trio.testing.wait_all_tasks_blocked()
        site.chain.put(lease)

    site.nursery.start_soon(commit_later)
    assert (await site.client(gateway, lease).status()).phase == "waiting"


async def test_a_method_nobody_knows_is_refused(site: Site, gateway: Gateway, lease: Lease) -> None:
    with pytest.raises(Refused) as error:
        await site.client(gateway, lease).call("dance", StatusRequest())
    assert error.value.code == "channel.method"


async def test_parameters_that_do_not_decode_are_the_peer_s_fault(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    ours, theirs = stream_pair()

    async def call() -> None:
        client = site.client(gateway, lease)
        client._open_stream = lambda: returning(ours)
        with pytest.raises(Unreachable):
            await client.call("forward", StatusRequest())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        with pytest.raises(PeerFault):
            await gateway.serve(theirs)


async def returning(stream: MemoryStream) -> MemoryStream:
    await trio.lowlevel.checkpoint()
    return stream


async def test_a_peer_that_breaks_the_protocol_within_a_call_is_reported(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    ours, theirs = stream_pair()

    async def call() -> None:
        client = site.client(gateway, lease)
        client._open_stream = lambda: returning(ours)
        async for _ in client.put_manifest(*hand_off(lease)):
            break
        await ours.write(frame(b"\xc1"))

    site.chain.lose = 10**6
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        with pytest.raises(PeerFault):
            await gateway.serve(theirs)


async def test_garbage_instead_of_a_hello_is_reported(gateway: Gateway) -> None:
    ours, theirs = stream_pair()
    await ours.write(frame(b"garbage"))
    with pytest.raises(PeerFault):
        await gateway.serve(theirs)


async def test_a_peer_that_says_nothing_is_let_go(gateway: Gateway, jumping: object) -> None:
    ours, theirs = stream_pair()
    await gateway.serve(theirs)
    assert b"channel.timeout" in await ours.read()
    assert await ours.read() == b""


async def test_a_provider_that_says_nothing_is_unreachable(
    site: Site, lease: Lease, gateway: Gateway, jumping: object
) -> None:
    ours, _theirs = stream_pair()
    client = site.client(gateway, lease)
    client._open_stream = lambda: returning(ours)
    with pytest.raises(Unreachable) as error:
        await client.status()
    assert error.value.code == "channel.timeout"


async def test_one_peer_s_streams_are_bounded(
    site: Site, gateway: Gateway, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CHANNEL_STREAMS_PER_PEER", 0)
    with pytest.raises(Unreachable):
        await site.client(gateway, lease).status()


# --- Hand-offs that fail


async def put(site: Site, gateway: Gateway, lease: Lease, box: bytes, receipt: SignedReceipt) -> str:
    with pytest.raises(Refused) as error:
        async for _ in site.client(gateway, lease).put_manifest(box, receipt):
            pass
    return error.value.code


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


# --- While it runs


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
