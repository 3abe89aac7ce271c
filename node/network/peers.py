"""Names of peers and where they listen, as text. Needs no libp2p, so light tools can use it too.

A peer id is the base58 text of the identity multihash of an ed25519 key in libp2p's protobuf: the key itself
with six bytes before it (https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md). So a validator's
or provider's public key is its peer id, in either direction.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import NewType

from fondaco.protocol import limits
from fondaco.protocol.base58 import base58, unbase58
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import PublicKey

PeerId = NewType("PeerId", str)
"""`12D3KooW...`"""
Address = NewType("Address", str)
"""A multiaddr that names a peer: `/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW...`, or through a relay that leads to it:
`/ip4/127.0.0.1/tcp/4001/p2p/RELAY/p2p-circuit/p2p/12D3KooW...`"""

KEY_PREFIX = bytes([0x00, 0x24, 0x08, 0x01, 0x12, 0x20])
"""Identity multihash, 36 bytes; protobuf: type ed25519, data of 32 bytes."""
KEY_BYTES = 32
CIRCUIT = "/p2p-circuit/p2p/"
PEER_ID_CHARACTERS = 64


def peer_id_of(public_key: PublicKey) -> PeerId:
    """The peer id of the node that holds this key."""
    return PeerId(base58(KEY_PREFIX + public_key))


@lru_cache(maxsize=limits.CONNECTIONS)
def public_key_of(peer_id: PeerId) -> PublicKey:
    """The key behind a peer id; remembered, for every message asks.

    Raises `Refused` `network.peer_id` if it is not an ed25519 peer id.
    """
    try:
        data = unbase58(peer_id) if len(peer_id) <= PEER_ID_CHARACTERS else b""
    except ValueError:
        data = b""
    if len(data) != len(KEY_PREFIX) + KEY_BYTES or not data.startswith(KEY_PREFIX):
        raise Refused("network.peer_id", f"{peer_id[:80]!r} is not the peer id of an ed25519 key")
    return PublicKey(data[len(KEY_PREFIX) :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The parts of an address."""

    ip: str
    port: int
    peer: PeerId | None

    def multiaddr(self) -> str:
        """Without the peer."""
        return f"/ip{ipaddress.ip_address(self.ip).version}/{self.ip}/tcp/{self.port}"

    def address(self, peer: PeerId) -> Address:
        return Address(f"{self.multiaddr()}/p2p/{peer}")


def endpoint(text: str) -> Endpoint:
    """Read `127.0.0.1:4001`, `[::1]:4001` or a TCP multiaddr, with or without a peer.

    Raises `Refused` `network.address` for anything else, and `network.peer_id` for a bad peer.
    """
    wrong = Refused(
        "network.address",
        f"{text[:200]!r} is no address",
        hint="write 127.0.0.1:4001 or /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW...",
    )
    peer: PeerId | None = None
    if text.startswith("/"):
        parts = text.split("/")[1:]
        if len(parts) == 6 and parts[4] == "p2p":
            peer = PeerId(parts[5])
            public_key_of(peer)
        elif len(parts) != 4:
            raise wrong
        family, host, transport, port = parts[:4]
        if family not in ("ip4", "ip6") or transport != "tcp":
            raise wrong
    else:
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        family = ""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise wrong from None
    known = not family or family == f"ip{ip.version}"
    if not (known and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535):
        raise wrong
    return Endpoint(ip=str(ip), port=int(port), peer=peer)


def circuit_of(address: Address) -> tuple[Address, PeerId] | None:
    """The relay's own address, and the peer that it leads to; None for an address without a relay.

    Raises `Refused` `network.address` or `network.peer_id`. There is no way through two relays.
    """
    relay, circuit, target = address.partition(CIRCUIT)
    if not circuit:
        return None
    peer = PeerId(target)
    if peer_of(Address(relay)) == peer:
        raise Refused("network.address", f"{address[:200]!r} leads through a relay to itself")
    public_key_of(peer)
    return Address(relay), peer


def through(relay: Address, peer: PeerId) -> Address:
    """Where `peer` is found behind `relay`."""
    return Address(f"{relay}{CIRCUIT}{peer}")


def peer_of(address: Address) -> PeerId:
    """The peer an address leads to. Raises `Refused` if it names none."""
    circuit = circuit_of(address)
    if circuit is not None:
        return circuit[1]
    peer = endpoint(address).peer
    if peer is None:
        raise Refused("network.address", f"{address!r} does not say which peer listens there")
    return peer


def shared_address(ip: str) -> str:
    """What of `ip` many peers must not share: it itself, or of IPv6 the /64 that one machine usually owns.

    Empty for addresses that only mean something near us (loopback, private networks): there all peers may be
    behind one, and none of them is a stranger.
    """
    if not ip:
        return ""
    address = ipaddress.ip_address(ip)
    if not address.is_global:
        return ""
    return ip if address.version == 4 else str(ipaddress.ip_network(f"{ip}/64", strict=False))
