"""Who is kept out; and keeping out by hand."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from fondaco.node.app import Node
from fondaco.node.net import epoch_ms
from fondaco.node.network.bans import BY_OPERATOR, Ban, Subject, network_of, subject_of
from fondaco.protocol.errors import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class BanRow:
    """A peer or a network that is kept out."""

    subject: str
    reason: str
    by: str
    """`faults`: its own were too many; `operator`: by hand."""
    since: int
    until: int
    left_ms: int


def bans(node: Node) -> list[BanRow]:
    """The newest last."""
    now = trio.current_time()
    return [row(one, now) for one in node.host.bans.listed(now)]


def row(one: Ban, now: float) -> BanRow:
    return BanRow(
        subject=one.subject,
        reason=one.reason,
        by=one.by,
        since=epoch_ms(one.since, now),
        until=epoch_ms(one.until, now),
        left_ms=round((one.until - now) * 1_000),
    )


def ban(node: Node, text: str, reason: str, life_ms: int) -> BanRow:
    """Keep a peer or a network out from now on, and end its connections.

    Raises `Refused` `network.subject` for what is neither, and for ourselves.
    """
    host, now, subject = node.host, trio.current_time(), subject_of(text)
    if subject == host.peer_id:
        raise Refused("network.subject", "that is this node itself")
    made = host.bans.ban(subject, now, reason, life_ms=life_ms, by=BY_OPERATOR)
    for peer in host.peers():
        ip = host.remote_ip(peer)
        if peer == subject or (ip and network_of(ip) == subject):
            host.start_soon(host.drop, peer, f"banned: {reason}")
    return row(made, now)


def lift(node: Node, text: str) -> Subject:
    """Let it in again; who that is. Raises `Refused` `network.subject`, or `api.not_found` if it is not banned."""
    now, subject = trio.current_time(), subject_of(text)
    if node.host.bans.of(subject, now) is None:
        raise Refused("api.not_found", f"{subject} is not banned")
    node.host.bans.lift(subject)
    return subject
