"""Whatever the topology and the order of arrival, everybody gets everything once."""

import contextlib
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from fondaco.protocol.errors import PeerFault
from fondaco.protocol.frames import FrameReader, frame
from fondaco.protocol.gossip import control, wire
from fondaco.protocol.gossip.control import Control, IHave, PeerInfo, Prune
from fondaco.protocol.gossip.router import Deliver, Effect, Peer, Router, SendRpc, Verdict
from fondaco.protocol.gossip.wire import Message, Rpc, Subscription
from fondaco.protocol.scalars import Millis

topics = st.text(min_size=1, max_size=20)
ids = st.lists(st.binary(max_size=20), max_size=5).map(tuple)
infos = st.builds(PeerInfo, identity=st.binary(max_size=40), record=st.binary(max_size=40))
controls = st.builds(
    Control,
    ihave=st.lists(st.builds(IHave, topic=topics, ids=ids), max_size=3).map(tuple),
    iwant=ids,
    graft=st.lists(topics, max_size=3).map(tuple),
    prune=st.lists(
        st.builds(
            Prune,
            topic=topics,
            backoff_s=st.integers(0, 2**64 - 1),
            peers=st.lists(infos, max_size=3).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
)
rpcs = st.builds(
    Rpc,
    subscriptions=st.lists(st.builds(Subscription, topic=topics, subscribe=st.booleans()), max_size=5).map(tuple),
    messages=st.lists(st.builds(Message, topic=topics, data=st.binary(max_size=300)), max_size=5).map(tuple),
    control=controls,
)


@given(rpc=rpcs)
def test_every_rpc_survives_the_wire(rpc: Rpc) -> None:
    assert wire.decode(wire.encode(rpc)) == rpc


@given(data=st.binary(max_size=200))
def test_any_bytes_are_an_rpc_or_a_fault(data: bytes) -> None:
    with contextlib.suppress(PeerFault):
        wire.decode(data)
    with contextlib.suppress(PeerFault):
        control.decode(data)
    with contextlib.suppress(PeerFault):
        wire.DelimitedReader().feed(data)
    with contextlib.suppress(PeerFault):
        FrameReader().feed(data)


@given(payloads=st.lists(st.binary(max_size=300)), cuts=st.lists(st.integers(1, 50), min_size=1))
def test_framing_does_not_depend_on_how_the_stream_is_cut(payloads: list[bytes], cuts: list[int]) -> None:
    for reader, encode in ((FrameReader(), frame), (wire.DelimitedReader(), wire.delimit)):
        stream = b"".join(encode(payload) for payload in payloads)
        found: list[bytes] = []
        position = turn = 0
        while position < len(stream):
            size = cuts[turn % len(cuts)]
            found += reader.feed(stream[position : position + size])
            position, turn = position + size, turn + 1
        assert found == payloads


@given(
    size=st.integers(2, 8),
    chords=st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7))),
    messages=st.lists(st.tuples(st.integers(0, 7), st.binary(min_size=1, max_size=8)), max_size=10),
    choices=st.randoms(use_true_random=False),
)
def test_a_connected_network_delivers_everything_to_everybody_once(
    size: int, chords: set[tuple[int, int]], messages: list[tuple[int, bytes]], choices: object
) -> None:
    names = [Peer(str(number)) for number in range(size)]
    edges = {frozenset((i, (i + 1) % size)) for i in range(size)}
    edges |= {frozenset((a % size, b % size)) for a, b in chords if a % size != b % size}
    routers = {name: Router(now=Millis(0)) for name in names}
    under_way: deque[tuple[Peer, Peer, Rpc]] = deque()
    got: dict[Peer, list[bytes]] = {name: [] for name in names}

    def perform(name: Peer, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendRpc():
                    under_way.extend((name, peer, effect.rpc) for peer in effect.peers)
                case Deliver():
                    got[name].append(effect.data)
                    perform(name, routers[name].verdict(effect.message_id, Verdict.ACCEPT))

    def settle() -> None:
        while under_way:
            under_way.rotate(choices.randrange(len(under_way)))  # type: ignore[attr-defined]
            source, target, rpc = under_way.popleft()
            perform(target, routers[target].received(source, rpc))

    for edge in sorted(sorted(edge) for edge in edges):
        a, b = names[edge[0]], names[edge[-1]]
        perform(a, routers[a].peer_added(b))
        perform(b, routers[b].peer_added(a))
    for name in names:
        perform(name, routers[name].subscribe("t"))
    settle()
    sent: dict[bytes, Peer] = {}
    for origin, data in messages:
        sent.setdefault(data, names[origin % size])
    for data, origin_name in sent.items():
        perform(origin_name, routers[origin_name].published("t", data))
    settle()
    for name in names:
        assert sorted(got[name]) == sorted(data for data, origin_name in sent.items() if origin_name != name)


@given(rpc=rpcs, cuts=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4))
def test_a_damaged_rpc_harms_no_router(rpc: Rpc, cuts: list[tuple[int, int]]) -> None:
    damaged = bytearray(wire.encode(rpc))
    for position, byte in cuts:
        if damaged:
            damaged[position % len(damaged)] = byte
    router = Router(now=Millis(0))
    router.subscribe("t")
    router.peer_added(Peer("a"))
    with contextlib.suppress(PeerFault):
        router.received(Peer("a"), wire.decode(bytes(damaged)))
    router.heartbeat(Millis(1000))
