"""The handshake of the lease channel: who gets in, and that nothing can be replayed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.channels import (
    CHAIN,
    LEASE,
    PROVIDER,
    STRANGER,
    TENANT,
    client,
    code_of,
    lease,
    nonce,
    opened,
    server,
    shake,
)

from fondaco.protocol import codec, limits
from fondaco.protocol.channel import ClientSession
from fondaco.protocol.channel_events import Called, Failed, Opened
from fondaco.protocol.channel_frames import Accepted, Challenge, Credit, Data, End, Hello, Request
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.nonces import SeenNonces
from fondaco.protocol.records import Lease


def test_both_sides_prove_themselves_and_the_call_arrives() -> None:
    tenant, provider = client(), server()
    assert shake(tenant, provider, method="logs") == Called(method="logs", params=b"params")
    assert tenant.receive(provider.accept()) == (Opened(),)
    assert tenant.may_send
    assert provider.may_send


def test_a_lease_nobody_knows_is_refused_and_the_tenant_hears_why() -> None:
    tenant, provider = client(), server()
    provider.receive(tenant.hello())
    with pytest.raises(Refused) as error:
        provider.challenge(None)
    assert code_of(error) == "lease.unknown"
    (failed,) = tenant.receive(provider.fail(error.value))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, Refused)
    assert failed.error.code == "lease.unknown"
    assert tenant.receive(provider.fail(error.value)) == ()


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (lease(tenant=STRANGER.public_key), "lease.tenant"),
        (lease(provider=STRANGER.public_key), "lease.provider"),
    ],
)
def test_only_the_lease_s_own_tenant_and_provider_talk(record: Lease, code: str) -> None:
    tenant, provider = client(), server()
    provider.receive(tenant.hello())
    with pytest.raises(Refused) as error:
        provider.challenge(record)
    assert code_of(error) == code


def test_who_names_the_tenant_but_lacks_its_key_is_refused() -> None:
    provider = server()
    provider.receive(codec.encode(Hello(version=1, lease=LEASE, caller=TENANT.public_key, nonce=nonce(10))))
    provider.challenge(lease())
    forged = Request(proof=STRANGER.sign_bytes(b"anything"), method="status", params=b"")
    with pytest.raises(Refused) as error:
        provider.receive(codec.encode(forged))
    assert code_of(error) == "channel.proof"


def test_a_man_in_the_middle_has_other_peer_ids_and_fails() -> None:
    tenant, provider = client(), server(peer="middle")
    provider.receive(tenant.hello())
    with pytest.raises(Refused) as error:
        tenant.receive(provider.challenge(lease()))
    assert code_of(error) == "channel.proof"


def test_the_provider_checks_the_peer_ids_too() -> None:
    """A tenant that does not check still cannot be impersonated from another peer."""
    tenant = ClientSession(
        CHAIN,
        TENANT,
        lease=LEASE,
        provider=PROVIDER.public_key,
        tenant_peer="tenant",
        provider_peer="provider",
        nonce=nonce(10),
        check=lambda *_: True,
    )
    provider = server(peer="middle")
    provider.receive(tenant.hello())
    tenant.receive(provider.challenge(lease()))
    with pytest.raises(Refused) as error:
        provider.receive(tenant.request("status", b""))
    assert code_of(error) == "channel.proof"


def test_a_request_replayed_at_another_provider_is_worthless() -> None:
    tenant, provider, other = client(), server(), server(signer=STRANGER, own=20)
    hello = tenant.hello()
    provider.receive(hello)
    tenant.receive(provider.challenge(lease()))
    request = tenant.request("status", b"")
    other.receive(hello)
    other.challenge(lease(provider=STRANGER.public_key))
    with pytest.raises(Refused) as error:
        other.receive(request)
    assert code_of(error) == "channel.proof"


def test_a_request_replayed_on_another_stream_is_worthless() -> None:
    tenant, provider, later = client(), server(), server(own=21)
    hello = tenant.hello()
    provider.receive(hello)
    tenant.receive(provider.challenge(lease()))
    request = tenant.request("status", b"")
    later.receive(hello)
    later.challenge(lease())
    with pytest.raises(Refused) as error:
        later.receive(request)
    assert code_of(error) == "channel.proof"


def test_a_request_whose_method_or_parameters_were_changed_is_refused() -> None:
    for change in ({"method": "forward"}, {"params": b"other"}):
        tenant, provider = client(), server()
        provider.receive(tenant.hello())
        tenant.receive(provider.challenge(lease()))
        request = codec.decode(tenant.request("status", b""), Request)
        with pytest.raises(Refused) as error:
            provider.receive(codec.encode(replace(request, **change)))
        assert code_of(error) == "channel.proof"


def test_another_provider_s_answer_is_refused_by_the_tenant() -> None:
    tenant, provider = client(), server(signer=STRANGER)
    provider.receive(tenant.hello())
    with pytest.raises(Refused) as error:
        tenant.receive(provider.challenge(lease(provider=STRANGER.public_key)))
    assert code_of(error) == "channel.provider"


def test_the_provider_s_proof_cannot_be_turned_round_as_the_tenant_s() -> None:
    tenant, provider = client(), server()
    provider.receive(tenant.hello())
    challenge = codec.decode(provider.challenge(lease()), Challenge)
    with pytest.raises(Refused):
        provider.receive(codec.encode(Request(proof=challenge.proof, method="status", params=b"")))


def test_a_nonce_used_before_is_refused() -> None:
    seen = SeenNonces()
    shake(client(), server(seen=seen))
    tenant, provider = client(), server(seen=seen, own=21)
    provider.receive(tenant.hello())
    with pytest.raises(Refused) as error:
        provider.challenge(lease())
    assert code_of(error) == "channel.nonce"


def test_two_streams_racing_with_one_nonce_do_not_both_get_in() -> None:
    seen = SeenNonces()
    first, second = server(seen=seen), server(seen=seen, own=21)
    one, two = client(), client()
    for provider, tenant in ((first, one), (second, two)):
        provider.receive(tenant.hello())
        tenant.receive(provider.challenge(lease()))
    first.receive(one.request("status", b""))
    with pytest.raises(Refused) as error:
        second.receive(two.request("status", b""))
    assert code_of(error) == "channel.nonce"


def test_a_nonce_that_is_a_mirror_is_refused_by_both() -> None:
    tenant, provider = client(own=20), server(own=20)
    provider.receive(tenant.hello())
    with pytest.raises(Refused) as error:
        provider.challenge(lease())
    assert code_of(error) == "channel.nonce"
    mirror = Challenge(provider=PROVIDER.public_key, nonce=nonce(20), proof=PROVIDER.sign_bytes(b""))
    with pytest.raises(Refused) as error:
        tenant.receive(codec.encode(mirror))
    assert code_of(error) == "channel.nonce"


def test_seen_nonces_are_bounded_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHANNEL_NONCES", 2)
    seen = SeenNonces()
    for number in (1, 2, 3):
        seen.add(TENANT.public_key, nonce(number))
    seen.check(TENANT.public_key, nonce(1))
    with pytest.raises(Refused):
        seen.check(TENANT.public_key, nonce(2))


def test_another_version_is_refused() -> None:
    provider = server()
    with pytest.raises(Refused) as error:
        provider.receive(codec.encode(Hello(version=3, lease=LEASE, caller=TENANT.public_key, nonce=nonce(1))))
    assert code_of(error) == "channel.version"


@pytest.mark.parametrize("frame", [Accepted(), Data(data=b""), End(), Credit(size=1)])
def test_frames_out_of_order_are_a_fault(frame: object) -> None:
    tenant, provider = client(), server()
    tenant.hello()
    for session in (tenant, provider):
        with pytest.raises(PeerFault) as error:
            session.receive(codec.encode(frame))
        assert code_of(error) == "channel.sequence"


def test_handshake_frames_once_it_is_open_are_a_fault() -> None:
    tenant, provider = opened()
    for session in (tenant, provider):
        with pytest.raises(PeerFault):
            session.receive(codec.encode(Accepted()))


def test_a_frame_longer_than_its_moment_allows_is_a_fault() -> None:
    with pytest.raises(PeerFault) as error:
        server().receive(bytes(limits.CHANNEL_HELLO_BYTES + 1))
    assert code_of(error) == "channel.frame"


def test_bytes_that_are_no_frame_are_a_fault() -> None:
    with pytest.raises(PeerFault):
        server().receive(b"\xc1")
