"""Who gets which message: a flooding router with a seen-cache, behind the interface a mesh will keep.

Events go in, effects come out in the order they are to be carried out; there is no clock but the `now` of the
last heartbeat, and no I/O. Three rules:

- A message is known by the hash of its data, cut to twenty bytes. It is delivered once and passed on once,
  however many neighbours send it; ids are remembered for `seen_ms` and never for more than `seen_items`.
- Nothing is passed on before its verdict. ACCEPT floods it to whoever wants the topic and has not sent it to
  us; IGNORE drops it without blame (an honest neighbour may lag); REJECT drops it and blames its source.
- What is passed on is byte for byte what came: the originator makes a message, relays change nothing.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NewType, assert_never

from fondaco.protocol import limits
from fondaco.protocol.gossip.seen import SeenCache
from fondaco.protocol.gossip.wire import Message, Rpc, Subscription
from fondaco.protocol.scalars import Millis

Peer = NewType("Peer", str)
"""Whatever text the driver knows a neighbour by."""
MessageId = NewType("MessageId", bytes)

ID_BYTES = 20


def message_id(data: bytes) -> MessageId:
    """The id of a message: sha256 of its data, cut to twenty bytes."""
    return MessageId(hashlib.sha256(data).digest()[:ID_BYTES])


class Verdict(enum.Enum):
    """What the application thinks of a message."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRpc:
    """Effect: send `rpc` to each of `peers`; it is encoded once."""

    peers: tuple[Peer, ...]
    rpc: Rpc


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Effect: judge this message and report with `Router.verdict`."""

    topic: str
    data: bytes
    message_id: MessageId
    source: Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Punish:
    """Effect: `peer` broke a rule; the driver scores it down."""

    peer: Peer
    code: str
    message: str


Effect = SendRpc | Deliver | Punish


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """Bounds of one router; the defaults are the project's."""

    seen_items: int = limits.SEEN_ITEMS
    seen_ms: int = limits.SEEN_MS
    pending: int = limits.GOSSIP_PENDING
    subscriptions: int = limits.GOSSIP_SUBSCRIPTIONS


@dataclass(slots=True)
class Counters:
    """What happened since the start, for metrics."""

    published: int = 0
    received: int = 0
    duplicates: int = 0
    delivered: int = 0
    accepted: int = 0
    ignored: int = 0
    rejected: int = 0
    unwanted: int = 0
    """Messages of topics we do not subscribe to."""
    shed: int = 0
    """Messages dropped because too many waited for a verdict."""
    sent: int = 0


@dataclass(slots=True)
class _Pending:
    message: Message
    source: Peer
    holders: set[Peer] = field(default_factory=set)
    """Neighbours that have it, as they sent it."""


