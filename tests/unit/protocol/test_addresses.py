from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fondaco.protocol import addresses, bech32m
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import PublicKey
from fondaco.protocol.signing import Signer

KEY = Signer(bytes(range(32))).public_key
ADDRESS = "fond1pqwss00lnecgtu8tsm5vwwj7qn9n7f43snwjs6hcamjrxgyj4xxuqstmjqd"


def hint_of(text: str) -> str:
    with pytest.raises(Refused) as caught:
        addresses.decode(text)
    assert caught.value.code == "address.malformed"
    return caught.value.hint


def written(prefix: str, version: int, data: bytes) -> str:
    return bech32m.encode(prefix, [version, *bech32m.to_words(data)])


def test_an_address_is_pinned() -> None:
    assert addresses.encode(KEY) == ADDRESS
    assert addresses.decode(ADDRESS) == KEY
    assert addresses.decode(ADDRESS.upper()) == KEY


@settings(deadline=None)
@given(key=st.binary(min_size=32, max_size=32))
def test_every_key_has_one_address(key: bytes) -> None:
    address = addresses.encode(PublicKey(key))
    assert address.startswith("fond1p")
    assert len(address) == 64
    assert addresses.decode(address) == key


@settings(deadline=None)
@given(position=st.integers(0, 63), character=st.characters(codec="ascii"))
def test_one_wrong_character_is_always_found(position: int, character: str) -> None:
    wrong = ADDRESS[:position] + character + ADDRESS[position + 1 :]
    if wrong != ADDRESS:
        assert hint_of(wrong)


@settings(deadline=None)
@given(text=st.text(max_size=100))
def test_any_other_text_is_refused(text: str) -> None:
    assert hint_of(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "a character is wrong"),
        (bech32m.encode("fond", []), "version none"),
        (bech32m.encode("fond", [1, *bech32m.to_words(bytes(32)), 0, 0]), "a character is wrong"),
        (bech32m.encode("fond", [1, *bech32m.to_words(bytes(31) + b"\1")[:-1], 17]), "a character is wrong"),
        (ADDRESS[:-1], "a character is wrong"),
        (ADDRESS + "q", "a character is wrong"),
        (f" {ADDRESS}", "a character is wrong"),
        (ADDRESS[:10] + ADDRESS[10:].upper(), "a character is wrong"),
        (written("akash", 1, bytes(32)), "starts with fond1"),
        (written("fond", 0, bytes(32)), "version 0"),
        (written("fond", 2, bytes(32)), "version 2"),
        (written("fond", 1, bytes(31)), "31 bytes"),
        (written("fond", 1, bytes(33)), "33 bytes"),
        ("fond1" + "q" * 5_000, "a character is wrong"),
    ],
)
def test_a_refusal_says_what_is_wrong(text: str, hint: str) -> None:
    assert hint in hint_of(text)


def test_the_older_checksum_is_refused() -> None:
    # The same key and version under the constant of BIP-173, as a reference implementation writes it.
    assert "character is wrong" in hint_of(f"{ADDRESS[:-6]}9ht790")


def test_a_long_text_is_not_repeated_in_full() -> None:
    with pytest.raises(Refused) as caught:
        addresses.decode("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_a_part_of_a_key_has_no_address() -> None:
    with pytest.raises(AssertionError):
        addresses.encode(PublicKey(bytes(31)))


# The coding below is held to the vectors of BIP-350.

VALID = [
    "A1LQFN3A",
    "a1lqfn3a",
    "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
    "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
    "11llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllludsr8",
    "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
    "?1v759aa",
]
INVALID = [
    "\x201xj0phk",
    "\x7f1g6xzxy",
    "\x801vctc34",
    "an84characterslonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11d6pts4",
    "qyrz8wqd2c9m",
    "1qyrz8wqd2c9m",
    "y1b0jsk6g",
    "lt1igcx5c0",
    "in1muywd",
    "mm1crxm3i",
    "au1s5cgom",
    "M1VUXWEZ",
    "16plkw9",
    "1p2gdwpf",
]
VALID_PROGRAMS = [
    ("bc", "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y", 1, 40),
    ("bc", "BC1SW50QGDZ25J", 16, 2),
    ("bc", "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", 2, 16),
    ("tb", "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c", 1, 32),
    ("bc", "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0", 1, 32),
]
INVALID_PROGRAMS = [
    "tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
    "tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf",
    "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL",
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh",
    "tb1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq24jc47",
    "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",
    "BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R",
    "bc1pw5dgrnzv",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav",
    "BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P",
    "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf",
    "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j",
    "bc1gmk9yu",
]


@pytest.mark.parametrize("text", VALID)
def test_what_bip_350_accepts_is_read_and_written_again(text: str) -> None:
    prefix, words = bech32m.decode(text)
    assert bech32m.encode(prefix, words) == text.lower()


@pytest.mark.parametrize("text", INVALID)
def test_what_bip_350_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        bech32m.decode(text)


def program(prefix: str, text: str) -> tuple[int, bytes]:
    """Version and program by the rules of BIP-350 for version 1 and above."""
    found, words = bech32m.decode(text)
    data = bech32m.to_bytes(words[1:])
    if found != prefix or not words or not 1 <= words[0] <= 16 or not 2 <= len(data) <= 40:
        raise ValueError("not a program")
    return words[0], data


@pytest.mark.parametrize(("prefix", "text", "version", "length"), VALID_PROGRAMS)
def test_versions_and_programs_are_read_and_written_again(
    prefix: str, text: str, version: int, length: int
) -> None:
    found, data = program(prefix, text)
    assert (found, len(data)) == (version, length)
    assert written(prefix, found, data) == text.lower()


@pytest.mark.parametrize("text", INVALID_PROGRAMS)
@pytest.mark.parametrize("prefix", ["bc", "tb"])
def test_wrong_programs_are_refused(prefix: str, text: str) -> None:
    with pytest.raises(ValueError):
        program(prefix, text)


@given(data=st.binary(max_size=45))
def test_bytes_survive_the_regrouping(data: bytes) -> None:
    words = bech32m.to_words(data)
    assert all(0 <= word < 32 for word in words)
    assert bech32m.to_bytes(words) == data


@given(words=st.lists(st.integers(0, 31), max_size=20))
def test_words_are_the_only_spelling_of_their_bytes(words: list[int]) -> None:
    try:
        data = bech32m.to_bytes(words)
    except ValueError:
        return
    assert bech32m.to_words(data) == words
