"""Too much gossip, among real hosts: what goes first, what is shed, and what comes again."""

import logging
from collections import Counter

import pytest
import trio
from tests.support.network import CHAIN, address, hosts, pair, until

from fondaco.node.gossip import PROTOCOL, Gossip, Topic, topic_name
from fondaco.node.gossip.topics import CONTROL, LIGHTEST, RANKS, rank_of
from fondaco.node.network.framing import Framing
from fondaco.node.network.host import Host
from fondaco.node.network.links import Links
from fondaco.node.network.peers import PeerId
from fondaco.protocol import codec, limits
from fondaco.protocol.gossip import wire
from fondaco.protocol.gossip.router import Verdict
from fondaco.protocol.gossip.wire import Rpc, Subscription

QUEUE_BYTES = 1 * limits.MIB
NAMES = {topic_name(CHAIN, topic): topic for topic in Topic}


class Sluggish:
    """A neighbour that wants everything and reads nothing until it is told to."""

    def __init__(self, host: Host) -> None:
        self.reads = trio.Event()
        self.got: list[Topic] = []
        framing = Framing(encode=wire.delimit, reader=wire.DelimitedReader)
        self.links = Links(host, PROTOCOL, self._on_rpc, hello=None, on_up=self._greet, framing=framing)

    def _greet(self, peer: PeerId) -> None:
        wanted = tuple(Subscription(topic=name, subscribe=True) for name in NAMES)
        self.links.send(peer, wire.encode(Rpc(subscriptions=wanted)))

    async def _on_rpc(self, peer: PeerId, data: bytes) -> None:
        await self.reads.wait()
        self.got += [NAMES[message.topic] for message in wire.decode(data).messages]


def publish(gossip: Gossip, topic: Topic, number: int, size: int = 0) -> None:
    """A batch of one item, at once."""
    data = codec.pack([b"%s %d " % (topic.encode(), number) + bytes(size)])
    gossip._perform(gossip.router.published(topic_name(CHAIN, topic), data))


async def test_what_waits_for_a_slow_neighbour_leaves_heaviest_first_and_the_lightest_is_shed(
    nursery: trio.Nursery,
) -> None:
    async with pair() as (one, two):
        gossip, slow = Gossip(one, CHAIN), Sluggish(two)
        gossip.links.queue_bytes = QUEUE_BYTES
        nursery.start_soon(gossip.run)
        nursery.start_soon(slow.links.run)
        for topic in Topic:
            await gossip.wait_for_subscribers(topic)
        published: Counter[Topic] = Counter()
        for topic, count in ((Topic.STATUS, 300), *((topic, 8) for topic in reversed(RANKS))):
            for number in range(count):
                published[topic] += 1
                publish(gossip, topic, published[topic], 30_000)
                if number % 8 == 0:
                    await trio.sleep(0)
        waiting = len(gossip.links._up[two.peer_id])
        shed = gossip.counters.of(Topic.STATUS).shed_slow_peer
        assert shed > 0
        assert gossip.counters.total("shed_slow_peer") == shed == gossip.links.shed_frames()
        assert gossip.links.queued_bytes(two.peer_id) <= QUEUE_BYTES
        slow.reads.set()
        await until(lambda: len(slow.got) == published.total() - shed)
        assert waiting > 3 * 8
        queued = slow.got[-waiting:]
        assert queued == sorted(queued, key=RANKS.index)
        assert Counter(slow.got) == published - Counter({Topic.STATUS: shed})
        nursery.cancel_scope.cancel()


async def test_what_a_slow_handler_has_no_room_for_is_counted_told_and_comes_again(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="fondaco.node.gossip.counters")
    async with pair() as (one, two):
        ours, theirs = Gossip(one, CHAIN), Gossip(two, CHAIN)
        ready, got = trio.Event(), list[bytes]()

        async def handle(items: list[bytes], source: PeerId) -> Verdict:
            await ready.wait()
            got.extend(items)
            return Verdict.ACCEPT

        theirs.subscribe(Topic.STATUS, handle)
        nursery.start_soon(ours.run)
        nursery.start_soon(theirs.run)
        await ours.wait_for_subscribers(Topic.STATUS)
        publish(ours, Topic.STATUS, 0)
        await until(lambda: theirs.counters.of(Topic.STATUS).handled == 1)
        count = 1 + limits.GOSSIP_QUEUE_BATCHES // 2 + 10
        for number in range(1, count):
            publish(ours, Topic.STATUS, number)
        await until(lambda: theirs.router.counters.delivered == count)
        counters = theirs.counters.of(Topic.STATUS)
        assert (counters.shed_slow_handler, theirs.shed_batches, counters.lost) == (10, 10, 0)
        words = "gossip of status: 10 messages dropped, our handler is too slow"
        await until(lambda: words in caplog.text)
        ready.set()
        await until(lambda: len(got) == count)
        assert len(set(got)) == count
        assert theirs.router.counters.accepted == theirs.items_handled == count
        assert theirs.router.counters.recovered == 10
        assert theirs.counters.total("lost") == len(theirs.router.missed) == theirs.items_repeated == 0
        nursery.cancel_scope.cancel()


async def test_orders_are_judged_after_the_transactions_that_wait(nursery: trio.Nursery) -> None:
    async with hosts(2) as (one, two):
        ours, theirs = Gossip(one, CHAIN), Gossip(two, CHAIN)
        judged: list[bytes] = []

        async def handle(items: list[bytes], source: PeerId) -> Verdict:
            judged.extend(items)
            await trio.sleep(0)
            return Verdict.ACCEPT

        theirs.subscribe(Topic.ORDERS, handle)
        theirs.subscribe(Topic.TRANSACTIONS, handle)
        nursery.start_soon(ours.run)
        nursery.start_soon(theirs.run)
        await one.connect(address(two))
        for topic in (Topic.ORDERS, Topic.TRANSACTIONS):
            await ours.wait_for_subscribers(topic)
        for number in range(20):
            publish(ours, Topic.ORDERS, number)
            publish(ours, Topic.TRANSACTIONS, number)
        await until(lambda: len(judged) == 40)
        last = judged.index(b"transactions 19 ")
        assert sum(item.startswith(b"orders") for item in judged[:last]) <= 1, "one was under judgement already"
        nursery.cancel_scope.cancel()


def test_every_topic_has_a_rank_and_strangers_are_the_lightest() -> None:
    assert [rank_of(topic) for topic in RANKS] == list(range(CONTROL + 1, LIGHTEST))
    assert set(RANKS) == set(Topic)
    assert rank_of("weather") == LIGHTEST
