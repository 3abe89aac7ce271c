"""Signed records of where a peer listens: libp2p's own, so that every implementation reads them.

    Envelope     1 public_key (1 type, 2 data)   2 payload_type   3 payload   5 signature
    PeerRecord   1 peer_id   2 seq (uint64)   3 addresses* (1 multiaddr)

    signed: the domain, the payload type and the payload, each with its length before it
    https://github.com/libp2p/specs/blob/master/RFC/0002-signed-envelopes.md and 0003-routing-records.md

Nobody but the peer can make one, and of two the higher `seq` is the newer. So a record may come from anywhere;
what is left to whoever hands it on is to keep it back, or to hand on an older one.

What no honest peer sends is a `PeerFault`. What an honest peer of another implementation may send, though it is of
no use here, is `Refused`: keys other than ed25519, and more than the bounds below allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fondaco.protocol import multiaddr
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.gossip.protobuf import VARINT, blob, field, fields, number, varint
from fondaco.protocol.scalars import PublicKey, Signature
from fondaco.protocol.signing import Signer, Verify, verify

DOMAIN = b"libp2p-peer-record"
PAYLOAD_TYPE = b"\x03\x01"
IDENTITY_PREFIX = b"\x00\x24"
"""Identity multihash of 36 bytes: the key's protobuf itself."""
KEY_PREFIX = b"\x08\x01\x12\x20"
"""Type ed25519, and 32 bytes of data."""
KEY_BYTES = 32

RECORD_BYTES = 2_048
RECORD_ADDRESSES = 16
RECORD_SEQ = 2**63
"""Sequence numbers lie below; others count milliseconds or nanoseconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRecord:
    """What a peer says of itself."""

    public_key: PublicKey
    seq: int
    addresses: tuple[bytes, ...]
    """Binary multiaddresses, in the peer's own order; some may be of transports that are not known here."""

    def texts(self) -> Iterator[str]:
        """Those that can be read."""
        for address in self.addresses:
            try:
                yield multiaddr.decode(address)
            except (Malformed, Refused):
                continue


def identity_of(key: PublicKey) -> bytes:
    """The binary peer id of an ed25519 key."""
    return IDENTITY_PREFIX + KEY_PREFIX + key


def seal(signer: Signer, seq: int, addresses: Iterable[str]) -> bytes:
    """The signed record of the peer that has this key. Raises `Refused` for what `open_record` would not read."""
    encoded = [multiaddr.encode(address) for address in addresses]
    _check_bounds(b"", seq, len(encoded))
    parts = [field(1, identity_of(signer.public_key)), varint(2 << 3 | VARINT), varint(seq)]
    parts += [field(3, field(1, address)) for address in encoded]
    payload = b"".join(parts)
    data = (
        field(1, KEY_PREFIX + signer.public_key)
        + field(2, PAYLOAD_TYPE)
        + field(3, payload)
        + field(5, signer.sign_bytes(signed_bytes(payload)))
    )
    _check_bounds(data, seq, len(encoded))
    return data


def signed_bytes(payload: bytes, domain: bytes = DOMAIN, payload_type: bytes = PAYLOAD_TYPE) -> bytes:
    return b"".join(varint(len(part)) + part for part in (domain, payload_type, payload))


def open_record(data: bytes, *, check: Verify = verify) -> PeerRecord:
    """The record in an envelope whose signature holds.

    Raises `Malformed` `record.malformed`, `PeerFault` `record.signature` or `record.identity`, and `Refused`
    `record.size` or `record.key`.
    """
    _check_bounds(data, 0, 0)
    try:
        return _open(data, check)
    except Malformed as fault:
        raise Malformed("record.malformed", f"a peer record: {fault.message}") from None


def _open(data: bytes, check: Verify) -> PeerRecord:
    envelope = {key: blob(value) for key, value in fields(data) if key in (1, 2, 3, 5)}
    key, kind, payload, signature = (envelope.get(part, b"") for part in (1, 2, 3, 5))
    if kind != PAYLOAD_TYPE:
        raise Malformed("record.malformed", f"a payload of type {kind[:8].hex()}")
    if not key.startswith(KEY_PREFIX) or len(key) != len(KEY_PREFIX) + KEY_BYTES:
        raise Refused("record.key", "the record is not of an ed25519 key")
    public_key = PublicKey(key[len(KEY_PREFIX) :])
    if not check(public_key, signed_bytes(payload), Signature(signature)):
        raise PeerFault("record.signature", "the signature on a peer record does not hold")
    identity, seq = b"", 0
    addresses: list[bytes] = []
    for part, value in fields(payload):
        if part == 1:
            identity = blob(value)
        elif part == 2:
            seq = number(value)
        elif part == 3:
            addresses += [blob(inner) for name, inner in fields(blob(value)) if name == 1]
    if identity != identity_of(public_key):
        raise PeerFault("record.identity", "a peer record names another peer than its key")
    _check_bounds(data, seq, len(addresses))
    return PeerRecord(public_key=public_key, seq=seq, addresses=tuple(addresses))


def _check_bounds(data: bytes, seq: int, addresses: int) -> None:
    if len(data) > RECORD_BYTES or addresses > RECORD_ADDRESSES or not 0 <= seq < RECORD_SEQ:
        raise Refused("record.size", f"a record of {len(data)} bytes, {addresses} addresses and seq {seq}")
