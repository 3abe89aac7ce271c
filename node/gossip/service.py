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

When there is too much, what consensus lives on goes before market chatter: transactions, then orders, then bids
and declines, then status.

- *To a neighbour that is too slow* they leave in that order, after what routers say among themselves. When its
  queue (`limits.SEND_QUEUE_BYTES`) is full the lightest topic there is shed, its oldest message first: status
  first, transactions when there is nothing else but control.
- *For a handler that is too slow* each topic has an inbox of `limits.GOSSIP_QUEUE_BATCHES`, so that none takes
  another's place, and a batch of a lighter topic waits for heavier inboxes to empty, though not for ever. One
  neighbour may fill half of an inbox. Whatever comes to a full one is turned away, and asked for again once half
  of it is empty, for as long as neighbours hold it: four heartbeats. Orders and bids that are lost for all that
  come with a round of the book.

Nothing is dropped in silence: `counters` has it by topic and reason, and the log says so, now and then.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict

import trio

from fondaco.node.gossip.counters import GossipCounters, ItemCounters, ShedLog
from fondaco.node.gossip.inbox import Inbox, Turns
from fondaco.node.gossip.topics import (
    CONTROL,
    ITEM_OVERHEAD_BYTES,
    LIGHTEST,
    RANKS,
    decode_batch,
    item_key,
    rank_of,
    router_config,
    topic_name,
)
from fondaco.node.network.framing import Framing
from fondaco.node.network.host import Host
from fondaco.node.network.links import Links
from fondaco.node.network.peers import PeerId, shared_address
from fondaco.node.timings import Timings
from fondaco.protocol import codec, limits
from fondaco.protocol.base58 import unbase58
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.gossip import wire
from fondaco.protocol.gossip.control import PeerInfo
from fondaco.protocol.gossip.memo import Memo
from fondaco.protocol.gossip.router import (
    Deliver,
    Effect,
    Peer,
    Punish,
    Router,
    SendRpc,
    Suggest,
    Verdict,
)
from fondaco.protocol.gossip.seen import SeenCache
from fondaco.protocol.gossip.wire import Rpc
from fondaco.protocol.scalars import ChainId, Millis

PROTOCOL = "/meshsub/1.1.0"
ItemsHandler = Callable[[list[bytes], PeerId], Awaitable[Verdict]]


def _nobody(_peer: PeerId, _others: tuple[PeerInfo, ...]) -> None:
    """The default where nobody looks for peers."""


def _unknown(_peer: PeerId) -> bytes:
    """The default where nobody keeps records."""
    return b""


class TopicState:
    """One subscribed or published topic: its batch in the making, and its batches that wait to be handled."""

    def __init__(self, topic: str, name: str, counters: ItemCounters) -> None:
        self.topic = str(topic)
        self.counters = counters
        self.name = name
        self.rank = rank_of(topic)
        self.handler: ItemsHandler | None = None
        self.batch: list[bytes] = []
        self.batch_bytes = 0
        self.filled = trio.Event()
        self.inbox = Inbox(self.rank)
        self.seen: SeenCache[int] = SeenCache(limits.SEEN_ITEMS, limits.SEEN_MS)
        self.running = False
        self.took = Timings()
        """The handler's times, a batch each."""


