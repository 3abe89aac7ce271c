"""HOP and STOP on the wire, against the library's own protobuf where it speaks the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.protocol.errors import Malformed, PeerFault
from fondaco.protocol.gossip.protobuf import field, varint
from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.circuit import (
    Answer,
    Connect,
    Hop,
    Limit,
    Reservation,
    Reserve,
    Status,
    Stop,
    decode_hop,
    decode_stop,
    encode_hop,
    encode_stop,
)

PEER = bytes(38)
LIMIT = Limit(duration_s=120, data_bytes=1 << 17)
PLACE = Reservation(expires_s=1_700_000_000, addresses=(b"\x04\x7f\0\0\1\x06\x0f\xa1", b"x"))
HOPS: list[Hop] = [
    Reserve(),
    Connect(peer=PEER),
    Answer(status=Status.OK, reservation=PLACE, limit=LIMIT),
    Answer(status=Status.NO_RESERVATION),
    Answer(status=299),
]
STOPS: list[Stop] = [Connect(peer=PEER, limit=LIMIT), Connect(peer=PEER), Answer(status=Status.OK)]


@pytest.mark.parametrize("message", HOPS, ids=str)
def test_a_hop_message_comes_back_as_it_was(message: Reserve | Connect | Answer) -> None:
    assert decode_hop(encode_hop(message)) == message


@pytest.mark.parametrize("message", STOPS, ids=str)
def test_a_stop_message_comes_back_as_it_was(message: Connect | Answer) -> None:
    assert decode_stop(encode_stop(message)) == message


def test_the_bytes_are_those_of_the_specifications_protobuf() -> None:
    from libp2p.relay.circuit_v2.pb import circuit_pb2

    for message in HOPS:
        theirs = circuit_pb2.HopMessage.FromString(encode_hop(message))
        assert decode_hop(theirs.SerializeToString()) == message
    answer = circuit_pb2.HopMessage.FromString(encode_hop(HOPS[2]))
    assert (answer.type, answer.status) == (circuit_pb2.HopMessage.STATUS, circuit_pb2.OK)
    assert (answer.reservation.expire, tuple(answer.reservation.addrs)) == (PLACE.expires_s, PLACE.addresses)
    assert (answer.limit.duration, answer.limit.data) == (LIMIT.duration_s, LIMIT.data_bytes)
    asked = circuit_pb2.StopMessage.FromString(encode_stop(STOPS[0]))
    assert (asked.type, asked.peer.id, asked.limit.data) == (0, PEER, LIMIT.data_bytes)
    said = circuit_pb2.StopMessage.FromString(encode_stop(STOPS[2]))
    assert (said.type, said.status) == (circuit_pb2.StopMessage.STATUS, circuit_pb2.OK)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x08\x03", "circuit.type"),
        (b"\x08\x01", "circuit.peer"),
        (b"\x08\x01" + field(2, field(1, bytes(65))), "circuit.peer"),
        (b"\x08\x01" + field(2, b""), "circuit.peer"),
        (b"\x08\x01\x10\x05", "gossip.field"),
        (b"\x0a\x01x", "gossip.field"),
        (bytes(bounds.CIRCUIT_MESSAGE_BYTES + 1), "circuit.size"),
        (b"\x08\x02" + field(3, field(2, b"a") * (bounds.CIRCUIT_ADDRESSES + 1)), "circuit.addresses"),
        (b"\x08\x02" + field(3, field(2, bytes(257))), "circuit.addresses"),
    ],
)
def test_what_is_no_hop_message_is_its_senders_fault(data: bytes, code: str) -> None:
    with pytest.raises(Malformed) as fault:
        decode_hop(data)
    assert fault.value.code == code


def test_what_is_no_stop_message_is_its_senders_fault() -> None:
    with pytest.raises(Malformed, match=r"circuit\.type"):
        decode_stop(b"\x08\x02")


def test_unknown_fields_are_skipped() -> None:
    extra = field(6, b"a signed record") + varint(9 << 3) + varint(7)
    assert decode_hop(encode_hop(HOPS[1]) + extra) == HOPS[1]
    place = b"\x08\x02" + field(3, b"\x08\x05" + field(3, b"voucher")) + b"\x28\x64"
    assert decode_hop(place) == Answer(status=100, reservation=Reservation(expires_s=5))


@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_are_a_fault(data: bytes) -> None:
    for decode in (decode_hop, decode_stop):
        try:
            decode(data)
        except PeerFault:
            continue
