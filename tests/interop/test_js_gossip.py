"""One js-libp2p peer beside our hosts: connections, streams and gossip, each way."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
from tests.support.js_peer import Heard, JsError, JsPeer, js_peer
from tests.support.network import CHAIN, PATIENCE_S, address, echo, hosts, known_protocols, seed, until

from fondaco.node.gossip import PROTOCOL, Gossip, Topic, decode_batch, topic_name
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import PeerId
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.gossip.effects import message_id
from fondaco.protocol.gossip.router import Peer, Verdict

pytestmark = pytest.mark.interop
ORDERS = topic_name(CHAIN, Topic.ORDERS)
IDENTIFY, IDENTIFY_PUSH, PING = "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0"
MANY = 2_000
UNDER_WAY = 100
"""Messages sent and not heard yet, at most: fewer than `limits.GOSSIP_QUEUE_BATCHES` may wait for a handler."""


class Listener:
    """One of our hosts with gossip, and the batches of orders it was given."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.gossip = Gossip(host, CHAIN)
        self.got: list[list[bytes]] = []
        self.gossip.subscribe(Topic.ORDERS, self._handle)

    async def _handle(self, items: list[bytes], source: PeerId) -> Verdict:
        self.got.append(items)
        return Verdict.ACCEPT

    def send(self, batch: bytes) -> None:
        """Publish one message, where `Gossip.publish` would wait and put several into one."""
        self.gossip._perform(self.gossip.router.published(ORDERS, batch, now=Gossip._now()))


@contextlib.asynccontextmanager
async def listeners(count: int = 1) -> AsyncIterator[list[Listener]]:
    """So many, not connected."""
    async with hosts(count) as everybody, trio.open_nursery() as nursery:
        made = [Listener(host) for host in everybody]
        for listener in made:
            nursery.start_soon(listener.gossip.run)
        yield made
        nursery.cancel_scope.cancel()


async def join(js: JsPeer, *listeners: Listener) -> None:
    """Connect `js` to each, and wait until each is in its mesh, and it in theirs."""
    await js.ask("subscribe", topic=ORDERS)
    for listener in listeners:
        await js.dial(address(listener.host))
        await until(lambda listener=listener: js.peer in listener.gossip.router.mesh.topics[ORDERS])  # type: ignore[misc]
        await listener.gossip.wait_for_subscribers(Topic.ORDERS)
        await js_until(js.mesh, lambda mesh, listener=listener: listener.host.peer_id in mesh)  # type: ignore[misc]


async def js_until(ask: Callable[[str], Awaitable[set[PeerId]]], met: Callable[[set[PeerId]], bool]) -> None:
    """Ask the js peer about the topic until its answer will do."""
    with trio.fail_after(PATIENCE_S):
        while not met(await ask(ORDERS)):
            await trio.sleep(0.02)


@contextlib.asynccontextmanager
async def connected(*, by_js: bool) -> AsyncIterator[tuple[Host, JsPeer]]:
    async with open_host(seed(1)) as host, js_peer() as js:
        if by_js:
            await js.dial(address(host))
        else:
            await host.connect(js.address)
        await until(lambda: host.is_connected(js.peer))
        yield host, js


either_way = pytest.mark.parametrize("by_js", [True, False], ids=["js dials", "we dial"])


@either_way
async def test_each_answers_the_pings_of_the_other(by_js: bool) -> None:
    async with connected(by_js=by_js) as (host, js):
        for _ in range(3):
            assert (await js.ask("ping", peer=host.peer_id))["ms"] >= 0
        stream = await host.open_stream(js.peer, PING)
        for number in range(3):
            sent = bytes([number]) * 32
            await stream.write(sent)
            assert await stream.read() == sent
        await stream.finish()


@either_way
async def test_each_tells_the_other_what_it_is_and_speaks(by_js: bool) -> None:
    async with connected(by_js=by_js) as (host, js):
        known = await identified(js, host.peer_id)
        assert {IDENTIFY, IDENTIFY_PUSH, PING} <= set(known["protocols"])
        assert f"{known['addresses'][0]}/p2p/{host.peer_id}" == address(host)
        assert known["agent"].startswith("py-libp2p/")

        await until(lambda: {IDENTIFY, PING, PROTOCOL} <= known_protocols(host, js.peer))