class Gossip:
    """One node's part in the gossip of one chain. `run` it in a nursery."""

    def __init__(self, host: Host, chain: ChainId) -> None:
        self._host = host
        self._chain = chain
        self.router = Router(router_config(chain), now=self._now(), seed=secrets.randbits(64))
        framing = Framing(encode=wire.delimit, reader=wire.DelimitedReader)
        self.links = Links(host, PROTOCOL, self._on_rpc, hello=None, on_up=self._on_up, framing=framing)
        self._topics: dict[str, TopicState] = {}
        self._nursery: trio.Nursery | None = None
        self._subscriptions_changed = trio.Event()
        self._ranks = {topic_name(chain, topic): rank_of(topic) for topic in RANKS}
        self._memo = Memo()
        self._turns = Turns()
        self._counters = GossipCounters()
        self._shed_log = ShedLog()
        self.on_suggest: Callable[[PeerId, tuple[PeerInfo, ...]], None] = _nobody
        """A neighbour of good score pruned us and names others; their records are still to be verified."""
        self.record_of: Callable[[PeerId], bytes] = _unknown
        """The verified record of a neighbour, which others may be handed; empty where there is none."""

    @property
    def counters(self) -> GossipCounters:
        """As they are now; always the same object."""
        shed = self.links.shed_by_rank()
        for rank, topic in enumerate(("control", *RANKS, "other")):
            if shed[rank]:
                self._counters.of(topic).shed_slow_peer = shed[rank]
        for state in self._topics.values():
            state.counters.lost = self.router.missed.lost[state.name]
        return self._counters

    @property
    def shed_batches(self) -> int:
        """Batches dropped because their handler was too slow."""
        return self._counters.total("shed_slow_handler")

    @property
    def items_handled(self) -> int:
        return self._counters.total("handled")

    @property
    def items_repeated(self) -> int:
        return self._counters.total("repeated")

    @property
    def topics(self) -> Mapping[str, TopicState]:
        """By the name on the wire."""
        return self._topics

    def counted(self) -> dict[str, dict[str, int]]:
        """What the router counted so far, by topic."""
        return {name: asdict(one) for name, one in self.router.by_topic.items()}

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
        if not state.seen.add(item_key(item), self._now()):
            return
        size = len(item) + ITEM_OVERHEAD_BYTES
        if state.batch_bytes + size > limits.GOSSIP_BATCH_BYTES or len(state.batch) >= limits.GOSSIP_BATCH_ITEMS:
            self._flush(state)
        state.batch.append(item)
        state.batch_bytes += size
        state.counters.published += 1
        state.filled.set()

    def recorded(self, peer: PeerId, record: bytes) -> None:
        """The verified record of a neighbour is known now."""
        self.router.peer_recorded(Peer(peer), record)

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

    def _topic(self, topic: str) -> TopicState:
        name = topic_name(self._chain, topic)
        state = self._topics.get(name)
        if state is None:
            state = self._topics[name] = TopicState(topic, name, self._counters.of(str(topic)))
            if self._nursery is not None:
                self._start(state)
        return state

    def _start(self, state: TopicState) -> None:
        assert self._nursery is not None
        if not state.running:
            state.running = True
            self._nursery.start_soon(self._send_batches, state)

    async def _send_batches(self, state: TopicState) -> None:
        """Send what there is, then wait out the window: a lone item leaves at once, a burst is batched."""
        while True:
            await state.filled.wait()
            self._flush(state)
            await trio.sleep(limits.GOSSIP_BATCH_WINDOW_MS / 1000)

    def _flush(self, state: TopicState) -> None:
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
        identity, record = unbase58(peer), self.record_of(peer)
        self._perform(
            self.router.peer_added(
                Peer(peer), address=address, outbound=outbound, identity=identity, record=record
            )
        )

    def _on_gone(self, peer: PeerId) -> None:
        self._perform(self.router.peer_removed(Peer(peer)))

    async def _on_rpc(self, peer: PeerId, data: bytes) -> None:
        if not self._host.is_connected(peer):
            return
        rpc = self._memo.decode(data)
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
                    peers = [PeerId(peer) for peer in effect.peers]
                    self.links.send_many(peers, wire.encode(effect.rpc), rank=self._rank(effect.rpc))
                case Deliver():
                    self._enqueue(effect)
                case Punish():
                    self._host.blame(PeerId(effect.peer), PeerFault(effect.code, effect.message))
                case Suggest():
                    self.on_suggest(PeerId(effect.peer), effect.others)

    def _rank(self, rpc: Rpc) -> int:
        """That of its heaviest message."""
        return min((self._ranks.get(message.topic, LIGHTEST) for message in rpc.messages), default=CONTROL)

    def _enqueue(self, delivery: Deliver) -> None:
        state = self._topics[delivery.topic]
        if not state.inbox.put(delivery):
            state.counters.shed_slow_handler += 1
            self.router.no_room(delivery.message_id)

    async def _handle(self, state: TopicState) -> None:
        """Judge one batch after the other: so no item is ever in two batches under judgement."""
        inbox = state.inbox
        while True:
            await inbox.wait()
            await self._turns.take(inbox, [other.inbox for other in self._topics.values()])
            delivery = inbox.pop()
            if not inbox:
                self._turns.done()
            began = trio.current_time()
            verdict = await self._judge(state, delivery)
            state.took.note(trio.current_time() - began)
            self._perform(self.router.verdict(delivery.message_id, verdict, now=self._now()))
            if self.router.missed and inbox.room > 0:
                self._perform(self.router.recall(state.name, inbox.room))

    async def _judge(self, state: TopicState, delivery: Deliver) -> Verdict:
        """What the handler says of the items that it has not seen."""
        try:
            items = decode_batch(delivery.data)
        except Malformed:
            return Verdict.REJECT
        now = self._now()
        fresh = [item for item in items if state.seen.add(item_key(item), now)]
        state.counters.repeated += len(items) - len(fresh)
        if not fresh:
            self.router.stale(delivery.source)
            return Verdict.IGNORE
        state.counters.handled += len(fresh)
        assert state.handler is not None
        try:
            verdict = await state.handler(fresh, PeerId(delivery.source))
        except PeerFault:
            verdict = Verdict.REJECT
        if verdict is Verdict.REJECT:
            for item in fresh:
                state.seen.forget(item_key(item))
        return verdict

    async def _heartbeat(self) -> None:
        while True:
            now = self._now()
            self._perform(self.router.heartbeat(now))
            self._memo.turn()
            for state in self._topics.values():
                state.seen.expire(now)
                if not state.inbox and self.router.missed:
                    self._perform(self.router.recall(state.name, state.inbox.room))
            self._shed_log.tell(self.counters, trio.current_time())
            await trio.sleep(limits.GOSSIP_HEARTBEAT_MS / 1000)

    @staticmethod
    def _now() -> Millis:
        return Millis(int(trio.current_time() * 1000))
