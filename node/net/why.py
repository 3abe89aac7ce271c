"""Why a peer is not connected, not in a mesh, or not heard: all that applies, in the order it would stop us.

A pure function of one `Standing`. Codes are stable; what a reason hinders says how far the peer gets: what hinders
nothing is only worth knowing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fondaco.node.net import span
from fondaco.node.net.standing import Dialling, Rules, Standing, Topical

CONNECTION, GOSSIP, MESH, NOTHING = "connection", "gossip", "mesh", "nothing"
PARTS = {
    "p3": "deliveries it owes (P3)",
    "p3b": "deliveries it owed (P3b)",
    "p4": "invalid messages (P4)",
    "p5": "the application's judgement (P5)",
    "p6": "too many at its address (P6)",
    "p7": "broken promises and back-offs (P7)",
}
"""Parts of a score that can be negative, but for the cap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing in the way."""

    code: str
    hinders: str
    """`connection`, `gossip`, `mesh`, or `nothing`."""
    message: str
    topic: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is to be said of one peer."""

    peer: str
    connected: bool
    known_from: tuple[str, ...]
    in_mesh: tuple[str, ...]
    """Topics."""
    reasons: tuple[Reason, ...]
    clear: bool
    """Nothing is in the way."""


def why(at: Standing) -> Answer:
    reasons = tuple(_reasons(at))
    return Answer(
        peer=at.peer,
        connected=at.connected,
        known_from=tuple(one.name for one in at.sources),
        in_mesh=tuple(one.topic for one in at.topics if one.in_mesh),
        reasons=reasons,
        clear=all(one.hinders == NOTHING for one in reasons),
    )


def _reasons(at: Standing) -> Iterator[Reason]:
    if at.malformed:
        yield Reason(code="peer.malformed", hinders=CONNECTION, message=at.malformed)
        return
    if at.own:
        yield Reason(code="peer.own", hinders=CONNECTION, message="that is this node itself")
        return
    yield from _banned(at)
    yield from _heard_in_gossip(at) if at.connected else _unconnected(at)
    if at.faults:
        yield Reason(
            code="peer.faults",
            hinders=NOTHING,
            message=f"{_count(len(at.faults), 'fault')} of it remembered, {at.rules.faults} within a minute "
            f"ban it; the last: {at.faults[-1]}",
            figures={"faults": len(at.faults), "limit": at.rules.faults},
        )


def _banned(at: Standing) -> Iterator[Reason]:
    for ban in at.bans:
        kind = "peer" if ban.subject == at.peer else "network"
        who = "by hand" if ban.by == "operator" else "for its faults"
        yield Reason(
            code=f"ban.{kind}",
            hinders=CONNECTION,
            message=f"{ban.subject} is banned {who} for another {span(ban.left_ms)}: {ban.reason}",
            figures={"left_ms": ban.left_ms, "until": ban.until},
        )


def _unconnected(at: Standing) -> Iterator[Reason]:
    """Everything that keeps it from being connected, or at least says how it came to that."""
    if at.gone is not None:
        how = f"we ended it: {at.gone.dropped}" if at.gone.dropped else "not by us"
        yield Reason(
            code="peer.left",
            hinders=CONNECTION,
            message=f"its last connection ended {span(at.gone.ms_ago)} ago, {how}",
            figures={"ms_ago": at.gone.ms_ago},
        )
    if not at.sources:
        yield Reason(code="peer.unknown", hinders=CONNECTION, message="this node has never heard of it")
    elif not at.addresses:
        names = ", ".join(one.name for one in at.sources)
        yield Reason(
            code="peer.no_address", hinders=CONNECTION, message=f"known from {names}, but not where it is"
        )
    elif at.dialling is None:
        yield Reason(
            code="dial.none", hinders=CONNECTION, message=f"known at {at.addresses[0]}, but nobody dials it"
        )
    if at.dialling is not None:
        yield _dialled(at.dialling)


