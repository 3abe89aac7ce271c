"""Everything the node knows of one peer, connected or not, at one moment: what `why` reasons from."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from fondaco.node.app import Node
from fondaco.node.gossip import PROTOCOL
from fondaco.node.net import topic_of
from fondaco.node.net.bans import BanRow
from fondaco.node.net.bans import row as ban_row
from fondaco.node.net.peers import Queue, Score, queues_of, score_of
from fondaco.node.network import sight
from fondaco.node.network.bans import network_of
from fondaco.node.network.peers import Address, PeerId, endpoint, peer_of, public_key_of
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.gossip.effects import Peer
from fondaco.protocol.scalars import Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who told us of a peer."""

    name: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialling:
    """Dials of a peer; times are spans from now."""

    failures: int
    """In a row."""
    error: str
    failed_ms_ago: int
    next_in_ms: int | None
    """None where nobody dials it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A connection that ended."""

    ms_ago: int
    dropped: str
    """Why we ended it; empty where we did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topical:
    """A topic that we want, and the peer in it."""

    topic: str
    wanted: bool
    """By the peer."""
    in_mesh: bool
    members: int
    subscribers: int
    backoff_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The router's numbers that matter here."""

    gossip_threshold: float
    publish_threshold: float
    graylist_threshold: float
    degree_low: int
    degree_high: int
    faults: int = limits.PEER_FAULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One peer as this node sees it."""

    peer: str
    rules: Rules
    malformed: str = ""
    """What is wrong with its id."""
    own: bool = False
    bans: tuple[BanRow, ...] = ()
    """Of itself, and of the networks of its addresses."""
    sources: tuple[Source, ...] = ()
    dialling: Dialling | None = None
    gone: Gone | None = None
    connected: bool = False
    speaks_gossip: bool | None = None
    """None before it was asked."""
    link_up: bool = False
    """Our stream of gossip to it."""
    heard: bool = False
    """Its stream to us."""
    score: Score | None = None
    topics: tuple[Topical, ...] = ()
    queues: tuple[Queue, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def addresses(self) -> list[str]:
        return list(dict.fromkeys(one for source in self.sources for one in source.addresses))


def standing(node: Node, text: str) -> Standing:
    """Look at the peer whose id is `text`."""
    config = node.gossip.router.config
    rules = Rules(
        gossip_threshold=config.score.gossip_threshold,
        publish_threshold=config.score.publish_threshold,
        graylist_threshold=config.score.graylist_threshold,
        degree_low=config.degree_low,
        degree_high=config.degree_high,
    )
    peer = PeerId(text)
    try:
        public_key_of(peer)
    except Refused as refusal:
        return Standing(peer=text[:80], rules=rules, malformed=refusal.message)
    if peer == node.host.peer_id:
        return Standing(peer=peer, rules=rules, own=True)
    host, now = node.host, trio.current_time()
    sources = tuple(known_from(node, peer))
    connected = host.is_connected(peer)
    speaks = sight.protocols(host, peer) if connected else []
    return Standing(
        peer=peer,
        rules=rules,
        bans=tuple(_bans(node, peer, sources, now)),
        sources=sources,
        dialling=_dialling(node, peer, now),
        gone=_gone(node, peer, now),
        connected=connected,
        speaks_gossip=PROTOCOL in speaks if speaks else None,
        link_up=node.gossip.links.outbox(peer) is not None,
        heard=node.gossip.links.hears(peer),
        score=score_of(node, peer) if connected else None,
        topics=tuple(_topics(node, peer, now)) if connected else (),
        queues=tuple(queues_of(node, peer)),
        faults=tuple(reason for _, reason in host.bans.faults(peer)),
    )


def known_from(node: Node, peer: PeerId) -> list[Source]:
    """Who told us of the peer. Whatever else learns of peers adds itself here."""
    found = list[Source]()
    configured = tuple(one for one in node.config.peers if peer_of(Address(one)) == peer)
    if configured:
        found.append(Source(name="node.toml", addresses=configured))
    contact = node.host.contacts.of(peer)
    if contact is not None:
        found.append(Source(name="contact", addresses=() if contact.address is None else (contact.address,)))
    return found


def _bans(node: Node, peer: PeerId, sources: tuple[Source, ...], now: float) -> list[BanRow]:
    ips = {endpoint(one).ip for source in sources for one in source.addresses}
    here = node.host.remote_ip(peer)
    networks = sorted({network_of(ip) for ip in {*ips, here} if ip})
    found = [node.host.bans.of(subject, now) for subject in (peer, *networks)]
    return [ban_row(one, now) for one in found if one is not None]


def _dialling(node: Node, peer: PeerId, now: float) -> Dialling | None:
    contact = node.host.contacts.of(peer)
    if contact is None or (contact.failed_at is None and contact.next_at is None):
        return None
    return Dialling(
        failures=contact.failures,
        error=contact.error,
        failed_ms_ago=0 if contact.failed_at is None else _ms(now - contact.failed_at),
        next_in_ms=None if contact.next_at is None else _ms(max(0.0, contact.next_at - now)),
    )


def _gone(node: Node, peer: PeerId, now: float) -> Gone | None:
    contact = node.host.contacts.of(peer)
    if contact is None or contact.left_at is None:
        return None
    return Gone(ms_ago=_ms(now - contact.left_at), dropped=contact.dropped)


def _topics(node: Node, peer: PeerId, now: float) -> list[Topical]:
    router = node.gossip.router
    wanted = router.wanted().get(Peer(peer), ())
    return [
        Topical(
            topic=topic_of(name),
            wanted=name in wanted,
            in_mesh=Peer(peer) in members,
            members=len(members),
            subscribers=len(router.subscribers(name)),
            backoff_ms=router.mesh.backoffs.left_ms(name, Peer(peer), Millis(_ms(now))),
        )
        for name, members in router.mesh.topics.items()
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)
