"""The lease channel's sessions, played against each other without any stream."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.protocol import codec, limits
from fondaco.protocol.channel import (
    Called,
    Challenged,
    ClientSession,
    Credited,
    Ended,
    Failed,
    Greeted,
    Opened,
    Received,
    ServerSession,
    State,
    _Session,
)
from fondaco.protocol.channel_frames import DATA_BYTES, Accepted, Challenge, Credit, Data, End, Hello, Request
from fondaco.protocol.errors import FondacoError, PeerFault, Refused, Unreachable
from fondaco.protocol.nonces import SeenNonces
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.scalars import (
    ChainId,
    DeploymentId,
    GroupIndex,
    Hash,
    LeaseId,
    MicroCredits,
    Millis,
    PublicKey,
)
from fondaco.protocol.signing import Signer, verify

CHAIN = ChainId("test")
TENANT, PROVIDER, STRANGER = (Signer(bytes([number]) * 32) for number in (1, 2, 3))
LEASE = LeaseId(b"L" * 32)


def nonce(number: int) -> Hash:
    return Hash(bytes([number]) * 32)


def lease(*, tenant: PublicKey = TENANT.public_key, provider: PublicKey = PROVIDER.public_key) -> Lease:
    return Lease(
        id=LEASE,
        deployment=DeploymentId(b"D" * 32),
        group=GroupIndex(0),
        tenant=tenant,
        provider=provider,
        price_per_hour=MicroCredits(1),
        units=(),
        commitment=nonce(9),
        version=1,
        reclamation_window_ms=Millis(0),
        state=LeaseState.AWAITING,
        opened_at=Millis(0),
        activated_at=None,
        active_ms=Millis(0),
        accrued_to=Millis(0),
        reading=Millis(0),
        paid=MicroCredits(0),
        debt=MicroCredits(0),
        reclamation=None,
        closed_at=None,
        reason=None,
    )


def client(
    *, signer: Signer = TENANT, provider: Signer = PROVIDER, peer: str = "provider", own: int = 10
) -> ClientSession:
    return ClientSession(
        CHAIN,
        signer,
        lease=LEASE,
        provider=provider.public_key,
        tenant_peer="tenant",
        provider_peer=peer,
        nonce=nonce(own),
    )


def server(
    *, signer: Signer = PROVIDER, peer: str = "tenant", own: int = 20, seen: SeenNonces | None = None
) -> ServerSession:
    return ServerSession(
        CHAIN,
        signer,
        tenant_peer=peer,
        provider_peer="provider",
        nonce=nonce(own),
        seen=SeenNonces() if seen is None else seen,
    )


def shake(
    tenant: ClientSession, provider: ServerSession, *, record: Lease | None = None, method: str = "status"
) -> Called:
    """Play the handshake up to the request."""
    assert provider.receive(tenant.hello()) == (Greeted(lease=LEASE, tenant=TENANT.public_key),)
    assert tenant.receive(provider.challenge(lease() if record is None else record)) == (Challenged(),)
    (called,) = provider.receive(tenant.request(method, b"params"))
    assert isinstance(called, Called)
    return called


def opened() -> tuple[ClientSession, ServerSession]:
    tenant, provider = client(), server()
    shake(tenant, provider)
    assert tenant.receive(provider.accept()) == (Opened(),)
    return tenant, provider


def code_of(error: pytest.ExceptionInfo[FondacoError]) -> str:
    return error.value.code


# --- Handshake


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
    provider.receive(codec.encode(Hello(version=1, lease=LEASE, tenant=TENANT.public_key, nonce=nonce(10))))
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
        provider.receive(codec.encode(Hello(version=2, lease=LEASE, tenant=TENANT.public_key, nonce=nonce(1))))
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


# --- Data


def test_data_flows_both_ways_and_each_direction_ends_by_itself() -> None:
    tenant, provider = opened()
    assert provider.receive(tenant.data(b"question")) == (Received(data=b"question"),)
    assert provider.receive(tenant.end()) == (Ended(),)
    assert not tenant.may_send
    assert provider.may_send
    assert tenant.receive(provider.data(b"answer")) == (Received(data=b"answer"),)
    assert tenant.receive(provider.end()) == (Ended(),)
    assert tenant.state is State.OVER
    assert provider.state is State.OVER
    assert provider.receive(codec.encode(Credit(size=1))) == ()


def test_data_after_the_end_is_a_fault() -> None:
    tenant, provider = opened()
    late = tenant.data(b"late")
    provider.receive(tenant.end())
    with pytest.raises(PeerFault):
        provider.receive(late)


def test_a_sender_stops_without_credit_and_goes_on_once_it_was_given_back() -> None:
    tenant, provider = opened()
    sent = []
    while tenant.may_send:
        sent.append(tenant.data(bytes(DATA_BYTES)))
    assert len(sent) == 2
    credits = []
    for frame in sent:
        (event,) = provider.receive(frame)
        assert isinstance(event, Received)
        credits.append(provider.consumed(event.data))
    assert any(credits)
    for credit in filter(None, credits):
        assert tenant.receive(credit) == (Credited(),)
    assert tenant.may_send


def test_a_peer_that_sends_beyond_its_credit_is_at_fault() -> None:
    _, provider = opened()
    frame = codec.encode(Data(data=bytes(DATA_BYTES)))
    for _ in range(2):
        provider.receive(frame)
    with pytest.raises(PeerFault) as error:
        provider.receive(frame)
    assert code_of(error) == "channel.window"


def test_a_flood_of_empty_frames_uses_credit_up() -> None:
    _, provider = opened()
    frame = codec.encode(Data(data=b""))
    for _ in range(limits.CHANNEL_WINDOW_BYTES // limits.CHANNEL_ITEM_OVERHEAD_BYTES):
        provider.receive(frame)
    with pytest.raises(PeerFault):
        provider.receive(frame)


def test_a_peer_that_gives_back_more_credit_than_was_spent_is_at_fault() -> None:
    tenant, _ = opened()
    with pytest.raises(PeerFault) as error:
        tenant.receive(codec.encode(Credit(size=1)))
    assert code_of(error) == "channel.window"


def test_credit_is_not_given_for_a_direction_that_has_ended() -> None:
    tenant, provider = opened()
    frames = [tenant.data(bytes(DATA_BYTES)) for _ in range(2)]
    chunks = [event.data for frame in frames for event in provider.receive(frame) if isinstance(event, Received)]
    provider.receive(tenant.end())
    assert [provider.consumed(chunk) for chunk in chunks] == [None, None]


def test_a_failure_ends_the_call_and_keeps_its_kind() -> None:
    tenant, provider = opened()
    (failed,) = tenant.receive(provider.fail(Unreachable("forward.broken", "x" * 9_000, hint="ü" * 9_000)))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, Unreachable)
    assert len(failed.error.message) == limits.TEXT_BYTES // 4
    assert tenant.state is State.OVER
    assert not tenant.may_send


def test_the_base_session_has_no_handshake_of_its_own() -> None:
    session = _Session(CHAIN, TENANT, tenant_peer="", provider_peer="", nonce=nonce(1), check=verify)
    with pytest.raises(NotImplementedError):
        session.receive(codec.encode(Accepted()))


@given(st.binary(max_size=300))
def test_no_bytes_reach_an_assertion(data: bytes) -> None:
    for session in (server(), opened()[0], opened()[1]):
        with contextlib.suppress(PeerFault, Refused):
            session.receive(data)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, DATA_BYTES)), max_size=40))
def test_unread_data_never_exceeds_the_window_and_one_frame(steps: list[tuple[bool, int]]) -> None:
    """Whatever the pattern of sending and reading, and every byte arrives."""
    tenant, provider = opened()
    unread: list[bytes] = []
    for reads, size in steps:
        if reads and unread:
            credit = provider.consumed(unread.pop(0))
            if credit:
                tenant.receive(credit)
        elif tenant.may_send:
            (event,) = provider.receive(tenant.data(bytes(size)))
            assert isinstance(event, Received)
            unread.append(event.data)
        assert sum(map(len, unread)) <= limits.CHANNEL_WINDOW_BYTES + DATA_BYTES
