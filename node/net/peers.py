"""Each connected peer: where, since when, how fast, its score and its queues."""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.node.app import Node
from fondaco.node.net import epoch_ms, topic_of
from fondaco.node.network import sight
from fondaco.node.network.links import Links
from fondaco.node.network.peers import PeerId
from fondaco.protocol.gossip.effects import Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamUp:
    """An open stream."""

    protocol: str
    outbound: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What waits on one kind of link to a peer."""

    link: str
    """`gossip` or `consensus`."""
    frames: int
    bytes: int
    shed: int
    """Frames dropped for want of room since the link is up."""
    sent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What the gossip router thinks of a peer; the parts add up to the total."""

    total: float
    p1: float
    """Time in meshes."""
    p2: float
    """Messages it brought first."""
    p3: float
    """Deliveries that it owes."""
    p3b: float
    """The same, from meshes it was in."""
    p4: float
    """Invalid messages."""
    cap: float
    """What topics would add beyond the cap."""
    p5: float
    """What the application says."""
    p6: float
    """Many at one address."""
    p7: float
    """Broken promises and back-offs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRow:
    """A connected peer."""

    id: str
    address: str
    """Of the other end, IP:PORT."""
    outbound: bool
    """Whether one of the connections is of our making."""
    connected_at: int
    round_trip_ms: float | None
    score: Score
    streams: tuple[StreamUp, ...]
    queues: tuple[Queue, ...]
    faults: int
    """That are remembered: as many again as make eight within a minute, and it is banned."""
    last_fault: str
    topics: tuple[str, ...]
    """That it wants; those of other chains with their whole names."""
    protocols: tuple[str, ...]
    """That it says it speaks; empty before it was asked."""


def topics_by_peer(node: Node) -> dict[PeerId, tuple[str, ...]]:
    return {PeerId(peer): topics for peer, topics in node.gossip.router.wanted().items()}


def row(node: Node, peer: PeerId, now: float, wanted: tuple[str, ...]) -> PeerRow:
    host = node.host
    since, faults = host.connected_at(peer), host.bans.faults(peer)
    ours = f"/fondaco/{node.chain.id}/"
    return PeerRow(
        id=peer,
        address=sight.remote_address(host, peer),
        outbound=host.dialled(peer),
        connected_at=epoch_ms(now if since is None else since, now),
        round_trip_ms=rounded(host.round_trip_ms(peer)),
        score=score_of(node, peer),
        streams=tuple(StreamUp(protocol=one.protocol, outbound=one.outbound) for one in sight.streams(host, peer)),
        queues=tuple(queues_of(node, peer)),
        faults=len(faults),
        last_fault=faults[-1][1] if faults else "",
        topics=tuple(topic_of(one) if one.startswith(ours) else one for one in wanted),
        protocols=tuple(sight.protocols(host, peer)),
    )


def score_of(node: Node, peer: PeerId) -> Score:
    scores = node.gossip.router.scores
    parts = {name: round(value, 3) for name, value in scores.parts(Peer(peer)).named().items()}
    return Score(total=round(scores.of(Peer(peer)), 3), **parts)


def links_of(node: Node) -> dict[str, Links]:
    """Links by what they are for."""
    found = {"gossip": node.gossip.links}
    if node.agreement.links is not None:
        found["consensus"] = node.agreement.links
    return found


def queues_of(node: Node, peer: PeerId) -> list[Queue]:
    found = list[Queue]()
    for name, links in links_of(node).items():
        outbox = links.outbox(peer)
        if outbox is not None:
            found.append(
                Queue(link=name, frames=len(outbox), bytes=outbox.size, shed=outbox.shed.total(), sent=outbox.sent)
            )
    return found


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
