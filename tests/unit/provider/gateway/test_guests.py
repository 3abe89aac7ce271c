"""Who calls by a token: as far as it goes, until it ends, and not a moment after it is revoked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio
from tests.support.providers import CHAIN, OTHER, PROVIDER, TENANT, MemoryStream, Site, hand_off, stream_pair
from tests.unit.provider.gateway.conftest import machine

from fondaco.node.tenant.channel import ChannelClient
from fondaco.protocol import channel_bounds, codec, limits
from fondaco.protocol import channel_calls as calls
from fondaco.protocol.capabilities import (
    GRANTABLE,
    Capability,
    Scope,
    SignedCapability,
    capability_id,
    in_order,
    parse_scope,
)
from fondaco.protocol.channel_calls import Revocation
from fondaco.protocol.channel_exec import ExecRequest
from fondaco.protocol.channel_frames import Hello, failure
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.frames import FrameReader, frame
from fondaco.protocol.records import Lease
from fondaco.protocol.scalars import Hash, Millis, Salt
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway
from fondaco.provider.revocations import Revocations
from fondaco.provider.runtimes.port import workload_id

PARAMS: dict[str, object] = {
    "status": calls.StatusRequest(),
    "logs": calls.LogsRequest(service="", tail=None, follow=False, previous=False),
    "events": calls.EventsRequest(after=0, follow=False),
    "usage": calls.UsageRequest(service="", follow=False),
    "forward": calls.ForwardRequest(service="web", port=7),
    "exec": ExecRequest(service="nothing", replica=0, argv=(b"ls",), env=(), terminal=None),
    "get_manifest": calls.GetManifest(),
    "attestation": calls.AttestationRequest(nonce=Hash(bytes(32))),
    "close": calls.CloseRequest(grace_ms=Millis(0)),
    "revoke": calls.RevokeRequest(tokens=(), before=Millis(0)),
}


def token(site: Site, lease: Lease, *scopes: str, salt: int = 0, **changes: Any) -> SignedCapability:
    """For OTHER, for a minute."""
    found = Capability(
        lease=lease.id,
        audience=PROVIDER.public_key,
        holder=OTHER.public_key,
        scopes=in_order(map(parse_scope, scopes)),
        issued_at=site.chain.time,
        expires_at=Millis(site.chain.time + 60_000),
        salt=Salt(bytes([salt]) * 16),
    )
    found = replace(found, **changes)
    return SignedCapability(capability=found, signature=TENANT.sign(CHAIN, found))


def holder(site: Site, gateway: Gateway, lease: Lease, given: SignedCapability) -> ChannelClient:
    return site.client(gateway, lease, signer=OTHER, token=given)


def named(given: SignedCapability) -> Revocation:
    return Revocation(token=capability_id(CHAIN, given.capability), expires_at=given.capability.expires_at)


async def handed_over(site: Site, gateway: Gateway, lease: Lease) -> ChannelClient:
    """The tenant's client, once the lease runs."""
    tenant = site.client(gateway, lease)
    async for _ in tenant.put_manifest(*hand_off(lease)):
        pass
    return tenant


async def outcome(client: ChannelClient, method: str, lease: Lease) -> str:
    """The code with which a call is refused; `accepted` if it is not."""
    box, receipt = hand_off(lease)
    params = {"put_manifest": calls.PutManifest(sealed=box, receipt=receipt)} | PARAMS
    try:
        duplex = await client.call(method, params[method])
    except (Refused, Unreachable) as error:
        return error.code
    await duplex.aclose()
    return "accepted"


