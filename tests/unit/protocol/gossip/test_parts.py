"""The small parts of the router: chance, back-offs, promises, the message cache, control messages."""

import pytest

from fondaco.protocol import limits
from fondaco.protocol.errors import Malformed
from fondaco.protocol.gossip import control
from fondaco.protocol.gossip.backoff import Backoffs
from fondaco.protocol.gossip.chance import Chance
from fondaco.protocol.gossip.control import Control, IHave, PeerInfo, Prune
from fondaco.protocol.gossip.effects import MessageId, Peer, message_id
from fondaco.protocol.gossip.lazy import parcels
from fondaco.protocol.gossip.mcache import ENTRY_BYTES, MessageCache
from fondaco.protocol.gossip.promises import Promises
from fondaco.protocol.gossip.wire import Message
from fondaco.protocol.scalars import Millis

A, B = Peer("a"), Peer("b")
ONE, TWO, THREE = (MessageId(bytes([number]) * 20) for number in (1, 2, 3))


def hello(size: int = 5, topic: str = "t") -> Message:
    return Message(topic=topic, data=bytes(size))


def test_a_seed_decides_all_choices_and_every_choice_happens() -> None:
    one, two = Chance(7), Chance(7)
    drawn = [one.sample(range(10), 3) for _ in range(100)]
    assert drawn == [two.sample(range(10), 3) for _ in range(100)]
    assert {choice for choices in drawn for choice in choices} == set(range(10))
    assert all(len(set(choices)) == 3 for choices in drawn)
    assert sorted(one.shuffled(range(5))) == list(range(5))
    assert one.sample([1, 2], 5) in ([1, 2], [2, 1])
    assert one.sample([1, 2], -1) == []


def test_a_back_off_ends_for_them_and_a_little_later_for_us() -> None:
    backoffs = Backoffs(10, longest_ms=1000, slack_ms=50)
    backoffs.add("t", A, Millis(0), 100)
    assert backoffs.left_ms("t", A, Millis(40)) == 60
    assert backoffs.left_ms("u", A, Millis(40)) == backoffs.left_ms("t", B, Millis(40)) == 0
    assert backoffs.left_ms("t", A, Millis(120)) == 0
    assert backoffs.held("t", A, Millis(149))
    assert not backoffs.held("t", A, Millis(150))
    assert not backoffs.held("t", B, Millis(0))
    backoffs.expire(Millis(149))
    assert len(backoffs) == 1
    backoffs.expire(Millis(150))
    assert len(backoffs) == 0


def test_a_back_off_grows_never_shrinks_and_has_a_bound() -> None:
    backoffs = Backoffs(2, longest_ms=1000, slack_ms=0)
    backoffs.add("t", A, Millis(0), 10**18)
    backoffs.add("t", A, Millis(0), 10)
    assert backoffs.left_ms("t", A, Millis(0)) == 1000
    for topic in "uv":
        backoffs.add(topic, A, Millis(0), 10)
    assert len(backoffs) == 2
    assert backoffs.left_ms("t", A, Millis(0)) == 0


def test_a_promise_is_kept_by_whoever_brings_the_message_and_broken_when_nobody_does() -> None:
    promises = Promises(10, 100)
    promises.add(ONE, A, Millis(0))
    promises.add(ONE, B, Millis(0))
    promises.add(TWO, A, Millis(50))
    promises.add(TWO, A, Millis(90))
    promises.kept(ONE)
    promises.kept(THREE)
    assert not promises.broken(Millis(149))
    assert promises.broken(Millis(150)) == {A: 1}
    assert len(promises) == 0


def test_promises_are_bounded_and_the_oldest_is_forgotten() -> None:
    promises = Promises(2, 100)
    for peer in (A, B, Peer("c")):
        promises.add(ONE, peer, Millis(0))
    assert promises.broken(Millis(100)) == {B: 1, "c": 1}


def test_messages_are_offered_for_some_heartbeats_and_kept_for_more() -> None:
    cache = MessageCache(windows=3, gossip_windows=2, max_bytes=10_000)
    cache.put(ONE, hello())
    cache.put(ONE, hello())
    cache.put(TWO, hello(topic="u"))
    assert len(cache) == 2
    cache.shift()
    assert cache.offered("t") == [ONE]
    cache.shift()
    assert cache.offered("t") == []
    assert cache.ask(ONE, A) == (hello(), 1)
    assert cache.ask(ONE, A) == (hello(), 2)
    assert cache.ask(ONE, B) == (hello(), 1)
    cache.shift()
    assert cache.ask(ONE, A) is None
    assert cache.size == len(cache) == 0


