"""Who gets which message: a gossipsub v1.1 router, sans-IO.

Events go in, effects come out in the order they are to be carried out; there is no clock but the `now` that comes
with events, no I/O, and no chance but the seed. What is where:

    mesh     who gets everything at once        lazy     IHAVE and IWANT, from the message cache
    score    what we think of whom              backoff, promises   what is remembered against whom
    wire, control   the bytes                   parameters   every number, with its reason

Of messages:

- One is known by the hash of its data, cut to twenty bytes. It is delivered once and passed on once, however
  many neighbours send it; ids are remembered for `seen_ms` and never for more than `seen_items`.
- Nothing is passed on before its verdict. ACCEPT sends it to the mesh and keeps it for who asks; IGNORE drops
  it without blame (an honest neighbour may lag); REJECT drops it and blames all who sent it.
- What the application has no room for counts as not seen, and is asked for again when it has; see `missed`.
- What is passed on is byte for byte what came: the originator makes a message, relays change nothing. Our own
  go to every neighbour that wants them, so that a mesh of liars cannot keep them in.

https://github.com/libp2p/specs/tree/master/pubsub/gossipsub
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import assert_never

from fondaco.protocol.gossip.chance import Chance
from fondaco.protocol.gossip.control import Control, IHave, Prune
from fondaco.protocol.gossip.counters import Counters, TopicCounters
from fondaco.protocol.gossip.effects import (
    Deliver,
    Effect,
    MessageId,
    Peer,
    Punish,
    SendRpc,
    Suggest,
    Verdict,
    message_id,
)
from fondaco.protocol.gossip.graylist import Graylist
from fondaco.protocol.gossip.lazy import Lazy, parcels
from fondaco.protocol.gossip.mesh import Mesh, Neighbour
from fondaco.protocol.gossip.missed import Missed
from fondaco.protocol.gossip.parameters import RouterConfig
from fondaco.protocol.gossip.pending import Accepted, Pending
from fondaco.protocol.gossip.repeats import Repeats
from fondaco.protocol.gossip.score import Scores
from fondaco.protocol.gossip.seen import SeenCache
from fondaco.protocol.gossip.wire import Message, Rpc, Subscription
from fondaco.protocol.scalars import Millis

__all__ = [
    "Counters",
    "Deliver",
    "Effect",
    "MessageId",
    "Peer",
    "Punish",
    "Router",
    "RouterConfig",
    "SendRpc",
    "Suggest",
    "Verdict",
    "message_id",
]


class Router:
    """Decides; see the module. Peers that are unknown are ignored, so late events do no harm."""

    def __init__(self, config: RouterConfig | None = None, *, now: Millis, seed: int = 0) -> None:
        """`seed` decides every choice among peers; what they could guess would help them."""
        self.config = config or RouterConfig()
        self.counters = Counters()
        self.by_topic: dict[str, TopicCounters] = {}
        """Only of topics of our own choice: strangers cannot make it grow."""
        self._now = self._beat_at = now
        self._neighbours: dict[Peer, Neighbour] = {}
        chance = Chance(seed)
        self.scores = Scores(self.config.score, now)
        self.mesh = Mesh(self.config, self._neighbours, self.scores, chance, self.counters)
        self.lazy = Lazy(self.config, self.scores, chance, self.counters)
        self._seen: SeenCache[MessageId] = SeenCache(self.config.seen_items, self.config.seen_ms)
        self._invalid: SeenCache[MessageId] = SeenCache(self.config.seen_items, self.config.seen_ms)
        self._pending: dict[MessageId, Pending] = {}
        self._accepted: OrderedDict[MessageId, Accepted] = OrderedDict()
        """Since the last heartbeat but one, and no more than may be pending."""
        self.repeats = Repeats(self.config.repetitions)
        self._graylist = Graylist(self.config, self.scores, self.counters)
        self.missed = Missed(self.config.pending, (self.config.history_windows - 1) * self.config.heartbeat_ms)

    @property
    def peers(self) -> tuple[Peer, ...]:
        return tuple(self._neighbours)

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(self.mesh.topics)

    def wanted(self) -> dict[Peer, tuple[str, ...]]:
        """Of each neighbour the topics it wants."""
        return {peer: tuple(sorted(neighbour.wanted)) for peer, neighbour in self._neighbours.items()}

    def count(self, topic: str) -> TopicCounters:
        """What is counted of a topic of ours."""
        return self.by_topic.setdefault(topic, TopicCounters())

    def subscribers(self, topic: str) -> tuple[Peer, ...]:
        """Neighbours that want `topic`."""
        return tuple(self.mesh.wanting(topic))

    # What we want

    def subscribe(self, topic: str) -> list[Effect]:
        """We want `topic` from now on."""
        if topic in self.mesh.topics:
            return []
        grafted = self.mesh.join(topic, self._now)
        said = (Subscription(topic=topic, subscribe=True),)
        effects = self._send(tuple(grafted), Rpc(subscriptions=said, control=Control(graft=(topic,))))
        return effects + self._send(self._but(grafted), Rpc(subscriptions=said))

    def unsubscribe(self, topic: str) -> list[Effect]:
        if topic not in self.mesh.topics:
            return []
        members = self.mesh.leave(topic, self._now)
        said = (Subscription(topic=topic, subscribe=False),)
        effects: list[Effect] = []
        for peer in members:
            control = Control(prune=(self.mesh.farewell(topic, peer),))
            effects += self._send((peer,), Rpc(subscriptions=said, control=control))
        return effects + self._send(self._but(members), Rpc(subscriptions=said))

    def _but(self, members: list[Peer]) -> tuple[Peer, ...]:
        return tuple(peer for peer in self._neighbours if peer not in members)

    # Who is there

    def peer_added(
        self,
        peer: Peer,
        *,
        address: str = "",
        outbound: bool = False,
        identity: bytes = b"",
        record: bytes = b"",
    ) -> list[Effect]:
        """A neighbour can be spoken to, for the first time or again: it is told what we want, and of our meshes.

        `address` is whatever honest peers seldom share, empty if that means nothing; `outbound` that we dialled;
        `identity` the binary peer id by which others may be told of it, and `record` its signed record.
        """
        neighbour = self._neighbours.setdefault(peer, Neighbour())
        neighbour.outbound, neighbour.identity, neighbour.record = outbound, identity, record
        self.scores.added(peer, address)
        wanted = tuple(Subscription(topic=topic, subscribe=True) for topic in self.mesh.topics)
        grafts = tuple(topic for topic, members in self.mesh.topics.items() if peer in members)
        if not wanted:
            return []
        return self._send((peer,), Rpc(subscriptions=wanted, control=Control(graft=grafts)))

    def peer_recorded(self, peer: Peer, record: bytes) -> None:
        """The signed record of a neighbour, verified by the driver; others may be handed it."""
        if peer in self._neighbours:
            self._neighbours[peer].record = record

    def peer_removed(self, peer: Peer) -> list[Effect]:
        """A neighbour is gone; what it wanted is forgotten, what it sent keeps its place."""
        neighbour = self._neighbours.pop(peer, None)
        if neighbour is None:
            return []
        for topic in neighbour.wanted:
            self.mesh.lost(topic, peer)
        self.scores.removed(peer, self._now)
        self.repeats.forget(peer)
        self._graylist.forget(peer)
        return []

    # What neighbours say

    def received(self, peer: Peer, rpc: Rpc, *, now: Millis | None = None) -> list[Effect]:
        """A neighbour said `rpc`; `now` where the driver knows better than the last heartbeat.

        Of a graylisted one only what it wants is noted: its score may rise again.
        """
        self._now = now or self._now
        effects = self._note(peer, rpc.subscriptions)
        if self.scores.of(peer) < self.config.score.graylist_threshold:
            return effects + self._graylist.unread(peer, rpc)
        for message in rpc.messages:
            effects += self._take(peer, message)
        if rpc.control and peer in self._neighbours:
            effects += self._heed(peer, rpc.control)
        return effects

    def _note(self, peer: Peer, subscriptions: Sequence[Subscription]) -> list[Effect]:
        neighbour = self._neighbours.get(peer)
        if neighbour is None:
            return []
        grafts: list[str] = []
        effects: list[Effect] = []
        for said in subscriptions:
            if not said.subscribe:
                neighbour.wanted.discard(said.topic)
                self.mesh.lost(said.topic, peer)
            elif len(neighbour.wanted) < self.config.subscriptions or said.topic in neighbour.wanted:
                neighbour.wanted.add(said.topic)
                if self.mesh.greet(said.topic, peer, self._now):
                    grafts.append(said.topic)
            else:
                effects.append(Punish(peer=peer, code="gossip.subscriptions", message="too many subscriptions"))
                break
        if grafts:
            effects += self._send((peer,), Rpc(control=Control(graft=tuple(grafts))))
        return effects

    def _take(self, peer: Peer, message: Message) -> list[Effect]:
        counters = self.counters
        counters.received += 1
        if message.topic not in self.mesh.topics:
            counters.unwanted += 1  # an unsubscription may be under way: no blame
            return []
        identity = message_id(message.data)
        self.lazy.promises.kept(identity)
        waiting = self._pending.get(identity)
        of_topic = self.count(message.topic)
        if waiting is not None or self._seen.has(identity, self._now):
            counters.duplicates += 1
            of_topic.duplicates += 1
            if self.repeats.again(peer):
                self.scores.misdeed(peer, 1)
            return self._again(peer, message.topic, identity, waiting)
        if len(self._pending) >= self.config.pending:
            of_topic.shed += 1
            counters.shed += 1  # not marked as seen: another neighbour's copy may find room
            return []
        self._seen.add(identity, self._now)
        counters.recovered += self.missed.came(identity)
        self._pending[identity] = Pending(message, peer, {peer: None})
        counters.delivered += 1
        of_topic.delivered += 1
        self.repeats.fresh()
        return [Deliver(topic=message.topic, data=message.data, message_id=identity, source=peer)]

    def _again(self, peer: Peer, topic: str, identity: MessageId, waiting: Pending | None) -> list[Effect]:
        """A copy of a message that we have: it counts for its sender once, or against it every time."""
        accepted = self._accepted.get(identity)
        if waiting is not None:
            waiting.holders[peer] = None
        elif self._invalid.has(identity, self._now):
            self.scores.invalid(peer, topic)
            return [Punish(peer=peer, code="gossip.rejected", message="an invalid message, known as such")]
        elif accepted is not None and peer not in accepted.holders:
            accepted.holders[peer] = None
            terms = self.config.score.topic(topic)
            if terms is not None and self._now - accepted.at <= terms.delivery_window_ms:
                self.scores.near_first(peer, topic)
        return []

    def _heed(self, peer: Peer, control: Control) -> list[Effect]:
        asked = self.lazy.offered(peer, control.ihave, self._known)
        if asked:
            self.lazy.asks(peer, asked, self._now)
        answers = parcels(self.lazy.asked(peer, control.iwant))
        refused = [self.mesh.graft_asked(topic, peer, self._now) for topic in control.graft]
        effects: list[Effect] = []
        for prune in control.prune:
            believed = self.mesh.prune_told(prune, peer, self._now)
            if believed and prune.peers:
                self.counters.suggestions += len(prune.peers)
                effects.append(Suggest(peer=peer, topic=prune.topic, others=prune.peers))
        said = Control(iwant=tuple(asked), prune=tuple(prune for prune in refused if prune is not None))
        if said:
            effects += self._send((peer,), Rpc(control=said))
        for messages in answers:
            effects += self._send((peer,), Rpc(messages=messages))
        return effects

    def _known(self, topic: str, identity: MessageId) -> bool:
        return topic not in self.mesh.topics or self._seen.has(identity, self._now)

    def stale(self, peer: Peer) -> None:
        """The driver's word on a message of `peer` that was delivered: it holds nothing new."""
        if self.repeats.stale(peer):
            self.scores.misdeed(peer, 1)

    # Messages

    def published(self, topic: str, data: bytes, *, now: Millis | None = None) -> list[Effect]:
        """We originate `data`: it goes to all who want `topic`, and is not delivered to ourselves."""
        self._now = now or self._now
        identity = message_id(data)
        if self._seen.has(identity, self._now):
            self.counters.duplicates += 1
            return []
        self._seen.add(identity, self._now)
        self.counters.published += 1
        self.count(topic).published += 1
        message = Message(topic=topic, data=data)
        self.lazy.cache.put(identity, message)
        peers = self.mesh.wanting(topic) if self.config.flood_publish else self.mesh.publish_to(topic, self._now)
        least = self.config.score.publish_threshold
        return self._send(tuple(p for p in peers if self.scores.of(p) >= least), Rpc(messages=(message,)))

    def verdict(self, identity: MessageId, verdict: Verdict, *, now: Millis | None = None) -> list[Effect]:
        """The application has judged a message that was delivered. A second verdict has no effect."""
        self._now = now or self._now
        pending = self._pending.pop(identity, None)
        if pending is None:
            return []
        topic = pending.message.topic
        match verdict:
            case Verdict.ACCEPT:
                self.counters.accepted += 1
                self.count(topic).accepted += 1
                return self._accept(identity, pending)
            case Verdict.IGNORE:
                self.counters.ignored += 1
                self.count(topic).ignored += 1
                return []
            case Verdict.REJECT:
                self.counters.rejected += 1
                self.count(topic).rejected += 1
                self._invalid.add(identity, self._now)
                for peer in pending.holders:
                    self.scores.invalid(peer, topic)
                return [Punish(peer=pending.source, code="gossip.rejected", message="an invalid message")]
            case _:
                assert_never(verdict)

    def _accept(self, identity: MessageId, pending: Pending) -> list[Effect]:
        topic, holders = pending.message.topic, pending.holders
        self.scores.first_delivery(pending.source, topic)
        for peer in holders:
            if peer != pending.source:
                self.scores.near_first(peer, topic)
        self.lazy.cache.put(identity, pending.message)
        self._accepted[identity] = Accepted(self._now, holders)
        if len(self._accepted) > self.config.pending:
            self._accepted.popitem(last=False)
        others = tuple(peer for peer in self.mesh.topics.get(topic, ()) if peer not in holders)
        return self._send(others, Rpc(messages=(pending.message,)))

    def no_room(self, identity: MessageId, *, now: Millis | None = None) -> None:
        """The application drops a message unjudged, as if it had not come; it may ask for it by `recall`."""
        self._now = now or self._now
        pending = self._pending.pop(identity, None)
        if pending is not None:
            self.counters.no_room += 1
            self._seen.forget(identity)
            self.missed.add(identity, pending.message.topic, tuple(pending.holders), self._now)

    def recall(self, topic: str, room: int) -> list[Effect]:
        """There is room again for so many messages of `topic`: ask for those that were dropped."""
        effects: list[Effect] = []
        for peer, ids in self.missed.recall(topic, room, self._neighbours).items():
            self.counters.recalled += len(ids)
            effects += self._send((peer,), Rpc(control=Control(iwant=tuple(ids))))
        return effects

    # Time

    def heartbeat(self, now: Millis) -> list[Effect]:
        """Time passes: scores fade, meshes are mended, what was heard is gossiped about. Once a second or so."""
        last, self._beat_at, self._now = self._beat_at, now, now
        for memory in (self._seen, self._invalid, self.missed):
            memory.expire(now)
        while self._accepted and next(iter(self._accepted.values())).at < last:
            self._accepted.popitem(last=False)
        self.lazy.heartbeat(now)
        self.repeats.heartbeat()
        self.scores.decay(now)
        effects = self._graylist.heartbeat(self._neighbours)
        grafts: dict[Peer, list[str]] = {}
        prunes: dict[Peer, list[Prune]] = {}
        offers: dict[Peer, list[IHave]] = {}
        for topic, changes in self.mesh.heartbeat(now).items():
            for peer in changes.grafts:
                grafts.setdefault(peer, []).append(topic)
            for peer, prune in changes.prunes:
                prunes.setdefault(peer, []).append(prune)
        for topic, eager in (self.mesh.topics | self.mesh.fanout).items():
            for peer, offer in self.lazy.offers(topic, eager, self.mesh.wanting(topic)):
                offers.setdefault(peer, []).append(offer)
        for peer in grafts | prunes | offers:
            control = Control(
                graft=tuple(grafts.get(peer, ())),
                prune=tuple(prunes.get(peer, ())),
                ihave=tuple(offers.get(peer, ())),
            )
            effects += self._send((peer,), Rpc(control=control))
        self.lazy.cache.shift()
        return effects

    def _send(self, peers: tuple[Peer, ...], rpc: Rpc) -> list[Effect]:
        self.counters.sent += len(peers)
        return [SendRpc(peers=peers, rpc=rpc)] if peers else []