class Router:
    """Decides; see the module. Peers that are unknown are ignored, so late events do no harm."""

    def __init__(self, config: RouterConfig | None = None, *, now: Millis) -> None:
        self.config = config or RouterConfig()
        self.counters = Counters()
        self._now = now
        self._seen: SeenCache[MessageId] = SeenCache(self.config.seen_items, self.config.seen_ms)
        self._pending: dict[MessageId, _Pending] = {}
        self._wanted: dict[Peer, set[str]] = {}
        self._topics: dict[str, None] = {}

    @property
    def peers(self) -> tuple[Peer, ...]:
        return tuple(self._wanted)

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(self._topics)

    def subscribers(self, topic: str) -> tuple[Peer, ...]:
        """Neighbours that want `topic`."""
        return tuple(peer for peer, wanted in self._wanted.items() if topic in wanted)

    def subscribe(self, topic: str) -> list[Effect]:
        """We want `topic` from now on."""
        if topic in self._topics:
            return []
        self._topics[topic] = None
        return self._announce(topic, subscribe=True)

    def unsubscribe(self, topic: str) -> list[Effect]:
        if topic not in self._topics:
            return []
        del self._topics[topic]
        return self._announce(topic, subscribe=False)

    def _announce(self, topic: str, *, subscribe: bool) -> list[Effect]:
        rpc = Rpc(subscriptions=(Subscription(topic=topic, subscribe=subscribe),))
        return self._send(self.peers, rpc)

    def peer_added(self, peer: Peer) -> list[Effect]:
        """A neighbour can be spoken to, for the first time or again: it is told what we want."""
        self._wanted.setdefault(peer, set())
        if not self._topics:
            return []
        wanted = tuple(Subscription(topic=topic, subscribe=True) for topic in self._topics)
        return self._send((peer,), Rpc(subscriptions=wanted))

    def peer_removed(self, peer: Peer) -> list[Effect]:
        """A neighbour is gone; what it wanted is forgotten, what it sent keeps its place."""
        self._wanted.pop(peer, None)
        return []

    def received(self, peer: Peer, rpc: Rpc) -> list[Effect]:
        """A neighbour said `rpc`."""
        effects: list[Effect] = []
        if rpc.subscriptions:
            effects += self._note(peer, rpc.subscriptions)
        for message in rpc.messages:
            effects += self._take(peer, message)
        return effects

    def _note(self, peer: Peer, subscriptions: Sequence[Subscription]) -> list[Effect]:
        wanted = self._wanted.get(peer)
        if wanted is None:
            return []
        for subscription in subscriptions:
            if not subscription.subscribe:
                wanted.discard(subscription.topic)
            elif len(wanted) < self.config.subscriptions or subscription.topic in wanted:
                wanted.add(subscription.topic)
            else:
                return [Punish(peer=peer, code="gossip.subscriptions", message="too many subscriptions")]
        return []

    def _take(self, peer: Peer, message: Message) -> list[Effect]:
        counters = self.counters
        counters.received += 1
        if message.topic not in self._topics:
            counters.unwanted += 1  # an unsubscription may be under way: no blame
            return []
        identity = message_id(message.data)
        waiting = self._pending.get(identity)
        if waiting is not None:
            waiting.holders.add(peer)
            counters.duplicates += 1
            return []
        if self._seen.has(identity, self._now):
            counters.duplicates += 1
            return []
        if len(self._pending) >= self.config.pending:
            counters.shed += 1  # not marked as seen: another neighbour's copy may find room
            return []
        self._seen.add(identity, self._now)
        self._pending[identity] = _Pending(message, peer, {peer})
        counters.delivered += 1
        return [Deliver(topic=message.topic, data=message.data, message_id=identity, source=peer)]

    def published(self, topic: str, data: bytes) -> list[Effect]:
        """We originate `data`: it floods to all who want `topic`, and is not delivered to ourselves."""
        identity = message_id(data)
        if self._seen.has(identity, self._now):
            self.counters.duplicates += 1
            return []
        self._seen.add(identity, self._now)
        self.counters.published += 1
        return self._send(self.subscribers(topic), Rpc(messages=(Message(topic=topic, data=data),)))

    def verdict(self, identity: MessageId, verdict: Verdict) -> list[Effect]:
        """The application has judged a message that was delivered. A second verdict has no effect."""
        pending = self._pending.pop(identity, None)
        if pending is None:
            return []
        match verdict:
            case Verdict.ACCEPT:
                self.counters.accepted += 1
                others = (p for p in self.subscribers(pending.message.topic) if p not in pending.holders)
                return self._send(tuple(others), Rpc(messages=(pending.message,)))
            case Verdict.IGNORE:
                self.counters.ignored += 1
                return []
            case Verdict.REJECT:
                self.counters.rejected += 1
                return [Punish(peer=pending.source, code="gossip.rejected", message="an invalid message")]
            case _:
                assert_never(verdict)

    def heartbeat(self, now: Millis) -> list[Effect]:
        """Time passes: remember it, forget old ids."""
        self._now = now
        self._seen.expire(now)
        return []

    def _send(self, peers: tuple[Peer, ...], rpc: Rpc) -> list[Effect]:
        if not peers:
            return []
        self.counters.sent += len(peers)
        return [SendRpc(peers=peers, rpc=rpc)]
