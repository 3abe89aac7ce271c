"""Signatures for the simulator: a hash keyed with the public key, a hundredth of the price of the real ones.

Nobody in the simulation forges, so who knows the key is not asked; that a signature fits its signer and its
statement is.
"""

from __future__ import annotations

from hashlib import sha256

from fondaco.protocol.scalars import ChainId, PublicKey, Signature
from fondaco.protocol.signing import Signable, signing_bytes


def key_of(index: int) -> PublicKey:
    return PublicKey(sha256(b"validator %d" % index).digest())


def sign(chain: ChainId, key: PublicKey, statement: Signable) -> Signature:
    return _tag(key, signing_bytes(chain, statement))


def verify(key: PublicKey, data: bytes, signature: Signature) -> bool:
    return _tag(key, data) == signature


def _tag(key: PublicKey, data: bytes) -> Signature:
    digest = sha256(key + data).digest()
    return Signature(digest + digest)
