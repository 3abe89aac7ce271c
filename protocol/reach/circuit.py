"""Circuit relay v2 on the wire: how a peer asks a relay for a place, or to be led to another peer.

    HOP   to a relay         RESERVE -> STATUS, reservation        CONNECT peer -> STATUS, then raw bytes
    STOP  from a relay       CONNECT peer -> STATUS, then raw bytes

Each message is protobuf behind its length as a varint:

    HopMessage   1 type (RESERVE 0, CONNECT 1, STATUS 2)  2 peer  3 reservation  4 limit  5 status
    StopMessage  1 type (CONNECT 0, STATUS 1)             2 peer  3 limit        4 status
    Peer         1 id  2 addrs*
    Reservation  1 expire (unix seconds)  2 addrs*  3 voucher
    Limit        1 duration (seconds)     2 data (bytes)
    https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md

Vouchers are neither made nor asked for: the relay that gave a place knows it. Addresses are binary multiaddrs,
which nothing in here reads.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from fondaco.protocol.errors import Malformed
from fondaco.protocol.gossip.protobuf import VARINT, blob, field, fields, number, varint
from fondaco.protocol.reach import bounds

HOP = "/libp2p/circuit/relay/0.2.0/hop"
STOP = "/libp2p/circuit/relay/0.2.0/stop"

ID_BYTES = 64
ADDRESS_BYTES = 256


class Status(enum.IntEnum):
    """What became of a request."""

    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """HOP: keep a place for me."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """HOP: lead me to `peer`. STOP: `peer` wants to be led to you."""

    peer: bytes
    """Its id, binary."""
    limit: Limit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a circuit may last and carry; 0: no limit."""

    duration_s: int
    data_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A place, until when, and at which addresses of the relay it is."""

    expires_s: int
    """Unix time."""
    addresses: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A relay's, or of STOP the peer's."""

    status: int
    """One of `Status`, or what a peer of another make says."""
    reservation: Reservation | None = None
    limit: Limit | None = None


Hop = Reserve | Connect | Answer
Stop = Connect | Answer


def encode_hop(message: Hop) -> bytes:
    """The protobuf bytes, without a length in front."""
    if isinstance(message, Reserve):
        return _count(1, 0)
    if isinstance(message, Connect):
        return _count(1, 1) + field(2, field(1, message.peer))
    parts = [_count(1, 2)]
    if message.reservation is not None:
        parts.append(field(3, _reservation(message.reservation)))
    if message.limit is not None:
        parts.append(field(4, _limit(message.limit)))
    return b"".join((*parts, _count(5, message.status)))


def encode_stop(message: Stop) -> bytes:
    """As `encode_hop`."""
    if isinstance(message, Answer):
        return _count(1, 1) + _count(4, message.status)
    limit = b"" if message.limit is None else field(3, _limit(message.limit))
    return _count(1, 0) + field(2, field(1, message.peer)) + limit


def decode_hop(data: bytes) -> Hop:
    """Raises `Malformed` for what is no HOP message."""
    kind, parts = _parts(data)
    if kind == 0:
        return Reserve()
    if kind == 1:
        return Connect(peer=_peer(parts.get(2)))
    if kind != 2:
        raise Malformed("circuit.type", f"a HOP message of type {kind}")
    found, limit = parts.get(3), parts.get(4)
    return Answer(
        status=number(parts.get(5, 0)),
        reservation=None if found is None else _read_reservation(blob(found)),
        limit=None if limit is None else _read_limit(blob(limit)),
    )


def decode_stop(data: bytes) -> Stop:
    """Raises `Malformed` for what is no STOP message."""
    kind, parts = _parts(data)
    if kind == 0:
        limit = parts.get(3)
        return Connect(peer=_peer(parts.get(2)), limit=None if limit is None else _read_limit(blob(limit)))
    if kind != 1:
        raise Malformed("circuit.type", f"a STOP message of type {kind}")
    return Answer(status=number(parts.get(4, 0)))


def _count(key: int, value: int) -> bytes:
    return varint(key << 3 | VARINT) + varint(value)


def _reservation(value: Reservation) -> bytes:
    return _count(1, value.expires_s) + b"".join(field(2, address) for address in value.addresses)


def _limit(value: Limit) -> bytes:
    return _count(1, value.duration_s) + _count(2, value.data_bytes)


def _parts(data: bytes) -> tuple[int, dict[int, int | bytes]]:
    """The message's type, and its fields; of a field that comes twice the last, as protobuf has it."""
    if len(data) > bounds.CIRCUIT_MESSAGE_BYTES:
        raise Malformed("circuit.size", f"{len(data)} bytes, at most {bounds.CIRCUIT_MESSAGE_BYTES} allowed")
    parts = dict(fields(data))
    return number(parts.get(1, 0)), parts


def _peer(value: int | bytes | None) -> bytes:
    found = b"" if value is None else blob(dict(fields(blob(value))).get(1, b""))
    if not 0 < len(found) <= ID_BYTES:
        raise Malformed("circuit.peer", f"a peer's id of {len(found)} bytes")
    return found


def _read_reservation(data: bytes) -> Reservation:
    expires, addresses = 0, []
    for key, value in fields(data):
        if key == 1:
            expires = number(value)
        elif key == 2:
            addresses.append(blob(value))
    if len(addresses) > bounds.CIRCUIT_ADDRESSES or any(len(one) > ADDRESS_BYTES for one in addresses):
        raise Malformed("circuit.addresses", "more or longer addresses than a relay has")
    return Reservation(expires_s=expires, addresses=tuple(addresses))


def _read_limit(data: bytes) -> Limit:
    parts = dict(fields(data))
    return Limit(duration_s=number(parts.get(1, 0)), data_bytes=number(parts.get(2, 0)))
