"""Kademlia's messages on the wire, and what of them is too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.protocol.errors import Malformed
from fondaco.protocol.gossip.protobuf import field
from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.kad import KadMessage, KadPeer, Kind, decode, encode, protocol_of
from fondaco.protocol.scalars import ChainId

ONE = KadPeer(id=bytes(38), addresses=(b"\x04\x7f\0\0\1\x06\x0f\xa1",))
MESSAGES = [
    KadMessage(kind=Kind.PING),
    KadMessage(kind=Kind.FIND_NODE, key=b"k", closer=(ONE, KadPeer(id=b"x"))),
    KadMessage(kind=Kind.ADD_PROVIDER, key=bytes(38), providers=(ONE,)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.kind.name)
def test_a_message_comes_back_as_it_was_and_is_the_librarys_too(message: KadMessage) -> None:
    from libp2p.kad_dht.pb import kademlia_pb2

    assert decode(encode(message)) == message
    theirs = kademlia_pb2.Message.FromString(encode(message))
    assert (int(theirs.type), theirs.key) == (int(message.kind), message.key)
    assert [(peer.id, tuple(peer.addrs)) for peer in theirs.closerPeers] == [
        (peer.id, peer.addresses) for peer in message.closer
    ]
    assert decode(theirs.SerializeToString()) == message


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "kad.type"),
        (b"\x08\x01", "kad.type"),
        (b"\x08\x04" + field(2, bytes(bounds.KAD_KEY_BYTES + 1)), "kad.key"),
        (b"\x08\x04" + field(8, field(1, b"x")) * (bounds.KAD_PEERS + 1), "kad.peers"),
        (b"\x08\x04" + field(9, field(1, b"x")) * (bounds.KAD_PEERS + 1), "kad.peers"),
        (b"\x08\x04" + field(8, b""), "kad.id"),
        (b"\x08\x04" + field(8, field(1, bytes(65))), "kad.id"),
        (b"\x0a\x01x", "gossip.field"),
        (bytes(bounds.KAD_MESSAGE_BYTES + 1), "kad.size"),
    ],
)
def test_what_is_no_message_is_its_senders_fault(data: bytes, code: str) -> None:
    with pytest.raises(Malformed) as fault:
        decode(data)
    assert fault.value.code == code


def test_more_addresses_than_are_looked_at_and_unknown_fields_are_passed_over() -> None:
    many = field(1, b"x") + field(2, b"a") * 100 + field(2, bytes(300)) + b"\x18\x01"
    (peer,) = decode(b"\x08\x04" + field(8, many) + field(7, b"?")).closer
    assert peer.addresses == (b"a",) * bounds.KAD_ADDRESSES
    (peer,) = decode(b"\x08\x04" + field(8, field(1, b"x") + field(2, bytes(300)))).closer
    assert peer.addresses == ()


@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_are_a_fault(data: bytes) -> None:
    try:
        decode(b"\x08\x04" + data)
    except Malformed:
        return


def test_each_chain_has_a_table_of_its_own() -> None:
    assert protocol_of(ChainId("a-1")) != protocol_of(ChainId("b-1"))
