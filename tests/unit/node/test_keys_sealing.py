from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fondaco.node.keys.sealing import SealingPair, random_blinding_salt, random_salt, seal
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import SealingKey

PAIR = SealingPair.from_seed(bytes(range(32)))


@settings(deadline=None)
@given(data=st.binary(max_size=300))
def test_what_is_sealed_opens_to_the_same(data: bytes) -> None:
    box = seal(data, PAIR.key)
    assert len(box) == len(data) + 48
    assert PAIR.open(box) == data
    assert seal(data, PAIR.key) != box, "each box has a sender of its own"


def test_another_key_cannot_open_it() -> None:
    with pytest.raises(Refused) as caught:
        SealingPair.from_seed(bytes(32)).open(seal(b"manifest", PAIR.key))
    assert caught.value.code == "sealing.broken"


def test_a_box_changed_at_any_byte_or_cut_anywhere_does_not_open() -> None:
    box = seal(b"manifest", PAIR.key)
    for position in range(len(box)):
        for broken in (box[:position] + bytes([box[position] ^ 1]) + box[position + 1 :], box[:position]):
            with pytest.raises(Refused) as caught:
                PAIR.open(broken)
            assert caught.value.code == "sealing.broken"


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), bytes(32)])
def test_a_key_that_cannot_be_sealed_to_is_refused(key: bytes) -> None:
    with pytest.raises(Refused) as caught:
        seal(b"manifest", SealingKey(key))
    assert caught.value.code == "sealing.key"


def test_the_sealing_key_is_pinned_and_is_not_the_seed() -> None:
    """Sealed manifests must stay readable: the derivation never changes."""
    assert PAIR.key.hex() == "e5f0ebc92fc3899a95609e1a374295abcfc0bc8b207992abcc2c3b08f1742638"
    assert SealingPair(bytes(range(32))).key != PAIR.key


def test_the_secret_does_not_show() -> None:
    assert repr(PAIR) == f"SealingPair({PAIR.key.hex()[:12]}...)"


def test_salts_have_their_lengths_and_differ() -> None:
    assert len(random_salt()) == 16
    assert len(random_blinding_salt()) == 32
    assert random_salt() != random_salt()