async def test_every_method_is_let_through_by_its_own_scope_alone(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    """Over all that this gateway serves: a new method is in this table, and in no token."""
    await handed_over(site, gateway, lease)
    for granted in sorted(GRANTABLE.keys() | set(gateway.methods)):
        given = token(site, lease, scopes=(Scope(method=granted),))
        client = holder(site, gateway, lease, given)
        for method in gateway.methods:
            code = await outcome(client, method, lease)
            let_in = code != "capability.scope"
            assert let_in is (method == granted and method in GRANTABLE), (granted, method, code)


async def test_what_ends_or_hands_on_a_lease_is_its_tenants_alone(gateway: Gateway) -> None:
    assert set(gateway.methods) - GRANTABLE.keys() == {"close", "revoke"}
    assert GRANTABLE.keys() <= set(gateway.methods)


async def test_a_holder_uses_what_it_was_given(site: Site, gateway: Gateway, lease: Lease) -> None:
    await handed_over(site, gateway, lease)
    client = holder(site, gateway, lease, token(site, lease, "status", "logs:web", "forward:web:80"))
    assert (await client.status()).phase == "running"
    assert [item.line async for item in client.logs("web")] == ["started"]
    assert (await client.http_get("web", 80)).status == 200
    for refused in (client.logs().__anext__, lambda: client.forward("web", 7), client.events().__anext__):
        with pytest.raises(Refused) as error:
            await refused()
        assert error.value.code == "capability.scope"


async def test_neither_without_the_key_nor_without_the_token(site: Site, gateway: Gateway, lease: Lease) -> None:
    given = token(site, lease, "status")
    for client, code in (
        (site.client(gateway, lease, signer=PROVIDER, token=given), "capability.holder"),
        (site.client(gateway, lease, signer=OTHER), "lease.tenant"),
        (
            holder(site, gateway, lease, replace(given, signature=OTHER.sign(CHAIN, given.capability))),
            "capability.signature",
        ),
    ):
        with pytest.raises(Refused) as error:
            await client.status()
        assert error.value.code == code


async def test_a_token_expires_by_block_time_also_within_a_call(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    await handed_over(site, gateway, lease)
    client = holder(site, gateway, lease, token(site, lease, "status", "logs"))
    async with client.logs(follow=True) as lines:
        assert (await lines.__anext__()).line == "started"
        site.chain.block(ms=59_000)
        await client.status()
        site.chain.block(ms=1_000)
        with pytest.raises(Refused) as error:
            await lines.__anext__()
        assert error.value.code == "capability.expired"
    with pytest.raises(Refused) as error:
        await client.status()
    assert error.value.code == "capability.expired"


async def test_a_revoked_token_is_refused_and_its_open_calls_are_cut_off_at_once(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    tenant = await handed_over(site, gateway, lease)
    given, other = token(site, lease, "logs", "forward", "status"), token(site, lease, "logs", salt=1)
    client, spared = holder(site, gateway, lease, given), holder(site, gateway, lease, other)
    lines, kept = client.logs(follow=True), spared.logs(follow=True)
    own = tenant.logs(follow=True)
    for each in (lines, kept, own):
        await each.__anext__()
    stream = await client.forward("web", 7)
    await stream.send_all(b"hello")
    assert await stream.receive_some() == b"hello"
    assert (await tenant.revoke([named(given)])).calls_ended == 2
    with pytest.raises(Refused) as error:
        await lines.__anext__()
    assert error.value.code == "capability.revoked"
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    with pytest.raises(Refused) as error:
        await client.status()
    assert error.value.code == "capability.revoked"
    machine(site).end(workload_id(lease.id, "web"), 0)
    for each in (kept, own):
        assert [line async for line in each] == [], "they went on until the workload ended"
    told = [event async for event in tenant.events() if event.kind == "revoked"]
    assert [event.detail for event in told] == [capability_id(CHAIN, given.capability).hex()[:12]]


async def test_all_that_were_issued_until_now_are_revoked_and_those_made_after_are_good(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    tenant = await handed_over(site, gateway, lease)
    old = token(site, lease, "status")
    moment = Millis(site.chain.time + 1)
    assert (await tenant.revoke([], before=moment)).calls_ended == 0
    with pytest.raises(Refused) as error:
        await holder(site, gateway, lease, old).status()
    assert error.value.code == "capability.revoked"
    new = token(site, lease, "status", issued_at=moment)
    await holder(site, gateway, lease, new).status()
    await tenant.revoke([], before=Millis(1))
    with pytest.raises(Refused):
        await holder(site, gateway, lease, old).status()


async def test_what_was_revoked_stays_so_over_a_crash(site: Site, lease: Lease) -> None:
    given = token(site, lease, "status")
    async with site.running() as agent:
        tenant = await handed_over(site, Gateway(agent), lease)
        await tenant.revoke([named(given)])
    async with site.running() as agent:
        gateway = Gateway(agent)
        with pytest.raises(Refused) as error:
            await holder(site, gateway, lease, given).status()
        assert error.value.code == "capability.revoked"
        assert agent.revocations.kept() == [lease.id]
        agent.revocations.forget(lease.id)
        assert agent.revocations.kept() == []


async def test_with_its_lease_a_token_ends(site: Site, gateway: Gateway, lease: Lease) -> None:
    await handed_over(site, gateway, lease)
    client = holder(site, gateway, lease, token(site, lease, "events", "status"))
    site.chain.close(lease.id)
    with pytest.raises(Refused) as error:
        await client.status()
    assert error.value.code == "lease.closed"


async def test_revocations_are_bounded_and_the_way_out_is_told(
    site: Site, gateway: Gateway, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_bounds, "REVOCATIONS_PER_LEASE", 2)
    tenant = await handed_over(site, gateway, lease)
    names = [Revocation(token=Hash(bytes([n]) * 32), expires_at=Millis(site.chain.time + 1_000)) for n in range(3)]
    await tenant.revoke(names[:2])
    for tokens, before, code in (
        (names[2:], 0, "capability.full"),
        (names * channel_bounds.REVOCATIONS, 0, "capability.full"),
        ([], site.chain.time + channel_bounds.CAPABILITY_EARLY_MS + 1, "capability.time"),
    ):
        with pytest.raises(Refused) as error:
            await tenant.revoke(tokens, before=Millis(before))
        assert error.value.code == code
    site.chain.block(ms=1_000)
    await tenant.revoke([replace(names[2], expires_at=Millis(site.chain.time + 1))])


async def test_a_file_that_cannot_be_read_lets_nobody_in_until_all_are_revoked_anew(
    site: Site, lease: Lease
) -> None:
    async with site.running() as agent:
        tenant = await handed_over(site, Gateway(agent), lease)
        await tenant.revoke([], before=Millis(1))
        path = agent.revocations._path(lease.id)
        assert path.stat().st_mode & 0o77 == 0
    path.write_bytes(b"nonsense")
    async with site.running() as agent:
        gateway = Gateway(agent)
        tenant, given = site.client(gateway, lease), token(site, lease, "status")
        with pytest.raises(Refused) as error:
            await holder(site, gateway, lease, given).status()
        assert error.value.code == "capability.revoked"
        with pytest.raises(Refused) as error:
            await tenant.revoke([named(given)])
        assert (error.value.code, error.value.hint) == ("capability.full", "revoke all tokens")
        await tenant.revoke([], before=Millis(2))
        await holder(site, gateway, lease, given).status()


async def test_a_disk_that_takes_nothing_is_said_and_nothing_is_revoked(
    site: Site, agent: Agent, lease: Lease
) -> None:
    agent.revocations = Revocations(site.home / "gone")
    gateway = Gateway(agent)
    tenant, given = await handed_over(site, gateway, lease), token(site, lease, "status")
    (site.home / "gone").rmdir()
    with pytest.raises(Refused) as error:
        await tenant.revoke([named(given)])
    assert error.value.code == "provider.disk"
    await holder(site, gateway, lease, given).status()


async def test_what_a_provider_of_before_tokens_says_is_told_in_words(
    site: Site, gateway: Gateway, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the hello of version 2, which looks as ever, and denies it by name."""
    ours, theirs = stream_pair()
    client = holder(site, gateway, lease, token(site, lease, "status"))
    monkeypatch.setattr(client, "_open_stream", lambda: returning(ours))

    async def old_provider() -> None:
        (hello,) = FrameReader(limit=limits.CHANNEL_HELLO_BYTES).feed(await theirs.read())
        said = codec.decode(hello, Hello)
        assert (said.version, said.caller) == (2, OTHER.public_key)
        denial = Refused("channel.version", "the tenant speaks version 2, we speak 1")
        await theirs.write(frame(codec.encode(failure(denial))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(old_provider)
        with pytest.raises(Refused) as error:
            await client.status()
    assert error.value.code == "capability.unsupported"


async def returning(stream: MemoryStream) -> MemoryStream:
    return stream
