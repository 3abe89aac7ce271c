"""Bech32m (BIP-350): bytes as text that a person can copy, with a checksum over every character.

    prefix "1" words checksum

A word is five bits, written as one of thirty-two characters; the last six words are the checksum, the remainder
of a BCH code over the prefix and the words. It finds any substitution of up to four characters. The packages that
do this are unmaintained or bound to one coin, and it is sixty lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
LENGTH_MAX = 90
CHECKSUM_WORDS = 6
_CONSTANT = 0x2BC830A3
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_WORD_OF = {character: word for word, character in enumerate(ALPHABET)}


def encode(prefix: str, words: Sequence[int]) -> str:
    """The text of five-bit `words` behind a lower-case `prefix`."""
    polymod = _polymod([*_expand(prefix), *words, *[0] * CHECKSUM_WORDS]) ^ _CONSTANT
    checksum = [polymod >> 5 * (CHECKSUM_WORDS - 1 - place) & 31 for place in range(CHECKSUM_WORDS)]
    return f"{prefix}1{''.join(ALPHABET[word] for word in [*words, *checksum])}"


def decode(text: str) -> tuple[str, list[int]]:
    """The prefix, in lower case, and the words of `text`, checksum removed.

    Raises `ValueError` for anything that is not bech32m: its length, a character, mixed case or the checksum.
    """
    if len(text) > LENGTH_MAX or not all("!" <= character <= "~" for character in text):
        raise ValueError("too long, or a character that cannot be in it")
    lower = text.lower()
    if text not in (lower, text.upper()):
        raise ValueError("upper and lower case are mixed")
    prefix, separator, data = lower.rpartition("1")
    if not separator or not prefix or len(data) < CHECKSUM_WORDS:
        raise ValueError("no prefix, or too short for a checksum")
    if not all(character in _WORD_OF for character in data):
        raise ValueError("a character that stands for nothing")
    words = [_WORD_OF[character] for character in data]
    if _polymod([*_expand(prefix), *words]) != _CONSTANT:
        raise ValueError("the checksum does not hold")
    return prefix, words[:-CHECKSUM_WORDS]


def to_words(data: bytes) -> list[int]:
    """Bytes as five-bit words, the last filled up with zero bits."""
    count = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << count * 5 - len(data) * 8
    return [number >> 5 * place & 31 for place in range(count - 1, -1, -1)]


def to_bytes(words: Sequence[int]) -> bytes:
    """The bytes that `words` came from. Raises `ValueError` for a filling that `to_words` does not make."""
    number = 0
    for word in words:
        number = number << 5 | word
    length, filling = divmod(len(words) * 5, 8)
    if filling >= 5 or number & (1 << filling) - 1:
        raise ValueError("the filling of the last word is not zero, or a word of its own")
    return (number >> filling).to_bytes(length, "big")


def _expand(prefix: str) -> list[int]:
    return [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]


def _polymod(words: Iterable[int]) -> int:
    remainder = 1
    for word in words:
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ word
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                remainder ^= generator
    return remainder