async def identified(js: JsPeer, peer: PeerId, protocol: str = PING) -> dict[str, Any]:
    """What js-libp2p knows of `peer`, once that includes `protocol`."""
    with trio.fail_after(PATIENCE_S):
        while True:
            with contextlib.suppress(JsError):
                known = await js.ask("known", peer=peer)
                if protocol in known["protocols"]:
                    return known
            await trio.sleep(0.02)


async def test_gossipsub_is_agreed_on_at_version_1_1_though_js_offers_1_2_first() -> None:
    async with listeners() as (node,), js_peer() as js:
        await join(js, node)
        streams = (await js.ask("streams", peer=node.host.peer_id))["streams"]
        gossip = [one for one in streams if one["protocol"].startswith("/meshsub/")]
        assert sorted(one["direction"] for one in gossip) == ["inbound", "outbound"]
        assert {one["protocol"] for one in gossip} == {PROTOCOL}


async def test_js_is_told_of_protocols_that_are_served_from_now_on() -> None:
    async with connected(by_js=True) as (host, js):
        await identified(js, host.peer_id)
        host.handle("/later/1", echo)
        await identified(js, host.peer_id, "/later/1")


async def test_who_connected_before_gossip_began_joins_it_all_the_same() -> None:
    async with connected(by_js=True) as (host, js), trio.open_nursery() as nursery:
        await js.ask("subscribe", topic=ORDERS)
        assert PROTOCOL not in (await identified(js, host.peer_id))["protocols"]
        node = Listener(host)
        nursery.start_soon(node.gossip.run)
        await node.gossip.wait_for_subscribers(Topic.ORDERS)
        await js_until(js.subscribers, lambda subscribers: host.peer_id in subscribers)
        await js.publish(ORDERS, codec.pack([b"late"]))
        await until(lambda: node.got == [[b"late"]])
        nursery.cancel_scope.cancel()


async def test_who_leaves_a_topic_leaves_its_mesh_and_may_come_back() -> None:
    async with listeners() as (node,), js_peer() as js:
        await join(js, node)
        await js.ask("unsubscribe", topic=ORDERS)
        await until(lambda: not node.gossip.subscribers(Topic.ORDERS))
        assert not node.gossip.router.mesh.topics[ORDERS]
        await js.ask("subscribe", topic=ORDERS)
        await node.gossip.wait_for_subscribers(Topic.ORDERS)
        node.gossip.publish(Topic.ORDERS, b"welcome back")
        await until(lambda: js.got(ORDERS) == [codec.pack([b"welcome back"])])


async def test_two_thousand_messages_go_each_way_at_once_and_none_is_lost_or_comes_twice() -> None:
    ours = [codec.pack([b"ours %d " % number + bytes(300)]) for number in range(MANY)]
    theirs = [codec.pack([b"theirs %d " % number + bytes(300)]) for number in range(MANY)]
    async with listeners() as (node,), js_peer() as js:
        await join(js, node)

        async def we_send() -> None:
            for number, batch in enumerate(ours):
                await until(lambda number=number: len(js.heard) > number - UNDER_WAY)  # type: ignore[misc]
                node.send(batch)

        async def they_send() -> None:
            for number, batch in enumerate(theirs):
                await until(lambda number=number: len(node.got) > number - UNDER_WAY)  # type: ignore[misc]
                assert await js.publish(ORDERS, batch) == 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(we_send)
            nursery.start_soon(they_send)
        await until(lambda: len(js.heard) >= MANY and len(node.got) >= MANY)

        assert Counter(js.got(ORDERS)) == Counter(ours)
        assert Counter(codec.pack(items) for items in node.got) == Counter(theirs)
        assert all(message.identity == message_id(message.data) for message in js.heard)
        counters = node.gossip.router.counters
        assert (counters.published, counters.received, counters.accepted) == (MANY, MANY, MANY)
        assert (counters.duplicates, counters.shed, counters.rejected) == (0, 0, 0)
        assert (node.gossip.shed_batches, node.gossip.links.shed_frames()) == (0, 0)
        assert (node.host.counters.peer_faults, node.host.counters.handler_errors) == (0, 0)
        assert node.gossip.router.scores.of(node.gossip.router.peers[0]) >= 0


