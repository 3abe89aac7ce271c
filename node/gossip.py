"""Gossip as the rest of the node sees it: items by topic, published in batches and handled once.

    gossip = Gossip(host, chain)
    gossip.subscribe(Topic.ORDERS, handle_orders)      # async (items, source) -> Verdict
    nursery.start_soon(gossip.run)
    gossip.publish(Topic.ORDERS, item)

An item is bytes; several make a batch, which is one gossip message: a canonical msgpack list. The cost is per
message, not per byte, so a burst is sent at most once in `limits.GOSSIP_BATCH_WINDOW_MS`, or whenever a batch is
full; the first item after a pause leaves at once. The originator makes the batch and relays pass it on
unchanged, so its id keeps; a handler is given those items of it that did not come before in another batch.

A batch is judged as a whole. One with a rejected item is not passed on, its sender is scored down, and its
items are not remembered: another batch that holds a bad one among good ones must be judged anew by us, or we
would pass on what our neighbours then blame us for.
"""

from __future__ import annotations

import enum
import hashlib
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable

import trio

from fondaco.node.network.framing import Framing
from fondaco.node.network.host import Host
from fondaco.node.network.links import Links
from fondaco.node.network.peers import PeerId, shared_address, unbase58
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.gossip import parameters, wire
from fondaco.protocol.gossip.router import (
    Deliver,
    Effect,
    Peer,
    Punish,
    Router,
    RouterConfig,
    SendRpc,
    Suggest,
    Verdict,
)
from fondaco.protocol.gossip.seen import SeenCache
from fondaco.protocol.scalars import ChainId, Millis

PROTOCOL = "/meshsub/1.1.0"
ITEM_OVERHEAD_BYTES = 5
"""What msgpack puts before each item, at most."""

ItemsHandler = Callable[[list[bytes], PeerId], Awaitable[Verdict]]


class Topic(enum.StrEnum):
    ORDERS = "orders"
    BIDS = "bids"
    """Bids and declines."""
    TRANSACTIONS = "transactions"
    STATUS = "status"


def topic_name(chain: ChainId, topic: str) -> str:
    """What a topic is called on the wire: chains never mix."""
    return f"/fondaco/{chain}/{topic}"


SCORES = {
    Topic.ORDERS: parameters.ORDERS,
    Topic.BIDS: parameters.BIDS,
    Topic.TRANSACTIONS: parameters.TRANSACTIONS,
    Topic.STATUS: parameters.STATUS,
}


def router_config(chain: ChainId) -> RouterConfig:
    """The router's, with what is scored in our topics; no other topic counts."""
    topics = {topic_name(chain, topic): terms for topic, terms in SCORES.items()}
    return RouterConfig(score=parameters.ScoreConfig(topics=topics, other_topics=None))


def item_id(item: bytes) -> bytes:
    return hashlib.sha256(item).digest()[:20]


def decode_batch(data: bytes) -> list[bytes]:
    """The items of a batch. Raises `Malformed` `gossip.batch`."""
    items = codec.unpack(data, limit=limits.GOSSIP_RPC_BYTES)
    if type(items) is not list or not 0 < len(items) <= limits.GOSSIP_BATCH_ITEMS:
        raise Malformed("gossip.batch", f"a batch is a list of 1 to {limits.GOSSIP_BATCH_ITEMS} items")
    for item in items:
        if type(item) is not bytes or not 0 < len(item) <= limits.GOSSIP_ITEM_BYTES:
            raise Malformed("gossip.batch", f"an item is 1 to {limits.GOSSIP_ITEM_BYTES} bytes")
    return items