def test_the_cache_is_bounded_in_bytes() -> None:
    cache = MessageCache(windows=2, gossip_windows=2, max_bytes=ENTRY_BYTES + 100)
    cache.put(ONE, hello(60))
    cache.put(TWO, hello(60))
    assert cache.offered("t") == [TWO]
    assert cache.size == ENTRY_BYTES + 60
    cache.shift()
    cache.shift()
    assert cache.size == 0


def test_tiny_messages_are_not_held_by_the_million() -> None:
    cache = MessageCache(windows=2, gossip_windows=2, max_bytes=3 * ENTRY_BYTES)
    for number in range(10):
        cache.put(message_id(b"%d" % number), hello(1))
    assert len(cache) == 2


def test_answers_are_cut_into_rpcs_of_allowed_size() -> None:
    half = limits.GOSSIP_RPC_BYTES // 2
    assert parcels([]) == []
    assert [len(group) for group in parcels([hello(half)] * 3 + [hello(1)])] == [1, 1, 2]
    assert [len(group) for group in parcels([hello(1)] * (limits.GOSSIP_MESSAGES_PER_RPC + 1))] == [
        limits.GOSSIP_MESSAGES_PER_RPC,
        1,
    ]


FULL = Control(
    ihave=(IHave(topic="t", ids=(ONE, TWO)),),
    iwant=(THREE,),
    graft=("t", "u"),
    prune=(
        Prune(topic="t", backoff_s=60, peers=(PeerInfo(identity=b"p", record=b"r"), PeerInfo(identity=b"q"))),
        Prune(topic="u"),
    ),
)


def test_the_library_reads_our_control_messages_and_we_read_its() -> None:
    rpc_pb2 = pytest.importorskip("libp2p.pubsub.pb.rpc_pb2")
    theirs = rpc_pb2.ControlMessage()
    theirs.ParseFromString(control.encode(Control(graft=FULL.graft, prune=FULL.prune)))
    assert [graft.topicID for graft in theirs.graft] == ["t", "u"]
    assert [(prune.topicID, prune.backoff, len(prune.peers)) for prune in theirs.prune] == [
        ("t", 60, 2),
        ("u", 0, 0),
    ]
    assert control.decode(theirs.SerializeToString()) == Control(graft=FULL.graft, prune=FULL.prune)
    assert control.decode(control.encode(FULL)) == FULL


def test_the_bytes_of_an_iwant_are_those_of_the_specification() -> None:
    assert control.encode(Control(iwant=(b"ab", b"c"))) == bytes.fromhex("1207 0a026162 0a0163".replace(" ", ""))


def test_control_fields_of_a_later_version_are_skipped() -> None:
    strange = b"\x78\x05"
    nested = b"".join(
        bytes([number << 3 | 2, len(inner)]) + inner
        for number, inner in (
            (1, b"\x0a\x01t" + strange),
            (2, strange),
            (3, b"\x0a\x01t" + strange),
            (4, b"\x0a\x01t" + strange + b"\x12\x02" + strange),
            (5, b"\x0a\x01x"),
        )
    )
    assert control.decode(nested) == Control(
        ihave=(IHave(topic="t", ids=()),), graft=("t",), prune=(Prune(topic="t", peers=(PeerInfo(identity=b""),)),)
    )


@pytest.mark.parametrize(
    "said",
    [
        Control(graft=("t",) * (limits.GOSSIP_SUBSCRIPTIONS + 1)),
        Control(iwant=(b"",) * (limits.GOSSIP_IDS_PER_RPC + 1)),
        Control(ihave=(IHave(topic="t", ids=(b"",) * (limits.GOSSIP_IDS_PER_RPC + 1)),)),
        Control(graft=("",)),
    ],
    ids=["grafts", "wanted ids", "offered ids", "no topic"],
)
def test_control_beyond_a_bound_is_malformed(said: Control) -> None:
    with pytest.raises(Malformed):
        control.decode(control.encode(said))


def test_a_back_off_that_is_no_number_is_malformed() -> None:
    with pytest.raises(Malformed):
        control.decode(b"\x22\x06\x0a\x01t\x1a\x01x")
