"""Peers and addresses between their binary form in kademlia's messages and our text."""

from __future__ import annotations

from collections.abc import Iterable

from fondaco.node.network.known_peers import Source
from fondaco.node.network.localities import may_tell
from fondaco.node.network.peers import (
    Address,
    PeerId,
    circuit_of,
    endpoint,
    peer_of,
    public_key_of,
)
from fondaco.protocol import multiaddr
from fondaco.protocol.base58 import base58
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.kad import small

NOBODY = PeerId("")


def peer_in(identity: bytes) -> PeerId:
    """Raises `Refused` `network.peer_id` for a key that is not ed25519."""
    peer = PeerId(base58(identity))
    public_key_of(peer)
    return peer


def address_in(data: bytes, identity: bytes) -> Address | None:
    """An address of the peer with this id; None for one that we cannot dial, or that is another's."""
    try:
        peer, text = peer_in(identity), multiaddr.decode(data)
        if not text.endswith(f"/p2p/{peer}"):
            text = f"{text}/p2p/{peer}"
        return Address(text) if peer_of(Address(text)) == peer else None
    except (Malformed, Refused):
        return None


def wire_addresses(addresses: Iterable[Address]) -> tuple[bytes, ...]:
    """As many as one message may hold."""
    return small(multiaddr.encode(one) for one in addresses)[: bounds.KAD_ADDRESSES]


def may_name(source: Source, address: Address) -> bool:
    """Whether it may tell us of `address`, or the relay in it: nobody far away has us dial our own network."""
    circuit = circuit_of(address)
    where = endpoint(address if circuit is None else circuit[0])
    return may_tell(source.reach, where.ip)