async def test_a_burst_reaches_js_in_few_messages_each_a_batch() -> None:
    items = [b"item %d" % number for number in range(1_000)]
    async with listeners() as (node,), js_peer() as js:
        await join(js, node)
        for item in items:
            node.gossip.publish(Topic.ORDERS, item)
        await until(lambda: sum(len(decode_batch(data)) for data in js.got(ORDERS)) == len(items))
        assert [item for data in js.got(ORDERS) for item in decode_batch(data)] == items
        assert len(js.heard) == len(items) // limits.GOSSIP_BATCH_ITEMS


async def test_js_passes_on_between_two_of_ours_that_know_only_it() -> None:
    async with listeners(2) as (one, two), js_peer() as js:
        await join(js, one, two)
        one.gossip.publish(Topic.ORDERS, b"there")
        await until(lambda: two.got == [[b"there"]])
        two.gossip.publish(Topic.ORDERS, b"and back")
        await until(lambda: one.got == [[b"and back"]])
        assert js.heard == [
            Heard(topic=ORDERS, data=data, source=source.host.peer_id, identity=message_id(data))
            for source, data in ((one, codec.pack([b"there"])), (two, codec.pack([b"and back"])))
        ]
        assert not one.host.is_connected(two.host.peer_id)


async def test_js_asks_for_what_it_is_only_offered() -> None:
    """It left the topic a moment ago, so nobody grafts it yet: IHAVE and IWANT bring what others publish."""
    async with listeners(2) as (one, two), js_peer() as js:
        await join(js, one)
        await two.host.connect(address(one.host))
        await two.gossip.wait_for_subscribers(Topic.ORDERS)
        await js.ask("unsubscribe", topic=ORDERS)
        await until(lambda: js.peer not in one.gossip.subscribers(Topic.ORDERS))
        await js.ask("subscribe", topic=ORDERS)
        await until(lambda: js.peer in one.gossip.subscribers(Topic.ORDERS))
        assert Peer(js.peer) not in one.gossip.router.mesh.topics[ORDERS]
        two.gossip.publish(Topic.ORDERS, b"offered")
        await until(lambda: js.got(ORDERS) == [codec.pack([b"offered"])])
        assert one.gossip.router.counters.answered == 1


async def test_we_ask_for_what_js_only_offers() -> None:
    async with listeners(2) as (one, two), js_peer() as js:
        await join(js, one, two)
        router, perform = two.gossip.router, two.gossip._perform
        perform(router.unsubscribe(ORDERS))
        await js_until(js.subscribers, lambda subscribers: two.host.peer_id not in subscribers)
        perform(router.subscribe(ORDERS))
        await js_until(js.subscribers, lambda subscribers: two.host.peer_id in subscribers)
        assert two.host.peer_id not in await js.mesh(ORDERS)
        one.gossip.publish(Topic.ORDERS, b"offered")
        await until(lambda: two.got == [[b"offered"]])
        assert router.counters.iwant_sent == 1


async def test_messages_that_js_signs_are_a_fault_and_handled_by_nobody() -> None:
    async with listeners() as (node,), js_peer(policy="StrictSign") as js:
        await join(js, node)
        await js.publish(ORDERS, codec.pack([b"signed"]))
        await until(lambda: node.host.counters.peer_faults == 1)
        assert node.got == []


@pytest.mark.parametrize("key", ["secp256k1", "RSA"])
async def test_a_peer_with_another_kind_of_key_than_ours_gossips_as_well(key: str) -> None:
    async with listeners() as (node,), js_peer(key=key) as js:
        await join(js, node)
        await js.publish(ORDERS, codec.pack([b"theirs"]))
        await until(lambda: node.got == [[b"theirs"]])
        node.gossip.publish(Topic.ORDERS, b"ours")
        await until(lambda: js.got(ORDERS) == [codec.pack([b"ours"])])
        assert node.host.counters.handler_errors == 0


async def test_what_is_no_batch_is_rejected_and_the_next_good_one_heard() -> None:
    async with listeners() as (node,), js_peer() as js:
        await join(js, node)
        await js.publish(ORDERS, b"no batch")
        await until(lambda: node.host.counters.peer_faults == 1)
        await js.publish(ORDERS, codec.pack([b"good"]))
        await until(lambda: node.got == [[b"good"]])


async def test_protocols_that_js_does_not_serve_are_refused_in_words_of_ours() -> None:
    async with connected(by_js=False) as (host, js):
        with pytest.raises(FondacoError, match=r"stream\.refused"):
            await host.open_stream(js.peer, "/fondaco/sync/1")
        assert host.is_connected(js.peer)
