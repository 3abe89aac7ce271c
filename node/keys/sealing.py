"""Sealed boxes: what only one provider can open, and the randomness that messages need.

A provider's sealing key pair follows from its identity seed, so there is one secret to keep; the domain tag
keeps it apart from the signing key, which also means that neither can be computed from the other's leak.
The box is NaCl's (x25519, XSalsa20-Poly1305) with a fresh sender key each time: it hides, it does not sign.
"""

from __future__ import annotations

import hashlib
import secrets

import nacl.exceptions
import nacl.public

from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import BOUNDS, BlindingSalt, Salt, SealingKey

DOMAIN = b"fondaco/1 sealing key"


class SealingPair:
    """The key pair that opens what was sealed to `key`."""

    def __init__(self, secret: bytes) -> None:
        self._secret = nacl.public.PrivateKey(secret)
        self.key = SealingKey(bytes(self._secret.public_key))

    @classmethod
    def from_seed(cls, seed: bytes) -> SealingPair:
        """The pair that belongs to the identity with this 32-byte ed25519 seed."""
        return cls(hashlib.blake2b(DOMAIN, key=seed, digest_size=32).digest())

    def open(self, box: bytes) -> bytes:
        """What was sealed. Raises `Refused` `sealing.broken` if it was not for this key or has changed."""
        try:
            opened: bytes = nacl.public.SealedBox(self._secret).decrypt(box)
        except (nacl.exceptions.CryptoError, nacl.exceptions.TypeError):
            raise Refused("sealing.broken", "this box was sealed to another key, or has changed") from None
        return opened

    def __repr__(self) -> str:
        return f"SealingPair({self.key.hex()[:12]}...)"


def seal(data: bytes, key: SealingKey) -> bytes:
    """Encrypt `data` so that only the holder of `key` reads it; 48 bytes longer.

    Raises `Refused` `sealing.key` if `key` is no usable x25519 key.
    """
    try:
        sealed: bytes = nacl.public.SealedBox(nacl.public.PublicKey(key)).encrypt(data)
    except (nacl.exceptions.CryptoError, nacl.exceptions.TypeError, nacl.exceptions.RuntimeError):
        raise Refused("sealing.key", f"{key.hex()[:12]} is not a key that can be sealed to") from None
    return sealed


def random_salt() -> Salt:
    return Salt(secrets.token_bytes(BOUNDS[Salt][1]))


def random_blinding_salt() -> BlindingSalt:
    return BlindingSalt(secrets.token_bytes(BOUNDS[BlindingSalt][1]))
