"""Every number of the router, with the reason where it is not the specification's own.

Scores are chosen in units of this table; a topic's part is capped at 60:

    +3     an hour in the mesh of one topic             P1, so that who is there is not swapped for anybody
    +20    40 messages brought first, of late           P2, what makes a peer worth keeping
    -20    one invalid message, -80 two, -180 three     P4, an accident is outweighed by good work, a habit never
    -10    every step, squared, beyond six misdeeds     P7, lost frames look like broken promises now and then
    -5     every peer, squared, beyond eight an address P6, some share a NAT; a thousand on one machine do not

    -40    gossip threshold: no IHAVE, no IWANT         two invalid messages and nothing good
    -80    publish threshold: gets nothing of ours
    -160   graylist: nothing of it is read              three invalid messages, or fourteen at one address
    +30    peer exchange is believed                    only who did much good work
    +2     median below which the mesh is improved      a mesh of idle peers; grafting is cheap

P3 and P3b, what a mesh peer must deliver, are implemented and have no weight by default. They need a known and
steady rate from every direction. Our topics fall silent for hours, and in a young market nearly all bids come
from one provider: who lies behind us on its way never brings us anything new, and would be cut off for it,
though it is honest. Silent peers are met by P2 and opportunistic grafting, outbound quotas, gossip, and P6.

A network that knows its rates sets `delivery_weight` and the fields that go with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fondaco.protocol import limits


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicScore:
    """How behaviour in one topic counts; decays are factors per `ScoreConfig.decay_interval_ms`."""

    weight: float = 1.0
    time_weight: float = 0.05
    time_quantum_ms: int = 60_000
    time_cap: float = 60.0
    first_weight: float = 0.5
    first_decay: float = 0.985
    """Half is gone in 46 s: what a peer did lately."""
    first_cap: float = 40.0
    delivery_weight: float = 0.0
    delivery_decay: float = 0.985
    delivery_cap: float = 40.0
    delivery_threshold: float = 4.0
    delivery_activation_ms: int = 30_000
    delivery_window_ms: int = 10
    failure_weight: float = 0.0
    failure_decay: float = 0.995
    invalid_weight: float = -20.0
    invalid_decay: float = 0.995
    """Half is gone in 138 s: long against a burst, short against an update that nodes get one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """How a neighbour's score is made, and what it must be for what; see the module."""

    topics: Mapping[str, TopicScore] = field(default_factory=dict)
    """By name on the wire; behaviour in other topics counts by `other_topics`."""
    other_topics: TopicScore | None = field(default_factory=TopicScore)
    topic_cap: float = 60.0
    application_weight: float = 1.0
    colocation_weight: float = -5.0
    colocation_threshold: int = 8
    behaviour_weight: float = -10.0
    behaviour_threshold: float = 6.0
    behaviour_decay: float = 0.99
    decay_interval_ms: int = limits.GOSSIP_HEARTBEAT_MS
    decay_to_zero: float = 0.01
    retain_ms: int = 3_600_000
    """A bad score outlives the connection for an hour."""
    retained: int = limits.GOSSIP_SCORES_RETAINED
    gossip_threshold: float = -40.0
    publish_threshold: float = -80.0
    graylist_threshold: float = -160.0
    accept_px_threshold: float = 30.0
    opportunistic_threshold: float = 2.0

    def topic(self, name: str) -> TopicScore | None:
        """None where the topic does not count."""
        return self.topics.get(name, self.other_topics)


ORDERS = TopicScore(weight=1.0)
"""What the market lives on; judged by signature and form, so an invalid one is no accident."""
BIDS = TopicScore(weight=1.0)
TRANSACTIONS = TopicScore(weight=1.0)
STATUS = TopicScore(weight=0.5)
"""Nothing is decided by it, so it earns less trust, and costs less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """Bounds and habits of one router; the defaults are the project's, and mostly the specification's."""

    degree: int = 6
    """D: neighbours in a topic's mesh. Up to `degree_high` of them, everybody is."""
    degree_low: int = 5
    degree_high: int = 12
    degree_score: int = 4
    """Kept for their score when there are too many; the others are kept by lot."""
    degree_out: int = 2
    """We dialled at least so many of the mesh: who comes to us cannot be all we hear."""
    degree_lazy: int = 6
    gossip_factor: float = 0.25
    flood_publish: bool = True
    history_windows: int = 5
    gossip_windows: int = 3
    fanout_ms: int = 60_000
    prune_backoff_ms: int = 60_000
    unsubscribe_backoff_ms: int = 10_000
    longest_backoff_ms: int = limits.GOSSIP_BACKOFF_MS
    graft_flood_ms: int = 10_000
    """A GRAFT so soon after the PRUNE counts twice."""
    opportunistic_heartbeats: int = 60
    opportunistic_peers: int = 2
    ihave_ids: int = 5_000
    """Ids in one IHAVE, and asked for of one neighbour between two heartbeats."""
    ihave_messages: int = 10
    retransmissions: int = 3
    promise_ms: int = 3_000
    suggested_peers: int = limits.GOSSIP_SUGGESTED_PEERS
    heartbeat_ms: int = limits.GOSSIP_HEARTBEAT_MS
    seen_items: int = limits.SEEN_ITEMS
    seen_ms: int = limits.SEEN_MS
    pending: int = limits.GOSSIP_PENDING
    subscriptions: int = limits.GOSSIP_SUBSCRIPTIONS
    repetitions: int = 1_024
    """Copies of what is known that a neighbour may send beyond what is new in a minute; see `repeats`."""
    unheard: int = 64
    """RPCs of a graylisted neighbour between two heartbeats that make a fault of it."""
    cache_bytes: int = limits.GOSSIP_CACHE_BYTES
    answer_bytes: int = limits.GOSSIP_ANSWER_BYTES
    backoffs: int = limits.GOSSIP_BACKOFFS
    promises: int = limits.GOSSIP_PROMISES
    score: ScoreConfig = field(default_factory=ScoreConfig)

    def __post_init__(self) -> None:
        assert self.degree_out < self.degree_low <= self.degree <= self.degree_high
        assert self.degree_out <= self.degree // 2
        assert self.gossip_windows <= self.history_windows
