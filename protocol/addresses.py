"""Addresses: a public key as people read, type and paste it.

    fond1p<52 characters of key><6 of checksum>

Bech32m (BIP-350) with the human-readable part `fond`: the checksum finds every substitution of up to four
characters, and there is no 1, b, i or o to misread. The `p` is the version, 1, as in the address format of
BIP-350 itself; other versions are refused until they mean something. All lower case or all upper case (the
shorter QR code) are the same address; mixed case is none.
"""

from __future__ import annotations

from fondaco.protocol import bech32m
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import BOUNDS, PublicKey

PREFIX = "fond"
VERSION = 1
KEY_BYTES = BOUNDS[PublicKey][1]


def encode(key: PublicKey) -> str:
    """The address of `key`, 64 characters, lower case."""
    assert len(key) == KEY_BYTES, "only whole public keys have an address"
    return bech32m.encode(PREFIX, [VERSION, *bech32m.to_words(key)])


def decode(text: str) -> PublicKey:
    """The key that an address names.

    Raises `Refused` `address.malformed`, with a hint at what is wrong.
    """
    try:
        prefix, words = bech32m.decode(text)
        key = bech32m.to_bytes(words[1:])
    except ValueError:
        raise _malformed(text, "a character is wrong or missing: copy it again") from None
    if prefix != PREFIX:
        raise _malformed(text, f"an address here starts with {PREFIX}1")
    if words[:1] != [VERSION]:
        raise _malformed(text, f"address version {words[0] if words else 'none'} is not known to this program")
    if len(key) != KEY_BYTES:
        raise _malformed(text, f"it holds {len(key)} bytes where a key has {KEY_BYTES}")
    return PublicKey(key)


def _malformed(text: str, hint: str) -> Refused:
    shown = text if len(text) <= 72 else f"{text[:69]}..."
    return Refused("address.malformed", f"{shown!r} is not an address", hint=hint)
