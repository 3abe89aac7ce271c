"""Gateway and tenant client against each other, over real in-memory streams: calls, and who gets in."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from tests.support.providers import (
    OTHER,
    MemoryStream,
    Site,
    hand_off,
    make_lease,
    make_order,
    stream_pair,
)

from fondaco.protocol import limits
from fondaco.protocol.channel_calls import StatusRequest, Step
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.frames import frame
from fondaco.protocol.records import Lease, LeaseState
from fondaco.provider.gateway import Gateway


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