def _dialled(at: Dialling) -> Reason:
    figures: dict[str, float] = {"failures": at.failures}
    then = "nobody tries again"
    if at.next_in_ms is not None:
        figures["next_in_ms"] = at.next_in_ms
        then = f"next try in {span(at.next_in_ms)}" if at.next_in_ms else "being tried now"
    if not at.failures:
        return Reason(
            code="dial.soon",
            hinders=CONNECTION,
            message=f"no dial of it has failed since: {then}",
            figures=figures,
        )
    figures["failed_ms_ago"] = at.failed_ms_ago
    message = (
        f"dialling it failed {_count(at.failures, 'time')} in a row, the last {span(at.failed_ms_ago)} ago: "
        f"{at.error}; {then}"
    )
    return Reason(code="dial.failed", hinders=CONNECTION, message=message, figures=figures)


def _heard_in_gossip(at: Standing) -> Iterator[Reason]:
    if at.speaks_gossip is False:
        yield Reason(
            code="gossip.protocol", hinders=GOSSIP, message="it does not say that it speaks gossipsub 1.1"
        )
    if not at.link_up:
        yield Reason(
            code="gossip.no_stream", hinders=GOSSIP, message="our stream of gossip to it is down: it hears nothing"
        )
    if not at.heard:
        yield Reason(
            code="gossip.no_inbound",
            hinders=GOSSIP,
            message="it has opened no stream of gossip to us: we hear nothing",
        )
    yield from _scored(at)
    for one in at.topics:
        yield from _outside(one, at)
    for queue in at.queues:
        if queue.shed:
            yield Reason(
                code="queue.shed",
                hinders=GOSSIP if queue.link == "gossip" else NOTHING,
                message=f"it reads too slowly: {_count(queue.shed, 'frame')} of {queue.link} were dropped, "
                f"{queue.frames} wait in {queue.bytes} bytes",
                figures={"shed": queue.shed, "frames": queue.frames, "bytes": queue.bytes},
            )


def _scored(at: Standing) -> Iterator[Reason]:
    """The worst threshold that its score is below, and the part that pulls it down most."""
    if at.score is None or at.score.total >= 0:
        return
    total, rules = at.score.total, at.rules
    levels = (
        ("score.graylisted", GOSSIP, rules.graylist_threshold, "nothing of it is read"),
        ("score.unpublished", GOSSIP, rules.publish_threshold, "it gets nothing that we publish"),
        ("score.unheeded", MESH, rules.gossip_threshold, "its offers and requests are not heeded"),
        ("score.negative", MESH, 0.0, "it is in no mesh"),
    )
    code, hinders, threshold, effect = next(one for one in levels if total < one[2])
    values = {name: getattr(at.score, name) for name in PARTS}
    worst = min(values, key=values.__getitem__)
    yield Reason(
        code=code,
        hinders=hinders,
        message=f"its score is {total:.1f}, below {threshold:.0f}: {effect}; "
        f"{values[worst]:.1f} of it for {PARTS[worst]}",
        figures={"score": total, "threshold": threshold, worst: values[worst]},
    )


def _outside(one: Topical, at: Standing) -> Iterator[Reason]:
    """Why the peer is not in the mesh of a topic that we want."""
    if one.in_mesh:
        return
    if not one.wanted:
        yield Reason(
            code="topic.unwanted", hinders=MESH, topic=one.topic, message=f"it does not subscribe to {one.topic}"
        )
        return
    if one.backoff_ms:
        yield Reason(
            code="mesh.backoff",
            hinders=MESH,
            topic=one.topic,
            message=f"pruned from the mesh of {one.topic}: no GRAFT for another {span(one.backoff_ms)}",
            figures={"left_ms": one.backoff_ms},
        )
    if _is_full(one, at.rules):
        yield Reason(
            code="mesh.full",
            hinders=MESH,
            topic=one.topic,
            message=f"the mesh of {one.topic} has {one.members} members, {at.rules.degree_low} are enough and "
            f"{at.rules.degree_high} too many; {one.subscribers} want it, the others hear by IHAVE",
            figures={"members": one.members, "most": at.rules.degree_high, "subscribers": one.subscribers},
        )
    elif not one.backoff_ms and (at.score is None or at.score.total >= 0):
        yield Reason(
            code="mesh.soon",
            hinders=MESH,
            topic=one.topic,
            message=f"not in the mesh of {one.topic} yet; a heartbeat grafts it",
        )


def _is_full(one: Topical, rules: Rules) -> bool:
    """Where few want a topic everybody is in its mesh; else as many as there should be at least are enough."""
    return one.subscribers > rules.degree_high and one.members >= rules.degree_low


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
