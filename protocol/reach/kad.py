"""The table of peers by key on the wire: kademlia's messages, as much of them as finding a peer takes.

    Message   1 type   2 key   8 closerPeers*   9 providerPeers*       Peer   1 id   2 addrs*   3 connection
    type      ADD_PROVIDER 2   GET_PROVIDERS 3   FIND_NODE 4   PING 5
    https://github.com/libp2p/specs/blob/master/kad-dht/README.md

A request and its answer have the same type. Each is protobuf behind its length as a varint. Under a peer's own id
as the key it is its own provider: that is where it says how to reach it. Values (PUT_VALUE 0, GET_VALUE 1) are not
served: a peer needs none to be found.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from fondaco.protocol.errors import Malformed
from fondaco.protocol.gossip.protobuf import VARINT, blob, field, fields, number, varint
from fondaco.protocol.reach import bounds
from fondaco.protocol.scalars import ChainId


def protocol_of(chain: ChainId) -> str:
    """Its own for each chain: nodes of another network, or of the public one, are no help in finding ours."""
    return f"/fondaco/{chain}/kad/1.0.0"


class Kind(enum.IntEnum):
    """What a message asks for, or answers."""

    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


KINDS = frozenset(int(kind) for kind in Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class KadPeer:
    """A peer and where it is said to be. Nothing of it is proven: dialling does that."""

    id: bytes
    addresses: tuple[bytes, ...] = ()
    """Binary multiaddrs, with or without the peer at their end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KadMessage:
    """A request, or its answer."""

    kind: Kind
    key: bytes = b""
    closer: tuple[KadPeer, ...] = ()
    """Peers nearer to the key, which may know more."""
    providers: tuple[KadPeer, ...] = ()


def encode(message: KadMessage) -> bytes:
    """The protobuf bytes, without a length in front."""
    parts = [varint(1 << 3 | VARINT) + varint(message.kind)]
    if message.key:
        parts.append(field(2, message.key))
    parts += [field(8, _encode_peer(peer)) for peer in message.closer]
    parts += [field(9, _encode_peer(peer)) for peer in message.providers]
    return b"".join(parts)


def _encode_peer(peer: KadPeer) -> bytes:
    return field(1, peer.id) + b"".join(field(2, address) for address in peer.addresses)


def decode(data: bytes) -> KadMessage:
    """Raises `Malformed` for bytes that are no message, break a bound, or ask for what is not served."""
    if len(data) > bounds.KAD_MESSAGE_BYTES:
        raise Malformed("kad.size", f"{len(data)} bytes, at most {bounds.KAD_MESSAGE_BYTES} allowed")
    kind, asked = 0, b""
    closer: list[KadPeer] = []
    providers: list[KadPeer] = []
    for key, value in fields(data):
        if key == 1:
            kind = number(value)
        elif key == 2:
            asked = blob(value)
        elif key == 8:
            closer.append(_decode_peer(blob(value)))
        elif key == 9:
            providers.append(_decode_peer(blob(value)))
        if len(closer) > bounds.KAD_PEERS or len(providers) > bounds.KAD_PEERS:
            raise Malformed("kad.peers", f"more than {bounds.KAD_PEERS} peers")
    if kind not in KINDS:
        raise Malformed("kad.type", f"a message of type {kind}")
    if len(asked) > bounds.KAD_KEY_BYTES:
        raise Malformed("kad.key", f"a key of {len(asked)} bytes")
    return KadMessage(kind=Kind(kind), key=asked, closer=tuple(closer), providers=tuple(providers))


def _decode_peer(data: bytes) -> KadPeer:
    """Of addresses the first few are taken: another implementation may name more than we look at."""
    identity = b""
    addresses: list[bytes] = []
    for key, value in fields(data):
        if key == 1:
            identity = blob(value)
        elif key == 2 and len(addresses) < bounds.KAD_ADDRESSES:
            addresses.append(blob(value))
    if not 0 < len(identity) <= bounds.KAD_KEY_BYTES:
        raise Malformed("kad.id", f"a peer's id of {len(identity)} bytes")
    return KadPeer(id=identity, addresses=small(addresses))


def small(addresses: Iterable[bytes]) -> tuple[bytes, ...]:
    """Those that are no longer than an address may be."""
    return tuple(one for one in addresses if len(one) <= bounds.KAD_ADDRESS_BYTES)
