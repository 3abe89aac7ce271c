import pytest

from fondaco.protocol import limits
from fondaco.protocol.errors import Malformed, PeerFault
from fondaco.protocol.gossip import wire
from fondaco.protocol.gossip.control import Control
from fondaco.protocol.gossip.protobuf import varint
from fondaco.protocol.gossip.wire import Message, Rpc, Subscription

FULL = Rpc(
    subscriptions=(Subscription(topic="a", subscribe=True), Subscription(topic="b", subscribe=False)),
    messages=(Message(topic="a", data=b"one"), Message(topic="b", data=b"")),
    control=Control(graft=("a",)),
)


def test_an_rpc_is_the_same_after_encoding_and_decoding() -> None:
    assert wire.decode(wire.encode(FULL)) == FULL


def test_the_bytes_are_those_of_gossipsubs_protobuf() -> None:
    """Written down by hand from the specification's rpc.proto."""
    rpc = Rpc(subscriptions=(Subscription(topic="t", subscribe=True),), messages=(Message(topic="t", data=b"hi"),))
    assert wire.encode(rpc) == bytes.fromhex("0a05 0801 120174 1207 12026869 220174".replace(" ", ""))


def test_the_library_reads_what_we_write_and_we_read_what_it_writes() -> None:
    rpc_pb2 = pytest.importorskip("libp2p.pubsub.pb.rpc_pb2")
    theirs = rpc_pb2.RPC()
    theirs.ParseFromString(wire.encode(FULL))
    assert [(s.topicid, s.subscribe) for s in theirs.subscriptions] == [("a", True), ("b", False)]
    assert [(list(m.topicIDs), m.data) for m in theirs.publish] == [(["a"], b"one"), (["b"], b"")]
    assert theirs.control.graft[0].topicID == "a"
    assert wire.decode(theirs.SerializeToString()) == FULL


def test_fields_of_a_later_version_are_skipped() -> None:
    strange = b"\x78\x05" + b"\x79" + bytes(8) + b"\x7d" + bytes(4) + b"\x7a\x01x"  # field 15: all four types
    assert wire.decode(strange + wire.encode(FULL)) == FULL
    subscription, message = b"\x08\x01\x12\x01t" + strange, b"\x12\x01d\x22\x01t" + strange
    nested = b"\x0a" + wire.delimit(subscription) + b"\x12" + wire.delimit(message)
    assert wire.decode(nested) == Rpc(
        subscriptions=(Subscription(topic="t", subscribe=True),), messages=(Message(topic="t", data=b"d"),)
    )


@pytest.mark.parametrize("number", [1, 3, 5, 6], ids=["from", "seqno", "signature", "key"])
def test_a_message_that_says_who_wrote_it_is_a_fault(number: int) -> None:
    message = b"\x12\x01d\x22\x01t" + bytes([number << 3 | 2, 1, 0])
    with pytest.raises(PeerFault, match=r"gossip\.signed"):
        wire.decode(b"\x12" + bytes([len(message)]) + message)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 40,
        b"\x0a",
        b"\x0a\x05a",
        b"\x0b",
        b"\x00\x01",
        b"\x08\x01",
        b"\x12\x02\x10\x01",
        b"\x0a\x02\x10\x01",
        b"\x0a\x03\x0a\x01a",
        b"\x0a\x02\x08\x01",
        b"\x12\x03\x12\x01d",
        b"\x0a\x04\x12\x02\xff\xfe",
        b"\x79\x00",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
    ids=[
        "endless number",
        "number cut off",
        "field cut off",
        "group",
        "field zero",
        "subscription is a number",
        "data is a number",
        "topic is a number",
        "flag is bytes",
        "subscription without topic",
        "message without topic",
        "topic not utf-8",
        "fixed field cut off",
        "number beyond 64 bits",
    ],
)
def test_bytes_that_are_no_rpc_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        wire.decode(data)


@pytest.mark.parametrize(
    "rpc",
    [
        Rpc(subscriptions=(Subscription(topic="t", subscribe=True),) * (limits.GOSSIP_SUBSCRIPTIONS + 1)),
        Rpc(messages=(Message(topic="t", data=b""),) * (limits.GOSSIP_MESSAGES_PER_RPC + 1)),
        Rpc(messages=(Message(topic="t" * (limits.GOSSIP_TOPIC_BYTES + 1), data=b""),)),
        Rpc(messages=(Message(topic="t", data=bytes(limits.GOSSIP_RPC_BYTES)),)),
    ],
    ids=["subscriptions", "messages", "topic", "size"],
)
def test_every_bound_holds(rpc: Rpc) -> None:
    with pytest.raises(Malformed):
        wire.decode(wire.encode(rpc))


def test_payloads_are_told_apart_however_they_are_cut() -> None:
    stream = b"".join(wire.delimit(payload) for payload in (b"a", b"b" * 300, b""))
    reader = wire.DelimitedReader()
    found = [payload for byte in stream for payload in reader.feed(bytes([byte]))]
    assert found == [b"a", b"b" * 300, b""]


def test_a_payload_too_long_is_a_fault_as_soon_as_it_is_announced() -> None:
    with pytest.raises(PeerFault, match=r"gossip\.size"):
        wire.DelimitedReader(limit=100).feed(varint(101))


def test_a_length_that_never_ends_is_malformed() -> None:
    with pytest.raises(Malformed, match=r"gossip\.varint"):
        wire.DelimitedReader().feed(b"\xff" * 10)
