"""Signatures for the simulator: a hash keyed with the public key, a hundredth of the price of the real ones.

Nobody in the simulation forges, so who knows the key is not asked; that a signature fits its signer and its
statement is. `Ed25519` is the same thing at full price, for the runs that shall leave nothing out.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from hashlib import sha256
from typing import Any, Protocol, cast

from fondaco.protocol import signing
from fondaco.protocol.scalars import ChainId, PublicKey, Signature
from fondaco.protocol.signing import Signable, Signer, signing_bytes


class Scheme(Protocol):
    """How everybody in one world signs. Each name stands for one identity."""

    def key(self, name: str) -> PublicKey: ...

    def sign(self, chain: ChainId, key: PublicKey, statement: Signable) -> Signature:
        """What the owner of `key` signs; the same each time."""

    def verify(self, key: PublicKey, data: bytes, signature: Signature) -> bool: ...


class KeyedHash:
    """Cheap, and as good as the real thing where nobody forges."""

    def key(self, name: str) -> PublicKey:
        return PublicKey(sha256(name.encode()).digest())

    def sign(self, chain: ChainId, key: PublicKey, statement: Signable) -> Signature:
        return _tag(key, _signing_bytes(chain, cast(Hashable, statement)))

    def verify(self, key: PublicKey, data: bytes, signature: Signature) -> bool:
        return _tag(key, data) == signature


class Ed25519:
    """The signatures of the real network, by PyNaCl."""

    def __init__(self) -> None:
        self._signers: dict[PublicKey, Signer] = {}

    def key(self, name: str) -> PublicKey:
        signer = Signer(sha256(name.encode()).digest())
        self._signers[signer.public_key] = signer
        return signer.public_key

    def sign(self, chain: ChainId, key: PublicKey, statement: Signable) -> Signature:
        return self._signers[key].sign(chain, statement)

    def verify(self, key: PublicKey, data: bytes, signature: Signature) -> bool:
        return signing.verify(key, data, signature)


CHEAP = KeyedHash()
sign, verify = CHEAP.sign, CHEAP.verify


def key_of(index: int) -> PublicKey:
    """The validator with that number, among those who sign cheaply."""
    return CHEAP.key(f"validator {index}")


@lru_cache(maxsize=1_000)
def _signing_bytes(chain: ChainId, statement: Any) -> bytes:
    """Most votes of a round are one statement, which every validator signs and every certificate holds."""
    return signing_bytes(chain, statement)


def _tag(key: PublicKey, data: bytes) -> Signature:
    digest = sha256(key + data).digest()
    return Signature(digest + digest)
