"""A key as words on paper, and back.

    words --BIP-39--> 64-byte seed --SLIP-0010 ed25519, m/44'/FOND'/0'--> 32-byte ed25519 seed

These are the standards that wallets for ed25519 chains share, so any tool that knows them restores a key from
its words and this path. There is no "25th word": the BIP-39 passphrase is empty. `FOND` is not registered in
SLIP-0044; it is the ASCII of the name, a number no registered coin has.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets

from mnemonic import Mnemonic

from fondaco.protocol.errors import Refused

FOND = 0x666F6E64
PATH = (44, FOND, 0)
"""All steps hardened; ed25519 has no others."""
ENTROPY_BYTES = 32
"""What a new key starts from: 24 words."""
_HARDENED = 1 << 31


def new_entropy() -> bytes:
    return secrets.token_bytes(ENTROPY_BYTES)


def to_words(entropy: bytes) -> str:
    """The BIP-39 English words for 16, 20, 24, 28 or 32 bytes of entropy."""
    words: str = _english().to_mnemonic(entropy)
    return words


def to_entropy(words: str) -> bytes:
    """The entropy behind words as a person typed them: case and spacing do not matter.

    Raises `Refused` `keys.mnemonic`, naming the first word that is not in the list. Never shows the others.
    """
    typed = Mnemonic.normalize_string(words).lower().split()
    if len(typed) not in (12, 15, 18, 21, 24):
        raise _refused(f"{len(typed)} words found", "12, 15, 18, 21 or 24 are needed")
    known = set(_english().wordlist)
    for position, word in enumerate(typed, start=1):
        if word not in known:
            raise _refused(f"word {position} is not in the BIP-39 English list", "check its spelling")
    try:
        return bytes(_english().to_entropy(typed))
    except ValueError:
        raise _refused("the words do not fit together", "check their order, and that none is swapped") from None


def to_seed(entropy: bytes) -> bytes:
    """The 32-byte ed25519 seed that the words of `entropy` stand for."""
    return derive(Mnemonic.to_seed(to_words(entropy), passphrase=""), PATH)


def derive(master: bytes, path: tuple[int, ...]) -> bytes:
    """SLIP-0010 for ed25519: the private key at `path`, every step hardened."""
    key, chain = _split(b"ed25519 seed", master)
    for index in path:
        key, chain = _split(chain, b"\0" + key + (index | _HARDENED).to_bytes(4, "big"))
    return key


def _split(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    digest = hmac.new(key, data, hashlib.sha512).digest()
    return digest[:32], digest[32:]


@functools.cache
def _english() -> Mnemonic:
    return Mnemonic("english")


def _refused(message: str, hint: str) -> Refused:
    return Refused("keys.mnemonic", message, hint=hint)
