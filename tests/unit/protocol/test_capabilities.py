"""Capability tokens: good for exactly what they say, in the hands of exactly whom they name."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.channels import (
    CHAIN,
    HOLDER,
    LEASE,
    PROVIDER,
    STRANGER,
    TENANT,
    capability,
    client,
    code_of,
    lease,
    nonce,
    server,
    signed,
)
from tests.support.messages import values

from fondaco.protocol import channel_bounds, channel_exec, codec
from fondaco.protocol import channel_calls as calls
from fondaco.protocol.capabilities import (
    GRANTABLE,
    Capability,
    Scope,
    SignedCapability,
    admit,
    capability_id,
    check_capability,
    identify,
    in_order,
    parse_scope,
)
from fondaco.protocol.channel import ClientSession, ServerSession
from fondaco.protocol.channel_events import Called, Greeted
from fondaco.protocol.channel_frames import Hello, Request, TokenRequest
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.nonces import SeenNonces
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.scalars import ChainId, LeaseId, Millis, Salt

NOW = Millis(1_500)
METHODS = (
    *GRANTABLE,
    calls.CLOSE,
    calls.REVOKE,
    "a_method_of_tomorrow",
)


def played(holder: ClientSession, provider: ServerSession, record: Lease | None = None) -> Called:
    """The handshake by a token."""
    provider.receive(holder.hello())
    holder.receive(provider.challenge(record or lease()))
    (called,) = provider.receive(holder.request("logs", b"params"))
    assert isinstance(called, Called)
    return called


def refused(token: SignedCapability, *, record: Lease | None = None, **who: Any) -> str:
    with pytest.raises(Refused) as error:
        identify(
            who.get("chain", CHAIN),
            token,
            lease=record or lease(),
            audience=who.get("audience", PROVIDER).public_key,
            holder=who.get("holder", HOLDER).public_key,
        )
    return code_of(error)


# --- The handshake


def test_a_holder_proves_its_own_key_and_the_token_comes_with_the_request() -> None:
    token = signed(capability())
    holder, provider = client(signer=HOLDER, token=token), server()
    assert provider.receive(holder.hello()) == (Greeted(lease=LEASE, caller=HOLDER.public_key),)
    holder.receive(provider.challenge(lease()))
    called = provider.receive(holder.request("logs", b"params"))
    assert called == (Called(method="logs", params=b"params", capability=token.capability),)


def test_a_token_in_other_hands_opens_nothing() -> None:
    thief = client(signer=STRANGER, token=signed(capability()))
    with pytest.raises(Refused) as error:
        played(thief, server())
    assert code_of(error) == "capability.holder"


def test_who_names_the_holder_but_lacks_its_key_is_refused() -> None:
    token, provider = signed(capability()), server()
    provider.receive(codec.encode(Hello(version=2, lease=LEASE, caller=HOLDER.public_key, nonce=nonce(1))))
    provider.challenge(lease())
    forged = TokenRequest(proof=STRANGER.sign_bytes(b"anything"), method="logs", params=b"", token=token)
    with pytest.raises(Refused) as error:
        provider.receive(codec.encode(forged))
    assert code_of(error) == "channel.proof"


def test_a_proof_is_for_the_token_it_was_made_with() -> None:
    """Another token of the same holder, which lets more through, cannot be put in its place on the way."""
    wider = signed(capability(scopes=(Scope(method="exec"),)))
    holder, provider = client(signer=HOLDER, token=signed(capability())), server()
    provider.receive(holder.hello())
    holder.receive(provider.challenge(lease()))
    request = codec.decode(holder.request("logs", b""), TokenRequest)
    with pytest.raises(Refused) as error:
        provider.receive(codec.encode(replace(request, token=wider)))
    assert code_of(error) == "channel.proof"


@pytest.mark.parametrize("version", [1, 2])
def test_a_hello_and_its_request_are_of_one_version(version: int) -> None:
    """A holder cannot come as a tenant half of the way, nor the other way round."""
    tenant, provider = client(), server()
    provider.receive(codec.encode(Hello(version=version, lease=LEASE, caller=TENANT.public_key, nonce=nonce(10))))
    tenant.hello()
    tenant.receive(provider.challenge(lease()))
    plain = codec.decode(tenant.request("logs", b""), Request)
    token = TokenRequest(proof=plain.proof, method="logs", params=b"", token=signed(capability()))
    with pytest.raises(PeerFault) as error:
        provider.receive(codec.encode(token if version == 1 else plain))
    assert code_of(error) == "channel.sequence"


def test_a_tenant_may_use_a_token_of_its_own_and_is_then_a_holder() -> None:
    token = signed(capability(holder=TENANT.public_key))
    assert played(client(token=token), server()).capability == token.capability


def test_without_a_token_a_stranger_is_refused_as_ever() -> None:
    provider = server()
    provider.receive(client(signer=HOLDER).hello())
    with pytest.raises(Refused) as error:
        provider.challenge(lease())
    assert code_of(error) == "lease.tenant"


def test_only_who_is_let_in_has_its_nonces_remembered() -> None:
    """Or anybody could push out those of tenants."""
    seen = SeenNonces()
    with pytest.raises(Refused):
        played(client(signer=STRANGER, token=signed(capability())), server(seen=seen))
    seen.check(STRANGER.public_key, nonce(10))
    played(client(signer=HOLDER, token=signed(capability())), server(seen=seen))
    with pytest.raises(Refused):
        seen.check(HOLDER.public_key, nonce(10))


# --- Whose, for whom, of what


def test_a_token_identifies_its_holder_at_its_provider_for_its_lease() -> None:
    token = signed(capability())
    identify(CHAIN, token, lease=lease(), audience=PROVIDER.public_key, holder=HOLDER.public_key)


def test_a_token_is_worthless_elsewhere() -> None:
    token = signed(capability())
    other = replace(lease(provider=STRANGER.public_key), id=LEASE)
    assert refused(token, audience=STRANGER) == "capability.audience"
    assert refused(token, record=other, audience=STRANGER) == "capability.audience"
    assert refused(token, record=other) == "capability.audience", "the lease went to another provider"
    assert refused(token, record=replace(lease(), id=LeaseId(b"M" * 32))) == "capability.lease"
    assert refused(token, chain=ChainId("other")) == "capability.signature"
    assert refused(token, holder=TENANT) == "capability.holder"
    assert refused(token, record=lease(tenant=STRANGER.public_key)) == "capability.signature"
    assert refused(signed(capability(), signer=HOLDER)) == "capability.signature"
    assert refused(token, record=replace(lease(), state=LeaseState.CLOSED)) == "lease.closed"


@given(data=st.data(), field=st.sampled_from([field.name for field in fields(Capability)]))
def test_a_token_with_any_field_changed_fails(data: st.DataObject, field: str) -> None:
    token = signed(capability())
    other = getattr(data.draw(values(Capability).filter(lambda one: one != token.capability)), field)
    changed = replace(token.capability, **{field: other})
    if changed == token.capability:
        return
    assert capability_id(CHAIN, changed) != capability_id(CHAIN, token.capability)
    code = refused(replace(token, capability=changed))
    assert code == f"capability.{field if field in ('lease', 'audience', 'holder') else 'signature'}"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"scopes": ()}, "capability.scopes"),
        ({"scopes": (Scope(method="status"), Scope(method="logs"))}, "capability.scopes"),
        ({"scopes": (Scope(method="logs"), Scope(method="logs"))}, "capability.scopes"),
        ({"scopes": tuple(Scope(method=f"m{n:02}") for n in range(17))}, "capability.scopes"),
        ({"expires_at": Millis(1_000)}, "capability.life"),
        ({"expires_at": Millis(1_001 + channel_bounds.CAPABILITY_LIFE_MS)}, "capability.life"),
    ],
)
def test_what_no_token_may_say_is_refused_though_it_is_signed(changes: dict[str, Any], code: str) -> None:
    assert refused(signed(capability(**changes))) == code
    longest = capability(expires_at=Millis(1_000 + channel_bounds.CAPABILITY_LIFE_MS))
    check_capability(longest)


# --- What it lets through


@pytest.mark.parametrize("granted", METHODS)
@pytest.mark.parametrize("method", METHODS)
def test_a_token_lets_the_methods_through_that_it_names_and_no_other(granted: str, method: str) -> None:
    token = capability(scopes=(Scope(method=granted),))
    if granted == method and method in GRANTABLE:
        admit(token, method, object(), now=NOW)
        return
    with pytest.raises(Refused) as error:
        admit(token, method, object(), now=NOW)
    assert code_of(error) == "capability.scope"


def logs(service: str) -> calls.LogsRequest:
    return calls.LogsRequest(service=service, tail=None, follow=False, previous=False)


def run(service: str) -> channel_exec.ExecRequest:
    return channel_exec.ExecRequest(service=service, replica=0, argv=(b"ls",), env=(), terminal=None)


@pytest.mark.parametrize(
    ("scope", "params", "lets"),
    [
        ("logs:web", logs("web"), True),
        ("logs:web", logs("api"), False),
        ("logs:web", logs(""), False),
        ("exec:web", run("web"), True),
        ("exec:web", run("api"), False),
        ("usage:web", calls.UsageRequest(service="web", follow=True), True),
        ("usage:web", calls.UsageRequest(service="", follow=True), False),
        ("forward:web", calls.ForwardRequest(service="web", port=22), True),
        ("forward:web:80", calls.ForwardRequest(service="web", port=80), True),
        ("forward:web:80", calls.ForwardRequest(service="web", port=22), False),
        ("forward:web:80", calls.ForwardRequest(service="api", port=80), False),
    ],
)
def test_a_scope_narrows_its_method_to_a_service_or_port(scope: str, params: object, lets: bool) -> None:
    found = parse_scope(scope)
    assert str(found) == scope
    if lets:
        admit(capability(scopes=(found,)), found.method, params, now=NOW)
        return
    with pytest.raises(Refused) as error:
        admit(capability(scopes=(found,)), found.method, params, now=NOW)
    assert code_of(error) == "capability.scope"


def test_a_method_that_cannot_say_what_a_scope_is_narrowed_to_is_not_let_through() -> None:
    for scope, params in (
        (Scope(method="status", service="web"), calls.StatusRequest()),
        (Scope(method="logs", port=80), logs("web")),
    ):
        with pytest.raises(Refused) as error:
            admit(capability(scopes=(scope,)), scope.method, params, now=NOW)
        assert code_of(error) == "capability.scope"


@pytest.mark.parametrize(
    "text",
    ["", "close", "revoke", "everything", "status:web", "logs:web:80", "exec:", "forward:web:0", "forward::80"],
)
def test_what_cannot_be_shared_cannot_be_written_down(text: str) -> None:
    with pytest.raises(Refused) as error:
        parse_scope(text)
    assert code_of(error) == "capability.scope"


def test_scopes_are_put_in_order_once() -> None:
    texts = ("logs:web", "forward:web:80", "logs", "forward:web", "logs")
    assert [str(one) for one in in_order(map(parse_scope, texts))] == [
        "forward:web",
        "forward:web:80",
        "logs",
        "logs:web",
    ]


def test_a_token_ends_by_block_time_and_does_not_begin_far_ahead_of_it() -> None:
    token = capability()
    admit(token, "status", calls.StatusRequest(), now=Millis(1_999))
    for now, code in ((2_000, "capability.expired"), (2_001, "capability.expired")):
        with pytest.raises(Refused) as error:
            admit(token, "status", calls.StatusRequest(), now=Millis(now))
        assert code_of(error) == code
    early = capability(issued_at=Millis(channel_bounds.CAPABILITY_EARLY_MS + 10), expires_at=Millis(10**9))
    admit(early, "status", calls.StatusRequest(), now=Millis(10))
    with pytest.raises(Refused) as error:
        admit(early, "status", calls.StatusRequest(), now=Millis(9))
    assert code_of(error) == "capability.early"


def test_two_tokens_for_the_same_are_told_apart() -> None:
    first, second = capability(), capability(salt=Salt(b"s" * 16))
    assert capability_id(CHAIN, first) != capability_id(CHAIN, second)
