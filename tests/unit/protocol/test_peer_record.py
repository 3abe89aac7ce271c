"""Signed peer records: made and read as libp2p does, bounded, and forged by nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.envelope import consume_envelope, seal_record
from libp2p.peer.id import ID
from libp2p.peer.peer_record import PeerRecord as TheirRecord
from multiaddr import Multiaddr

from fondaco.node.network.peers import peer_id_of
from fondaco.protocol import multiaddr, peer_record
from fondaco.protocol.base58 import unbase58
from fondaco.protocol.errors import FondacoError, Malformed, PeerFault, Refused
from fondaco.protocol.gossip.protobuf import field, varint
from fondaco.protocol.peer_record import identity_of, open_record, seal, signed_bytes
from fondaco.protocol.signing import Signer

SEED = bytes(range(32))
SIGNER = Signer(SEED)
PEER = peer_id_of(SIGNER.public_key)
ADDRESSES = ["/ip4/203.0.113.7/tcp/4001", "/ip6/2001:db8::1/tcp/0", f"/ip4/8.8.8.8/tcp/1/p2p/{PEER}/p2p-circuit"]


def envelope(key: bytes, payload: bytes, *, signer: Signer = SIGNER, kind: bytes = b"\x03\x01") -> bytes:
    signature = signer.sign_bytes(signed_bytes(payload, payload_type=kind))
    return field(1, key) + field(2, kind) + field(3, payload) + field(5, signature)


def payload(seq: int = 1, addresses: int = 0, identity: bytes = identity_of(SIGNER.public_key)) -> bytes:
    return field(1, identity) + b"\x10" + varint(seq) + field(3, field(1, b"\x06\x00\x01")) * addresses


KEY = b"\x08\x01\x12\x20" + SIGNER.public_key


# libp2p's own


def test_py_libp2p_reads_what_we_seal() -> None:
    _, record = consume_envelope(seal(SIGNER, 7, ADDRESSES), "libp2p-peer-record")
    assert record.peer_id.to_base58() == PEER
    assert record.seq == 7
    assert [str(one) for one in record.addrs] == ADDRESSES


def test_we_read_what_py_libp2p_seals() -> None:
    keys = create_new_key_pair(SEED)
    theirs = TheirRecord(ID.from_pubkey(keys.public_key), [Multiaddr(one) for one in ADDRESSES], 2**62)
    record = open_record(seal_record(theirs, keys.private_key).marshal_envelope())
    assert record.public_key == SIGNER.public_key
    assert record.seq == 2**62
    assert list(record.texts()) == ADDRESSES


def test_both_make_the_same_bytes() -> None:
    keys = create_new_key_pair(SEED)
    theirs = TheirRecord(ID.from_pubkey(keys.public_key), [Multiaddr(one) for one in ADDRESSES], 9)
    assert seal_record(theirs, keys.private_key).marshal_envelope() == seal(SIGNER, 9, ADDRESSES)


def test_a_record_stays_readable_though_an_address_in_it_is_of_another_transport() -> None:
    keys = create_new_key_pair(SEED)
    odd = Multiaddr("/ip4/8.8.8.8/udp/4001/quic-v1")
    theirs = TheirRecord(ID.from_pubkey(keys.public_key), [odd, Multiaddr(ADDRESSES[0])], 9)
    record = open_record(seal_record(theirs, keys.private_key).marshal_envelope())
    assert len(record.addresses) == 2
    assert list(record.texts()) == ADDRESSES[:1]


# Faults and bounds


def test_every_changed_byte_is_noticed() -> None:
    data = seal(SIGNER, 7, ADDRESSES[:1])
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(FondacoError):
            open_record(changed)


def test_what_another_key_signed_is_a_fault() -> None:
    with pytest.raises(PeerFault, match=r"record\.signature"):
        open_record(envelope(KEY, payload(), signer=Signer(bytes(32))))


def test_a_signature_for_another_purpose_is_a_fault() -> None:
    signature = SIGNER.sign_bytes(signed_bytes(payload(), domain=b"something-else"))
    with pytest.raises(PeerFault, match=r"record\.signature"):
        open_record(field(1, KEY) + field(2, b"\x03\x01") + field(3, payload()) + field(5, signature))


def test_a_record_in_the_name_of_another_peer_is_a_fault() -> None:
    other = identity_of(Signer(bytes(32)).public_key)
    with pytest.raises(PeerFault, match=r"record\.identity"):
        open_record(envelope(KEY, payload(identity=other)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        envelope(KEY, payload(), kind=b"\x03\x02"),
        envelope(KEY, b"\x08\x01"),
        envelope(KEY, payload() + b"\x18\x01"),
        seal(SIGNER, 1, [])[:-1],
    ],
)
def test_what_is_no_record_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match=r"record\.malformed"):
        open_record(data)


@pytest.mark.parametrize(
    "data",
    [bytes(peer_record.RECORD_BYTES + 1), envelope(KEY, payload(addresses=17)), envelope(KEY, payload(2**63))],
)
def test_what_breaks_a_bound_is_refused_without_blame(data: bytes) -> None:
    with pytest.raises(Refused, match=r"record\.size"):
        open_record(data)


@pytest.mark.parametrize("key", [b"", b"\x08\x00\x12\x20" + bytes(32), KEY + b"\0"])
def test_other_keys_than_ed25519_are_refused_without_blame(key: bytes) -> None:
    with pytest.raises(Refused, match=r"record\.key"):
        open_record(envelope(key, payload()))


def test_unknown_fields_are_skipped() -> None:
    data = envelope(KEY, payload(5, 1) + b"\x20\x01" + field(9, b"x")) + field(4, b"x") + b"\x30\x01"
    assert open_record(data).seq == 5


@pytest.mark.parametrize(("seq", "count"), [(-1, 0), (2**63, 0), (0, 17)])
def test_nothing_is_sealed_that_would_not_be_read(seq: int, count: int) -> None:
    with pytest.raises(Refused, match=r"record\.size"):
        seal(SIGNER, seq, ADDRESSES[:1] * count)


@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_no_record(data: bytes) -> None:
    with pytest.raises(FondacoError):
        open_record(data)


# Multiaddresses


@pytest.mark.parametrize("text", [*ADDRESSES, "/ip6/::1/tcp/65535", "/p2p-circuit"])
def test_addresses_are_written_as_multiaddr_writes_them(text: str) -> None:
    assert multiaddr.encode(text) == Multiaddr(text).to_bytes()
    assert multiaddr.decode(multiaddr.encode(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "ip4/1.2.3.4",
        "/",
        "/ip4",
        "/ip4/1.2.3",
        "/tcp/65536",
        "/tcp/-1",
        "/dns4/a",
        "/p2p/0",
        "/ip6/1.2.3.4",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"multiaddr\.text"):
        multiaddr.encode(text)


@pytest.mark.parametrize("data", [b"", b"\x04\x01", b"\x06", b"\x80", b"\xa5\x03", b"\xa5\x03\x05a", bytes(257)])
def test_bytes_that_are_no_address_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match=r"multiaddr\.bytes"):
        multiaddr.decode(data)


def test_an_address_of_another_transport_is_refused_without_blame() -> None:
    with pytest.raises(Refused, match=r"multiaddr\.unknown"):
        multiaddr.decode(Multiaddr("/ip4/8.8.8.8/udp/1").to_bytes())


@given(data=st.binary(max_size=64))
def test_arbitrary_bytes_are_an_address_or_are_not(data: bytes) -> None:
    try:
        text = multiaddr.decode(data)
    except (Malformed, Refused):
        return
    assert multiaddr.decode(multiaddr.encode(text)) == text


def test_a_binary_peer_id_is_that_of_the_text() -> None:
    assert identity_of(SIGNER.public_key) == unbase58(PEER)
