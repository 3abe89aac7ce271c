"""What we think of each neighbour: a number from what it did, never shared (gossipsub v1.1, Peer Scoring).

score = min(cap, sum over topics of weight * (P1 + P2 + P3 + P3b + P4)) + P5 + P6 + P7, each with its own weight

P1  time in the mesh              P4  invalid messages, squared
P2  messages it brought first     P5  what the application says
P3  mesh deliveries it owes,      P6  neighbours at its address beyond some, squared
    squared; P3b, sticky          P7  broken promises and back-offs beyond some, squared
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from fondaco.protocol.gossip.effects import Peer
from fondaco.protocol.gossip.parameters import ScoreConfig, TopicScore
from fondaco.protocol.gossip.score_parts import ScoreParts, TopicParts
from fondaco.protocol.scalars import Millis

DECAYS_AT_ONCE = 1_000
"""After a machine slept; nothing is left of a counter then."""


@dataclass(slots=True)
class _TopicStats:
    grafted_at: Millis | None = None
    """None while it is not in the mesh."""
    mesh_ms: int = 0
    active: bool = False
    """Long enough in the mesh to owe deliveries."""
    first: float = 0.0
    deliveries: float = 0.0
    failures: float = 0.0
    invalid: float = 0.0


@dataclass(slots=True)
class _Stats:
    address: str = ""
    topics: dict[str, _TopicStats] = field(default_factory=dict)
    application: float = 0.0
    misdeeds: float = 0.0
    own: float | None = 0.0
    """The score without P6, until something changes it."""


class Scores:
    """Scores of neighbours, and bad ones of those that left."""

    def __init__(self, config: ScoreConfig, now: Millis) -> None:
        self.config = config
        self._stats: dict[Peer, _Stats] = {}
        self._gone: OrderedDict[Peer, tuple[Millis, _Stats]] = OrderedDict()
        self._at: dict[str, set[Peer]] = {}
        self._decayed_at = now

    def added(self, peer: Peer, address: str) -> None:
        """A neighbour came, or came again; the empty address is not counted with others."""
        stats = self._stats.get(peer)
        if stats is None:
            retained = self._gone.pop(peer, None)
            stats = self._stats[peer] = retained[1] if retained else _Stats()
        self._leave(peer, stats)
        stats.address = address
        if address:
            self._at.setdefault(address, set()).add(peer)

    def removed(self, peer: Peer, now: Millis) -> None:
        """A good score goes with the neighbour; a bad one stays, with no credit for what it brought."""
        stats = self._stats[peer]
        for topic in list(stats.topics):
            self.pruned(peer, topic)
        kept = self.of(peer) <= 0
        del self._stats[peer]
        self._leave(peer, stats)
        if kept:
            for one in stats.topics.values():
                one.first = 0.0
            stats.own = None
            self._gone[peer] = now, stats
            if len(self._gone) > self.config.retained:
                self._gone.popitem(last=False)

    def _leave(self, peer: Peer, stats: _Stats) -> None:
        there = self._at.get(stats.address)
        if there is not None:
            there.discard(peer)
            if not there:
                del self._at[stats.address]

    # What happens

    def grafted(self, peer: Peer, topic: str, now: Millis) -> None:
        stats = self._touch(peer, topic)
        if stats is not None:
            stats.grafted_at, stats.mesh_ms, stats.active = now, 0, False

    def pruned(self, peer: Peer, topic: str) -> None:
        """Out of the mesh, with a debt that sticks if it delivered too little."""
        stats, terms = self._touch(peer, topic), self.config.topic(topic)
        if stats is None or terms is None or stats.grafted_at is None:
            return
        if stats.active and stats.deliveries < terms.delivery_threshold:
            stats.failures += (terms.delivery_threshold - stats.deliveries) ** 2
        stats.grafted_at, stats.active = None, False

    def first_delivery(self, peer: Peer, topic: str) -> None:
        """It brought a good message first."""
        stats, terms = self._touch(peer, topic), self.config.topic(topic)
        if stats is not None and terms is not None:
            stats.first = min(terms.first_cap, stats.first + 1)
            self.near_first(peer, topic)

    def near_first(self, peer: Peer, topic: str) -> None:
        """It brought a good message, first or before it could have it from us."""
        stats, terms = self._touch(peer, topic), self.config.topic(topic)
        if stats is not None and terms is not None and stats.grafted_at is not None:
            stats.deliveries = min(terms.delivery_cap, stats.deliveries + 1)

    def invalid(self, peer: Peer, topic: str) -> None:
        stats = self._touch(peer, topic)
        if stats is not None:
            stats.invalid += 1

    def misdeed(self, peer: Peer, count: int) -> None:
        """It broke a promise or a back-off."""
        stats = self._stats.get(peer)
        if stats is not None:
            stats.misdeeds += count
            stats.own = None

    def application(self, peer: Peer, value: float) -> None:
        """What the application thinks of it, by its own rules."""
        stats = self._stats.get(peer)
        if stats is not None:
            stats.application, stats.own = value, None

    def _touch(self, peer: Peer, topic: str) -> _TopicStats | None:
        """What is counted of `peer` in `topic`, about to change; None where nothing is."""
        stats = self._stats.get(peer)
        if stats is None or self.config.topic(topic) is None:
            return None
        stats.own = None
        return stats.topics.setdefault(topic, _TopicStats())

    # What it comes to

    def of(self, peer: Peer) -> float:
        """The score; that of a stranger is 0."""
        stats = self._stats.get(peer)
        if stats is None:
            return 0.0
        crowd = len(self._at.get(stats.address, ())) - self.config.colocation_threshold
        return self.own(peer) + self.config.colocation_weight * max(0, crowd) ** 2

    def own(self, peer: Peer) -> float:
        """The part of the score that is its own doing: without P6."""
        stats = self._stats.get(peer)
        if stats is None:
            return 0.0
        if stats.own is None:
            stats.own = self._own(stats)
        return stats.own

    def _own(self, stats: _Stats) -> float:
        config = self.config
        total = 0.0
        for topic, one in stats.topics.items():
            terms = config.topic(topic)
            assert terms is not None
            total += terms.weight * _topic_score(one, terms)
        excess = max(0.0, stats.misdeeds - config.behaviour_threshold)
        return (
            min(config.topic_cap, total)
            + config.application_weight * stats.application
            + config.behaviour_weight * excess**2
        )

    def parts(self, peer: Peer) -> ScoreParts:
        """The same, taken apart; of a stranger nothing."""
        stats, config = self._stats.get(peer), self.config
        if stats is None:
            return ScoreParts()
        topics = {}
        for topic, one in stats.topics.items():
            terms = config.topic(topic)
            assert terms is not None
            topics[topic] = _topic_parts(one, terms)
        earned = sum(one.total for one in topics.values())
        crowd = max(0, len(self._at.get(stats.address, ())) - config.colocation_threshold)
        excess = max(0.0, stats.misdeeds - config.behaviour_threshold)
        return ScoreParts(
            topics=topics,
            over_cap=min(0.0, config.topic_cap - earned),
            application=config.application_weight * stats.application,
            colocation=config.colocation_weight * crowd**2,
            behaviour=config.behaviour_weight * excess**2,
        )

    def decay(self, now: Millis) -> None:
        """Time passes: counters shrink, once an interval; what was retained for long enough is forgotten.

        What is retained does not shrink, or a bad peer would only have to leave for a while.
        """
        interval = self.config.decay_interval_ms
        self._decayed_at = Millis(max(self._decayed_at, now - DECAYS_AT_ONCE * interval))
        while now - self._decayed_at >= interval:
            self._decayed_at = Millis(self._decayed_at + interval)
            for stats in self._stats.values():
                self._decay(stats, self._decayed_at)
        while self._gone:
            since, _ = next(iter(self._gone.values()))
            if now - since < self.config.retain_ms:
                break
            self._gone.popitem(last=False)

    def _decay(self, stats: _Stats, now: Millis) -> None:
        zero = self.config.decay_to_zero
        stats.misdeeds = _shrunk(stats.misdeeds, self.config.behaviour_decay, zero)
        for topic, one in stats.topics.items():
            terms = self.config.topic(topic)
            assert terms is not None
            one.first = _shrunk(one.first, terms.first_decay, zero)
            one.deliveries = _shrunk(one.deliveries, terms.delivery_decay, zero)
            one.failures = _shrunk(one.failures, terms.failure_decay, zero)
            one.invalid = _shrunk(one.invalid, terms.invalid_decay, zero)
            if one.grafted_at is not None:
                one.mesh_ms = max(0, now - one.grafted_at)
                one.active = one.active or one.mesh_ms > terms.delivery_activation_ms
        stats.own = None


def _shrunk(value: float, factor: float, zero: float) -> float:
    value *= factor
    return value if value >= zero else 0.0


def _topic_score(stats: _TopicStats, terms: TopicScore) -> float:
    score = terms.first_weight * stats.first
    if stats.grafted_at is not None:
        score += terms.time_weight * min(terms.time_cap, stats.mesh_ms // terms.time_quantum_ms)
    if stats.active:
        score += terms.delivery_weight * max(0.0, terms.delivery_threshold - stats.deliveries) ** 2
    score += terms.failure_weight * stats.failures
    return score + terms.invalid_weight * stats.invalid**2


def _topic_parts(stats: _TopicStats, terms: TopicScore) -> TopicParts:
    """As `_topic_score`, which is asked for far more often, part by part."""
    present = stats.grafted_at is not None
    quanta = min(terms.time_cap, stats.mesh_ms // terms.time_quantum_ms) if present else 0
    owed = max(0.0, terms.delivery_threshold - stats.deliveries) ** 2 if stats.active else 0.0
    return TopicParts(
        grafted_at=stats.grafted_at,
        time=terms.weight * terms.time_weight * quanta,
        first=terms.weight * terms.first_weight * stats.first,
        deliveries=terms.weight * terms.delivery_weight * owed,
        failures=terms.weight * terms.failure_weight * stats.failures,
        invalid=terms.weight * terms.invalid_weight * stats.invalid**2,
    )
