"""Each topic: who is in its mesh, who is not and why not yet, and what came of its messages."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import trio

from fondaco.node.app import Node
from fondaco.node.net import epoch_ms, topic_of
from fondaco.protocol.gossip.effects import Peer
from fondaco.protocol.scalars import Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A neighbour in a topic's mesh."""

    id: str
    score: float
    since: int | None
    """None where the topic is not scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A neighbour that must not be grafted yet."""

    id: str
    left_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Messages, each of which is a batch of items, since the start."""

    published: int
    delivered: int
    """To our handler: the first copy of each."""
    duplicates: int
    accepted: int
    ignored: int
    rejected: int
    shed: int
    """For want of room, before the handler or before their verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicMesh:
    """One topic that we want or publish in."""

    topic: str
    wanted: bool
    """By ourselves."""
    mesh: tuple[Member, ...]
    fanout: tuple[str, ...]
    backoffs: tuple[Waiting, ...]
    outside: tuple[Member, ...]
    """Neighbours that want the topic and are not in the mesh."""
    messages: Counts
    per_minute: dict[str, float]
    """The same of late, by name; empty in the node's first seconds."""


def mesh(node: Node) -> list[TopicMesh]:
    """By topic, in the order of their names."""
    names = {*node.gossip.topics, *node.gossip.router.topics}
    pending: dict[str, list[Waiting]] = {}
    for topic, peer, left in node.gossip.router.mesh.backoffs.pending(_router_now()):
        pending.setdefault(topic, []).append(Waiting(id=peer, left_ms=left))
    return [_of_topic(node, name, tuple(pending.get(name, ()))) for name in sorted(names)]


def _of_topic(node: Node, name: str, backoffs: tuple[Waiting, ...]) -> TopicMesh:
    router = node.gossip.router
    members = router.mesh.topics.get(name)
    subscribers = router.subscribers(name)
    return TopicMesh(
        topic=topic_of(name),
        wanted=members is not None,
        mesh=tuple(_member(node, name, peer) for peer in members or ()),
        fanout=tuple(router.mesh.fanout.get(name, ())),
        backoffs=backoffs,
        outside=tuple(_member(node, name, peer) for peer in subscribers if peer not in (members or ())),
        messages=counts(node, name),
        per_minute=node.pulse.per_minute(name),
    )


def counts(node: Node, name: str) -> Counts:
    """What is counted of a topic, by its name on the wire."""
    counted = asdict(node.gossip.router.count(name))
    state = node.gossip.topics.get(name)
    counted["shed"] += 0 if state is None else state.counters.shed_slow_handler
    return Counts(**counted)


def _member(node: Node, name: str, peer: Peer) -> Member:
    scores, now = node.gossip.router.scores, trio.current_time()
    part = scores.parts(peer).topics.get(name)
    since = None if part is None or part.grafted_at is None else epoch_ms(part.grafted_at / 1_000, now)
    return Member(id=peer, score=round(scores.of(peer), 3), since=since)


def _router_now() -> Millis:
    return Millis(int(trio.current_time() * 1_000))
