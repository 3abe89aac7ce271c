"""Signatures: ed25519 by PyNaCl, and nothing signed without saying what it is and where it holds.

What is signed is never a bare message but `["fondaco/1", chain id, tag, body]`: a vote cannot be replayed as
a bid, nor a bid of a test network on another chain. PyNaCl is the only verifier, because libraries differ in
the odd signatures they accept and validators must not (consensus.md; the acceptance set is pinned by tests).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import nacl.bindings
import nacl.exceptions

from fondaco.protocol import codec
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import ChainId, Hash, PublicKey, Signature

DOMAIN = "fondaco/1"


class Signable(Protocol):
    """Any tagged message."""

    TAG: ClassVar[int]


Verify = Callable[[PublicKey, bytes, Signature], bool]
"""(key, signed bytes, signature) -> whether it holds. The simulator puts a cheaper one in its place."""


def signing_bytes(chain: ChainId, message: Signable) -> bytes:
    """The exact bytes that are signed for `message` on `chain`."""
    return codec.pack([DOMAIN, chain, message.TAG, codec.encode(message)])


def sha256(data: bytes) -> Hash:
    return Hash(hashlib.sha256(data).digest())


def message_id(chain: ChainId, message: Signable) -> Hash:
    """The hash of the signed bytes; independent of the signature."""
    return sha256(signing_bytes(chain, message))


def verify(key: PublicKey, data: bytes, signature: Signature) -> bool:
    """Whether `signature` over `data` holds for `key`, as PyNaCl judges it."""
    # PyNaCl reads 32 bytes of key whatever the length, and splits signature from data by position: an over-long
    # "signature" would carry the beginning of another statement into this one.
    if len(key) != nacl.bindings.crypto_sign_PUBLICKEYBYTES or len(signature) != nacl.bindings.crypto_sign_BYTES:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + data, key)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


class Signer:
    """Holds a secret key and signs messages for one identity."""

    def __init__(self, seed: bytes) -> None:
        public, self._secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        self.public_key = PublicKey(public)

    def sign_bytes(self, data: bytes) -> Signature:
        signed: bytes = nacl.bindings.crypto_sign(data, self._secret)
        return Signature(signed[: nacl.bindings.crypto_sign_BYTES])

    def sign(self, chain: ChainId, message: Signable) -> Signature:
        return self.sign_bytes(signing_bytes(chain, message))

    def __repr__(self) -> str:
        return f"Signer({self.public_key.hex()[:12]}...)"


def require(chain: ChainId, message: Any, key: PublicKey, signature: Signature, *, check: Verify = verify) -> None:
    """Raise `PeerFault` `signature.bad` unless `signature` over `message` holds for `key` on `chain`."""
    if not check(key, signing_bytes(chain, message), signature):
        raise PeerFault("signature.bad", f"the signature on this {type(message).__name__} does not hold")
