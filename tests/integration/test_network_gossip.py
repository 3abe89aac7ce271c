"""Gossip among real hosts."""

import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator

import pytest
import trio
from tests.support.network import CHAIN, address, hosts, pair, port, seed, until

from fondaco.node.gossip import PROTOCOL, Gossip, Topic, decode_batch, topic_name
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import PeerId
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.gossip import wire
from fondaco.protocol.gossip.protobuf import varint
from fondaco.protocol.gossip.router import Peer, Verdict
from fondaco.protocol.gossip.wire import Message, Rpc, Subscription


class Listener:
    """A node's gossip, with a handler that keeps what it is given."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.gossip = Gossip(host, CHAIN)
        self.calls: list[tuple[list[bytes], PeerId]] = []
        self.verdicts: dict[bytes, Verdict] = defaultdict(lambda: Verdict.ACCEPT)
        self.gossip.subscribe(Topic.ORDERS, self.handle)

    async def handle(self, items: list[bytes], source: PeerId) -> Verdict:
        self.calls.append((items, source))
        if b"fault" in items:
            raise PeerFault("test.fault", "nonsense")
        return self.verdicts[items[0]]

    @property
    def got(self) -> list[bytes]:
        return [item for items, _ in self.calls for item in items]


@contextlib.asynccontextmanager
async def listeners(count: int, offsets: tuple[int, ...]) -> AsyncIterator[list[Listener]]:
    """So many nodes; each dials those that many places further in the ring."""
    async with hosts(count) as everybody, trio.open_nursery() as nursery:
        made = [Listener(host) for host in everybody]
        for listener in made:
            nursery.start_soon(listener.gossip.run)
        edges = {frozenset((i, (i + offset) % count)) for i in range(count) for offset in offsets}
        for a, b in sorted(sorted(edge) for edge in edges):
            await everybody[a].connect(address(everybody[b]))
        for number, listener in enumerate(made):
            neighbours = sum(number in edge for edge in edges)
            await listener.gossip.wait_for_subscribers(Topic.ORDERS, neighbours)
        yield made
        nursery.cancel_scope.cancel()


async def test_a_thousand_items_flood_six_nodes_each_item_once() -> None:
    async with listeners(6, (1, 2)) as nodes:
        items = [b"order %d " % number + bytes(300) for number in range(1000)]
        for number, item in enumerate(items):
            nodes[number % 6].gossip.publish(Topic.ORDERS, item)
        for number, node in enumerate(nodes):
            others = [item for index, item in enumerate(items) if index % 6 != number]
            await until(lambda node=node, others=others: len(node.got) >= len(others))  # type: ignore[misc]
            assert Counter(node.got) == Counter(others)
        sent = sum(node.gossip.router.counters.published for node in nodes)
        assert sent <= 12, "items published at once go in full batches"


async def test_a_lone_item_leaves_at_once_and_a_burst_is_batched() -> None:
    async with listeners(2, (1,)) as (one, two):
        one.gossip.publish(Topic.ORDERS, b"lone")
        with trio.fail_after(limits.GOSSIP_BATCH_WINDOW_MS * 10 / 1000):
            while not two.got:
                await trio.sleep(0)
        for number in range(450):
            one.gossip.publish(Topic.ORDERS, b"%d" % number)
        await until(lambda: len(two.got) == 451)
        assert [len(items) for items, _ in two.calls] == [1, 200, 200, 50]


async def test_a_small_network_is_one_mesh_and_nobody_is_blamed_for_being_on_loopback() -> None:
    async with listeners(4, (1, 2)) as nodes:
        name = topic_name(CHAIN, Topic.ORDERS)
        for node in nodes:
            await until(lambda node=node: len(node.gossip.router.mesh.topics[name]) == 3)  # type: ignore[misc]
            assert all(node.gossip.router.scores.of(peer) >= 0 for peer in node.gossip.router.peers)


async def test_an_item_published_twice_is_sent_once() -> None:
    async with listeners(2, (1,)) as (one, two):
        for item in (b"a", b"a", b"b"):
            one.gossip.publish(Topic.ORDERS, item)
        await until(lambda: len(two.got) == 2)
        two.gossip.publish(Topic.ORDERS, b"a")
        two.gossip.publish(Topic.ORDERS, b"c")
        await until(lambda: one.got == [b"c"])
        assert two.got == [b"a", b"b"]


async def test_nothing_travels_beyond_a_node_that_does_not_accept_it() -> None:
    async with listeners(3, (1,)) as nodes:
        one, two, three = nodes
        await one.host.drop(three.host.peer_id, "a line, not a ring")
        await until(lambda: not one.host.is_connected(three.host.peer_id))
        await until(lambda: len(one.gossip.subscribers(Topic.ORDERS)) == 1)
        two.verdicts[b"doubtful"] = Verdict.IGNORE
        two.verdicts[b"bad"] = Verdict.REJECT
        for item in (b"doubtful", b"bad", b"fault", b"good"):
            one.gossip.publish(Topic.ORDERS, item)
            await until(lambda item=item: item in two.got)  # type: ignore[misc]
        await until(lambda: b"good" in three.got)
        assert three.calls == [([b"good"], two.host.peer_id)]
        assert two.host.counters.peer_faults == 2


async def test_a_bad_item_is_judged_anew_in_every_batch() -> None:
    """Or a batch of a bad item that was seen and a good one would be passed on, and we be blamed for it."""
    async with listeners(2, (1,)) as (one, two):
        two.verdicts[b"bad"] = Verdict.REJECT
        one.gossip.publish(Topic.ORDERS, b"bad")
        await until(lambda: two.got == [b"bad"])
        one.gossip._perform(
            one.gossip.router.published(topic_name(CHAIN, Topic.ORDERS), codec.pack([b"bad", b"good"]))
        )
        await until(lambda: two.host.counters.peer_faults == 2)
        assert two.calls[1][0] == [b"bad", b"good"]


async def test_who_sends_bad_items_again_and_again_is_graylisted() -> None:
    async with listeners(2, (1,)) as (one, two):
        for number in range(3):
            two.verdicts[b"bad %d" % number] = Verdict.REJECT
            one.gossip.publish(Topic.ORDERS, b"bad %d" % number)
            await until(lambda number=number: len(two.got) == number + 1)  # type: ignore[misc]
        await until(lambda: two.host.counters.peer_faults == 4)
        one.gossip.publish(Topic.ORDERS, b"good")
        await until(lambda: two.gossip.router.counters.graylisted)
        assert b"good" not in two.got


async def test_a_node_that_comes_back_hears_what_is_published_then(nursery: trio.Nursery) -> None:
    async with open_host(seed(1)) as one:
        listener = Listener(one)
        nursery.start_soon(listener.gossip.run)
        async with open_host(seed(2)) as two, trio.open_nursery() as inner:
            number = port(two)
            one.keep_connected(address(two))
            inner.start_soon(Listener(two).gossip.run)
            await listener.gossip.wait_for_subscribers(Topic.ORDERS)
            inner.cancel_scope.cancel()
        await until(lambda: not listener.gossip.subscribers(Topic.ORDERS))
        async with open_host(seed(2), f"127.0.0.1:{number}") as two:
            again = Listener(two)
            nursery.start_soon(again.gossip.run)
            await listener.gossip.wait_for_subscribers(Topic.ORDERS)
            assert listener.gossip.peers() == [two.peer_id]
            listener.gossip.publish(Topic.ORDERS, b"news")
            await until(lambda: again.got == [b"news"])
            nursery.cancel_scope.cancel()


async def test_a_topic_can_be_subscribed_to_while_running(nursery: trio.Nursery) -> None:
    async with listeners(2, (1,)) as (one, two):
        got: list[bytes] = []

        async def bids(items: list[bytes], source: PeerId) -> Verdict:
            got.extend(items)
            return Verdict.ACCEPT

        two.gossip.subscribe(Topic.BIDS, bids)
        await one.gossip.wait_for_subscribers(Topic.BIDS)
        one.gossip.publish(Topic.BIDS, b"bid")
        await until(lambda: got == [b"bid"])


async def test_items_of_no_or_too_many_bytes_cannot_be_published() -> None:
    async with open_host(seed(1)) as host:
        for item in (b"", bytes(limits.GOSSIP_ITEM_BYTES + 1)):
            with pytest.raises(Refused, match=r"gossip\.item"):
                Gossip(host, CHAIN).publish(Topic.ORDERS, item)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        codec.pack([]),
        codec.pack(b"item"),
        codec.pack(["text"]),
        codec.pack([b""]),
        codec.pack([b"x"] * (limits.GOSSIP_BATCH_ITEMS + 1)),
        codec.pack([bytes(limits.GOSSIP_ITEM_BYTES + 1)]),
    ],
)
def test_what_is_no_batch_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_batch(data)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 40,
        varint(limits.GOSSIP_RPC_BYTES + 1),
        wire.delimit(b"\xff\xff\xff\xffgarbage"),
        wire.delimit(wire.encode(Rpc(messages=(Message(topic=topic_name(CHAIN, "orders"), data=b"no batch"),)))),
        wire.delimit(
            wire.encode(Rpc(subscriptions=tuple(Subscription(topic=str(n), subscribe=True) for n in range(64))))
        )
        + wire.delimit(wire.encode(Rpc(subscriptions=(Subscription(topic="more", subscribe=True),)))),
    ],
    ids=["endless length", "huge length", "no protobuf", "no batch", "too many topics"],
)
async def test_garbage_on_a_gossip_stream_is_a_fault_and_leaves_the_node_alive(garbage: bytes) -> None:
    async with pair() as (one, two), trio.open_nursery() as nursery:
        listener = Listener(two)
        nursery.start_soon(listener.gossip.run)
        stream = await one.open_stream(two.peer_id, PROTOCOL)
        await stream.write(garbage)
        await until(lambda: two.counters.peer_faults == 1)
        assert two.counters.handler_errors == 0
        healthy = Listener(one)
        nursery.start_soon(healthy.gossip.run)
        await healthy.gossip.wait_for_subscribers(Topic.ORDERS)
        healthy.gossip.publish(Topic.ORDERS, b"still there")
        await until(lambda: listener.got == [b"still there"])
        nursery.cancel_scope.cancel()


async def test_who_floods_a_topic_leaves_half_of_its_queue_to_others() -> None:
    """Once the queue took whoever came first, and what honest neighbours said meanwhile was shed."""
    async with listeners(3, (1, 2)) as (flooder, honest, judge):
        judged = trio.Event()

        async def slow(items: list[bytes], source: PeerId) -> Verdict:
            judge.calls.append((items, source))
            await judged.wait()
            return Verdict.IGNORE

        state = judge.gossip._topic(Topic.ORDERS)
        state.handler = slow
        state.inbox.capacity = 8
        honest.verdicts = defaultdict(lambda: Verdict.IGNORE)  # or it would pass the flood on
        name = topic_name(CHAIN, Topic.ORDERS)
        for number in range(20):
            flooder.gossip._perform(flooder.gossip.router.published(name, codec.pack([b"flood %d" % number])))
        await until(lambda: judge.gossip.shed_batches >= 1)
        honest.gossip._perform(honest.gossip.router.published(name, codec.pack([b"honest"])))
        await until(lambda: state.inbox._from[Peer(honest.host.peer_id)] == 1)
        judged.set()
        await until(lambda: b"honest" in judge.got)
        await until(lambda: not state.inbox)
