"""Multiaddresses in binary, as records carry them: a path of protocols, each a number and what belongs to it.

    /ip4/203.0.113.7/tcp/4001               04 cb007107  06 0fa1
    /ip4/.../tcp/.../p2p/12D3KooW.../p2p-circuit/p2p/...

https://github.com/multiformats/multiaddr/blob/master/protocols.csv. Only what this project can use is known here;
addresses of other transports are refused one by one, and their neighbours in a record stay readable.
"""

from __future__ import annotations

import ipaddress

from fondaco.protocol.base58 import base58, unbase58
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.gossip.protobuf import read_varint, varint

IP4, TCP, IP6, CIRCUIT, P2P = 4, 6, 41, 290, 421
NAMES = {IP4: "ip4", TCP: "tcp", IP6: "ip6", CIRCUIT: "p2p-circuit", P2P: "p2p"}
CODES = {name: code for code, name in NAMES.items()}
SIZES = {IP4: 4, TCP: 2, IP6: 16, CIRCUIT: 0}
"""Bytes after the number; those of others begin with their length."""
MULTIADDR_BYTES = 256


def encode(text: str) -> bytes:
    """The binary form of `/ip4/.../tcp/...`. Raises `Refused` `multiaddr.text`."""
    parts = text.split("/")
    data = bytearray()
    try:
        if parts.pop(0) or not parts:
            raise ValueError("it begins with a slash")
        while parts:
            code = CODES[parts.pop(0)]
            data += varint(code)
            if code != CIRCUIT:
                data += _value(code, parts.pop(0))
    except (ValueError, LookupError):
        raise Refused("multiaddr.text", f"{text[:200]!r} is no address that is known here") from None
    return bytes(data)


def _value(code: int, text: str) -> bytes:
    """Raises `ValueError`."""
    if code == IP4:
        return ipaddress.IPv4Address(text).packed
    if code == IP6:
        return ipaddress.IPv6Address(text).packed
    if code == TCP:
        if not (text.isascii() and text.isdigit() and int(text) <= 0xFFFF):
            raise ValueError("a port is a number below 65,536")
        return int(text).to_bytes(2, "big")
    identity = unbase58(text)
    return varint(len(identity)) + identity


def decode(data: bytes) -> str:
    """The text of a binary address.

    Raises `Malformed` `multiaddr.bytes` for what is none, and `Refused` `multiaddr.unknown` for one that has a
    protocol which is not known here: an honest peer may have it.
    """
    if not data or len(data) > MULTIADDR_BYTES:
        raise Malformed("multiaddr.bytes", f"an address of {len(data)} bytes")
    parts = [""]
    position = 0
    while position < len(data):
        code, position = _number(data, position)
        name = NAMES.get(code)
        if name is None:
            raise Refused("multiaddr.unknown", f"an address with protocol {code}")
        size = SIZES.get(code)
        if size is None:
            size, position = _number(data, position)
        value = data[position : position + size]
        if len(value) < size:
            raise Malformed("multiaddr.bytes", "an address that was cut off")
        position += size
        parts.append(name)
        if code == P2P:
            parts.append(base58(value))
        elif code == TCP:
            parts.append(str(int.from_bytes(value, "big")))
        elif code != CIRCUIT:
            parts.append(str(ipaddress.ip_address(value)))
    return "/".join(parts)


def _number(data: bytes, position: int) -> tuple[int, int]:
    found = read_varint(data, position)
    if found is None:
        raise Malformed("multiaddr.bytes", "an address that was cut off")
    return found
