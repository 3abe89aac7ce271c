"""What a host can tell of one connected peer, and of its sockets.

For people and metrics: nothing is decided by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fondaco.node.network.host import Host
from fondaco.node.network.peers import PeerId

SHOWN = 64
"""Protocols of one peer that are shown; what it claims has no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSight:
    """One open stream."""

    protocol: str
    """Empty while it is being agreed on."""
    outbound: bool
    """Whether we opened it."""


def connections(host: Host, peer: PeerId) -> list[Any]:
    from fondaco.node.network.dial import identity

    return list(host._swarm.get_connections(identity(peer)))


def remote_address(host: Host, peer: PeerId) -> str:
    """The IP address and port of the other end; empty without a connection."""
    for connection in connections(host, peer):
        remote = connection.muxed_conn.get_remote_address()
        if remote:
            ip, port = str(remote[0]), remote[1]
            return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    return ""


def streams(host: Host, peer: PeerId) -> list[StreamSight]:
    """All that are open with `peer`, those of the library's own protocols included."""
    found = [
        StreamSight(protocol=str(one.get_protocol() or ""), outbound=bool(one.muxed_stream.is_initiator))
        for connection in connections(host, peer)
        for one in connection.get_streams()
    ]
    return sorted(found, key=lambda one: (one.protocol, not one.outbound))


def protocols(host: Host, peer: PeerId) -> list[str]:
    """What the peer says it speaks; empty before it was asked."""
    from libp2p.peer.peerstore import PeerStoreError

    from fondaco.node.network.dial import identity

    try:
        return sorted(map(str, host._basic.get_peerstore().get_protocols(identity(peer))))[:SHOWN]
    except PeerStoreError:
        return []


def turned_away(host: Host) -> int:
    """Inbound sockets refused before any cryptography: too many at their address, or it is banned."""
    return int(host._swarm.turned_away)


def inbound_sockets(host: Host) -> int:
    """Open now, those still shaking hands included."""
    return sum(host._swarm.inbound.values())