class _Topic:
    """One subscribed or published topic: its batch in the making, and its batches that wait to be handled."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.handler: ItemsHandler | None = None
        self.batch: list[bytes] = []
        self.batch_bytes = 0
        self.filled = trio.Event()
        self.waiting: Counter[Peer] = Counter()
        """Of those batches, how many came from each neighbour."""
        self.inbox, self.outbox = trio.open_memory_channel[Deliver](limits.GOSSIP_QUEUE_BATCHES)
        self.seen: SeenCache[bytes] = SeenCache(limits.SEEN_ITEMS, limits.SEEN_MS)
        self.running = False


class Gossip:
    """One node's part in the gossip of one chain. `run` it in a nursery."""

    def __init__(self, host: Host, chain: ChainId) -> None:
        self._host = host
        self._chain = chain
        self.router = Router(router_config(chain), now=self._now(), seed=secrets.randbits(64))
        framing = Framing(encode=wire.delimit, reader=wire.DelimitedReader)
        self.links = Links(host, PROTOCOL, self._on_rpc, hello=None, on_up=self._on_up, framing=framing)
        self._topics: dict[str, _Topic] = {}
        self._nursery: trio.Nursery | None = None
        self._subscriptions_changed = trio.Event()
        self.shed_batches = 0
        """Batches dropped because their handler was too slow."""
        self.items_handled = 0
        self.items_repeated = 0

    def peers(self) -> list[PeerId]:
        """Neighbours that gossip can be sent to now."""
        return self.links.peers()

    def subscribers(self, topic: str) -> list[PeerId]:
        """Neighbours that want `topic` and can be sent to: one may say so before our own stream to it is up."""
        linked = set(self.links.peers())
        wanting = self.router.subscribers(topic_name(self._chain, topic))
        return [PeerId(peer) for peer in wanting if PeerId(peer) in linked]

    async def wait_for_subscribers(self, topic: str, count: int = 1) -> None:
        """Until so many neighbours want `topic`: what is published before reaches fewer."""
        while len(self.subscribers(topic)) < count:
            await self._subscriptions_changed.wait()

    def subscribe(self, topic: str, handler: ItemsHandler) -> None:
        """Have `handler(items, source)` judge what comes under `topic`; once per topic.

        It is called with one batch after the other, and only with items not seen before.
        """
        state = self._topic(topic)
        assert state.handler is None, f"{topic} has a handler already"
        state.handler = handler
        if self._nursery is not None:
            self._start(state)
            self._nursery.start_soon(self._handle, state)
        self._perform(self.router.subscribe(state.name))

    def publish(self, topic: str, item: bytes) -> None:
        """Send `item` to everybody; it is not handed to our own handler.

        Never waits. An item seen before is not sent again. Raises `Refused` `gossip.item` if it is empty or too
        large.
        """
        if not 0 < len(item) <= limits.GOSSIP_ITEM_BYTES:
            raise Refused(
                "gossip.item", f"an item of {len(item)} bytes; 1 to {limits.GOSSIP_ITEM_BYTES} can be sent"
            )
        state = self._topic(topic)
        if not state.seen.add(item_id(item), self._now()):
            return
        size = len(item) + ITEM_OVERHEAD_BYTES
        if state.batch_bytes + size > limits.GOSSIP_BATCH_BYTES or len(state.batch) >= limits.GOSSIP_BATCH_ITEMS:
            self._flush(state)
        state.batch.append(item)
        state.batch_bytes += size
        state.filled.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._host.on_disconnected(self._on_gone)
            nursery.start_soon(self.links.run)
            nursery.start_soon(self._heartbeat)
            for state in self._topics.values():
                self._start(state)
                if state.handler is not None:
                    nursery.start_soon(self._handle, state)
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    # Sending

    def _topic(self, topic: str) -> _Topic:
        name = topic_name(self._chain, topic)
        state = self._topics.get(name)
        if state is None:
            state = self._topics[name] = _Topic(name)
            if self._nursery is not None:
                self._start(state)
        return state

    def _start(self, state: _Topic) -> None:
        assert self._nursery is not None
        if not state.running:
            state.running = True
            self._nursery.start_soon(self._send_batches, state)

    async def _send_batches(self, state: _Topic) -> None:
        """Send what there is, then wait out the window: a lone item leaves at once, a burst is batched."""
        while True:
            await state.filled.wait()
            self._flush(state)
            await trio.sleep(limits.GOSSIP_BATCH_WINDOW_MS / 1000)

    def _flush(self, state: _Topic) -> None:
        state.filled = trio.Event()
        if state.batch:
            data = codec.pack(state.batch)
            state.batch, state.batch_bytes = [], 0
            self._perform(self.router.published(state.name, data, now=self._now()))

    # What the neighbours say

    def _on_up(self, peer: PeerId) -> None:
        self._add(peer)
        self._ring()

    def _add(self, peer: PeerId) -> None:
        address, outbound = shared_address(self._host.remote_ip(peer)), self._host.dialled(peer)
        self._perform(
            self.router.peer_added(Peer(peer), address=address, outbound=outbound, identity=unbase58(peer))
        )

    def _on_gone(self, peer: PeerId) -> None:
        self._perform(self.router.peer_removed(Peer(peer)))

    async def _on_rpc(self, peer: PeerId, data: bytes) -> None:
        if not self._host.is_connected(peer):
            return
        rpc = wire.decode(data)
        if rpc.subscriptions and Peer(peer) not in self.router.peers:
            self._add(peer)  # it speaks before our own stream to it is up
        self._perform(self.router.received(Peer(peer), rpc, now=self._now()))
        if rpc.subscriptions:
            self._ring()

    def _ring(self) -> None:
        """Wake who waits for subscribers."""
        self._subscriptions_changed.set()
        self._subscriptions_changed = trio.Event()

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendRpc():
                    self.links.send_many([PeerId(peer) for peer in effect.peers], wire.encode(effect.rpc))
                case Deliver():
                    self._enqueue(effect)
                case Punish():
                    self._host.blame(PeerId(effect.peer), PeerFault(effect.code, effect.message))
                case Suggest():
                    pass  # names without a signed record of where they are: discovery knows better

    def _enqueue(self, delivery: Deliver) -> None:
        """Half of the queue is for others: one that floods it loses its own batches, not theirs."""
        state = self._topics[delivery.topic]
        try:
            if state.waiting[delivery.source] >= limits.GOSSIP_QUEUE_BATCHES // 2:
                raise trio.WouldBlock
            state.inbox.send_nowait(delivery)
            state.waiting[delivery.source] += 1
        except trio.WouldBlock:
            self.shed_batches += 1
            self._perform(self.router.verdict(delivery.message_id, Verdict.IGNORE))

    async def _handle(self, state: _Topic) -> None:
        """Judge one batch after the other: so no item is ever in two batches under judgement."""
        async for delivery in state.outbox:
            state.waiting[delivery.source] -= 1
            if not state.waiting[delivery.source]:
                del state.waiting[delivery.source]
            verdict = await self._judge(state, delivery)
            self._perform(self.router.verdict(delivery.message_id, verdict, now=self._now()))

    async def _judge(self, state: _Topic, delivery: Deliver) -> Verdict:
        try:
            items = decode_batch(delivery.data)
        except Malformed:
            return Verdict.REJECT
        now = self._now()
        fresh = [item for item in items if state.seen.add(item_id(item), now)]
        self.items_repeated += len(items) - len(fresh)
        if not fresh:
            self.router.stale(delivery.source)
            return Verdict.IGNORE
        self.items_handled += len(fresh)
        assert state.handler is not None
        try:
            verdict = await state.handler(fresh, PeerId(delivery.source))
        except PeerFault:
            verdict = Verdict.REJECT
        if verdict is Verdict.REJECT:
            for item in fresh:
                state.seen.forget(item_id(item))
        return verdict

    async def _heartbeat(self) -> None:
        while True:
            now = self._now()
            self._perform(self.router.heartbeat(now))
            for state in self._topics.values():
                state.seen.expire(now)
            await trio.sleep(limits.GOSSIP_HEARTBEAT_MS / 1000)

    @staticmethod
    def _now() -> Millis:
        return Millis(int(trio.current_time() * 1000))
