"""Gossip about messages: IHAVE offers ids to neighbours outside the mesh, IWANT asks for what they name.

It mends what the mesh lost, and it is what a flood of lies would use; so everything is counted between two
heartbeats, and who offers must deliver.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from fondaco.protocol import limits
from fondaco.protocol.gossip.chance import Chance
from fondaco.protocol.gossip.control import IHave
from fondaco.protocol.gossip.counters import Counters
from fondaco.protocol.gossip.effects import ID_BYTES, MessageId, Peer
from fondaco.protocol.gossip.mcache import MessageCache
from fondaco.protocol.gossip.parameters import RouterConfig
from fondaco.protocol.gossip.promises import Promises
from fondaco.protocol.gossip.score import Scores
from fondaco.protocol.gossip.wire import Message
from fondaco.protocol.scalars import Millis

MESSAGE_OVERHEAD_BYTES = 32
"""Keys and lengths around a message's topic and data, at most."""


class Lazy:
    """The lazy half of the router."""

    def __init__(self, config: RouterConfig, scores: Scores, chance: Chance, counters: Counters) -> None:
        self.config = config
        self.cache = MessageCache(
            windows=config.history_windows, gossip_windows=config.gossip_windows, max_bytes=config.cache_bytes
        )
        self.promises = Promises(config.promises, config.promise_ms)
        self._scores = scores
        self._chance = chance
        self._counters = counters
        self._offers: Counter[Peer] = Counter()
        """IHAVEs of each neighbour since the last heartbeat; ids asked of it; ids and bytes it asked for."""
        self._asked: Counter[Peer] = Counter()
        self._asking: Counter[Peer] = Counter()
        self._answered_bytes: Counter[Peer] = Counter()

    def _heard(self, peer: Peer) -> bool:
        heard = self._scores.of(peer) >= self.config.score.gossip_threshold
        self._counters.gossip_refused += not heard
        return heard

    def offered(
        self, peer: Peer, offers: Sequence[IHave], known: Callable[[str, MessageId], bool]
    ) -> list[MessageId]:
        """What to ask `peer` for; `known` says what is of no use to us."""
        config, counters = self.config, self._counters
        if not offers or not self._heard(peer):
            return []
        wanted: dict[MessageId, None] = {}
        for offer in offers:
            self._offers[peer] += 1
            if self._offers[peer] > config.ihave_messages:
                counters.gossip_refused += 1
                break
            counters.ihave_received += len(offer.ids)
            for identity in map(MessageId, offer.ids[: config.ihave_ids]):
                if len(identity) == ID_BYTES and not known(offer.topic, identity):
                    wanted[identity] = None
        return self._chance.sample(wanted, config.ihave_ids - self._asked[peer])

    def asks(self, peer: Peer, ids: Sequence[MessageId], now: Millis) -> None:
        """These are asked of `peer`: one of them is watched."""
        self._asked[peer] += len(ids)
        self._counters.iwant_sent += len(ids)
        self.promises.add(ids[0], peer, now)

    def asked(self, peer: Peer, ids: Collection[bytes]) -> list[Message]:
        """What to send `peer`, which asks for `ids`."""
        config, counters = self.config, self._counters
        if not ids or not self._heard(peer):
            return []
        found: list[Message] = []
        for identity in map(MessageId, dict.fromkeys(ids)):
            counters.iwant_received += 1
            self._asking[peer] += 1
            if self._asking[peer] > config.ihave_ids or self._answered_bytes[peer] >= config.answer_bytes:
                counters.gossip_refused += 1
                break
            held = self.cache.ask(identity, peer)
            if held is not None and held[1] <= config.retransmissions:
                found.append(held[0])
                self._answered_bytes[peer] += len(held[0].data)
        counters.answered += len(found)
        return found

    def offers(self, topic: str, eager: Collection[Peer], wanting: Iterable[Peer]) -> list[tuple[Peer, IHave]]:
        """Whom to offer what of `topic`: some of those that do not get it at once anyway."""
        config = self.config
        ids = self.cache.offered(topic)
        if not ids:
            return []
        least = config.score.gossip_threshold
        peers = [peer for peer in wanting if peer not in eager and self._scores.of(peer) >= least]
        count = max(config.degree_lazy, int(config.gossip_factor * len(peers)))
        # Each gets its own choice where there are too many, so that together they get all.
        made = [
            (peer, IHave(topic=topic, ids=tuple(self._chance.sample(ids, config.ihave_ids))))
            for peer in self._chance.sample(peers, count)
        ]
        self._counters.ihave_sent += sum(len(offer.ids) for _, offer in made)
        return made

    def heartbeat(self, now: Millis) -> None:
        """Begin counting anew, and hold broken promises against those that broke them."""
        for counts in (self._offers, self._asked, self._asking, self._answered_bytes):
            counts.clear()
        for peer, count in self.promises.broken(now).items():
            self._counters.promises_broken += count
            self._scores.misdeed(peer, count)


def parcels(messages: Iterable[Message]) -> list[tuple[Message, ...]]:
    """Messages in groups that fit into one RPC each."""
    groups: list[list[Message]] = []
    size = limits.GOSSIP_RPC_BYTES
    for message in messages:
        grown = len(message.data) + len(message.topic.encode()) + MESSAGE_OVERHEAD_BYTES
        size += grown
        if size > limits.GOSSIP_RPC_BYTES or len(groups[-1]) >= limits.GOSSIP_MESSAGES_PER_RPC:
            groups.append([])
            size = grown
        groups[-1].append(message)
    return [tuple(group) for group in groups]
