"""Gossip: messages by topic, queues of handlers, meshes and scores."""

from __future__ import annotations

from collections.abc import Iterator

from fondaco.node.app import Node
from fondaco.node.gossip import TopicState
from fondaco.node.metrics.model import Reading, counter, gauge, histogram
from fondaco.node.net import topic_of
from fondaco.protocol import limits

MESSAGES = counter(
    "gossip_messages", "Gossip messages, each a batch of items, by what came of them.", "topic", "outcome"
)
DROPPED = counter(
    "gossip_dropped",
    "Messages dropped: `pending`, too many waited for a verdict; `handler`, it was too slow, but they may come"
    " again; `lost`, they did not; `peer`, a neighbour was too slow.",
    "topic",
    "reason",
)
INBOX = gauge("gossip_inbox_batches", "Batches that wait for their handler.", "topic")
INBOX_LIMIT = gauge("gossip_inbox_limit_batches", "So many may wait for each handler.")
OUTGOING = gauge("gossip_outgoing_items", "Our own items that wait for their batch to leave.", "topic")
OUTGOING_BYTES = gauge("gossip_outgoing_bytes", "Their bytes.", "topic")
HANDLER = histogram("gossip_handler", "How long a batch took to judge.", "topic")
ITEMS = counter("gossip_items", "Items of batches: new ones, and those that had come before.", "outcome")
SEEN = gauge("gossip_seen_items", "Items remembered, so that each is handled once.", "topic")
MESH = gauge("gossip_mesh_peers", "Neighbours in the mesh.", "topic")
SUBSCRIBERS = gauge("gossip_subscribers", "Neighbours that want the topic.", "topic")
BACKOFFS = gauge("gossip_backoffs", "Neighbours that must not be grafted yet, over all topics.")
SCORE = gauge("gossip_score", "Scores of neighbours.", "statistic")
TOPIC_SCORE = gauge("gossip_topic_score", "What behaviour in one topic adds to them.", "topic", "statistic")
BELOW = gauge("gossip_peers_below", "Neighbours whose score is below a threshold.", "threshold")
EVENTS = counter(
    "gossip_events", "What the router did and was told besides; protocol/gossip/counters.py.", "event"
)

METRICS = (
    *(MESSAGES, DROPPED, INBOX, INBOX_LIMIT, OUTGOING, OUTGOING_BYTES, HANDLER, ITEMS, SEEN),
    *(MESH, SUBSCRIBERS, BACKOFFS, SCORE, TOPIC_SCORE, BELOW, EVENTS),
)
OUTCOMES = ("published", "delivered", "duplicates", "accepted", "ignored", "rejected")
OTHER_EVENTS = (
    *("unwanted", "sent", "grafts_sent", "grafts_received", "grafts_refused", "grafts_too_soon"),
    *("opportunistic_grafts", "prunes_sent", "prunes_received", "ihave_sent", "ihave_received"),
    *(
        "iwant_sent",
        "iwant_received",
        "answered",
        "gossip_refused",
        "promises_broken",
        "graylisted",
        "suggestions",
    ),
)


def read(node: Node) -> Iterator[Reading]:
    gossip, router = node.gossip, node.gossip.router
    for name, state in gossip.topics.items():
        yield from _topic(node, name, state)
    yield INBOX_LIMIT.at(limits.GOSSIP_QUEUE_BATCHES)
    yield ITEMS.at(gossip.items_handled, "new")
    yield ITEMS.at(gossip.items_repeated, "repeated")
    yield BACKOFFS.at(len(router.mesh.backoffs))
    yield from _scores(node)
    for event in OTHER_EVENTS:
        yield EVENTS.at(getattr(router.counters, event), event)


def _topic(node: Node, name: str, state: TopicState) -> Iterator[Reading]:
    router, topic = node.gossip.router, topic_of(name)
    counted, shed = router.count(name), node.gossip.counters.of(state.topic)
    for outcome in OUTCOMES:
        yield MESSAGES.at(getattr(counted, outcome), topic, outcome)
    yield DROPPED.at(counted.shed, topic, "pending")
    yield DROPPED.at(shed.shed_slow_handler, topic, "handler")
    yield DROPPED.at(shed.shed_slow_peer, topic, "peer")
    yield DROPPED.at(shed.lost, topic, "lost")
    yield INBOX.at(len(state.inbox), topic)
    yield OUTGOING.at(len(state.batch), topic)
    yield OUTGOING_BYTES.at(state.batch_bytes, topic)
    yield HANDLER.at(state.took, topic)
    yield SEEN.at(len(state.seen), topic)
    yield MESH.at(len(router.mesh.topics.get(name, ())), topic)
    yield SUBSCRIBERS.at(len(router.subscribers(name)), topic)


def _scores(node: Node) -> Iterator[Reading]:
    scores, thresholds = node.gossip.router.scores, node.gossip.router.config.score
    peers = node.gossip.router.peers
    totals = [scores.of(peer) for peer in peers]
    yield from SCORE.spread(totals)
    parts = [scores.parts(peer).topics for peer in peers]
    for name in node.gossip.topics:
        yield from TOPIC_SCORE.spread([one[name].total if name in one else 0.0 for one in parts], topic_of(name))
    for threshold in ("gossip", "publish", "graylist"):
        least = getattr(thresholds, f"{threshold}_threshold")
        yield BELOW.at(sum(total < least for total in totals), threshold)
    yield BELOW.at(sum(total < 0 for total in totals), "mesh")
