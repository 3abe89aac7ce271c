from __future__ import annotations

import hashlib
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fondaco.protocol import codec
from fondaco.protocol.agreement import Proposal, Vote, VoteKind
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import ChainId, Hash, Height, PublicKey, Round, Signature
from fondaco.protocol.signing import (
    DOMAIN,
    Signer,
    message_id,
    require,
    sha256,
    signing_bytes,
    verify,
)

CHAIN = ChainId("sample-1")
SIGNER = Signer(bytes(range(32)))
VOTE = Vote(kind=VoteKind.PREVOTE, height=Height(3), round=Round(0), value=Hash(bytes(32)), valid_round=None)
PROPOSAL = Proposal(height=Height(3), round=Round(0), value=Hash(bytes(32)), valid_round=None)


def test_a_signature_holds_for_its_message_key_and_chain_only() -> None:
    signature = SIGNER.sign(CHAIN, VOTE)
    require(CHAIN, VOTE, SIGNER.public_key, signature)
    other = Signer(bytes(32)).public_key
    for chain, message, key in (
        (ChainId("other"), VOTE, SIGNER.public_key),
        (CHAIN, PROPOSAL, SIGNER.public_key),
        (CHAIN, VOTE, other),
    ):
        with pytest.raises(PeerFault) as caught:
            require(chain, message, key, signature)
        assert caught.value.code == "signature.bad"


def test_what_is_signed_names_domain_chain_and_tag() -> None:
    assert codec.unpack(signing_bytes(CHAIN, VOTE)) == [DOMAIN, CHAIN, Vote.TAG, codec.encode(VOTE)]


def test_equal_bodies_of_other_kinds_have_other_signatures() -> None:
    class Body:
        TAG: ClassVar[int] = 900

    assert signing_bytes(CHAIN, VOTE) != signing_bytes(CHAIN, PROPOSAL)
    assert message_id(CHAIN, VOTE) != message_id(ChainId("other"), VOTE)


def test_an_id_is_the_hash_of_the_signed_bytes() -> None:
    assert message_id(CHAIN, VOTE) == hashlib.sha256(signing_bytes(CHAIN, VOTE)).digest()
    assert sha256(b"") == hashlib.sha256(b"").digest()


def test_signing_is_deterministic_and_pinned_to_rfc_8032() -> None:
    """Test 2 of RFC 8032, section 7.1."""
    signer = Signer(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert signer.public_key.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert signer.sign_bytes(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


def test_a_long_signature_cannot_carry_the_beginning_of_another_statement() -> None:
    whole = b"pay one hundred to bob"
    signature = SIGNER.sign_bytes(whole)
    assert verify(SIGNER.public_key, whole, signature)
    assert not verify(SIGNER.public_key, whole[4:], Signature(signature + whole[:4]))
    assert not verify(SIGNER.public_key, signature[60:] + whole, Signature(signature[:60]))


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_a_key_of_another_length_verifies_nothing(length: int) -> None:
    key = PublicKey((SIGNER.public_key * 2)[:length])
    assert not verify(key, b"data", SIGNER.sign_bytes(b"data"))


@settings(deadline=None)
@given(data=st.binary(max_size=80), flip=st.integers(0, 511))
def test_a_changed_bit_breaks_a_signature(data: bytes, flip: int) -> None:
    signature = bytearray(SIGNER.sign_bytes(data))
    assert verify(SIGNER.public_key, data, Signature(bytes(signature)))
    signature[flip // 8] ^= 1 << flip % 8
    assert not verify(SIGNER.public_key, data, Signature(bytes(signature)))


def test_a_cheaper_check_can_take_the_verifiers_place() -> None:
    seen = []

    def check(key: PublicKey, data: bytes, signature: Signature) -> bool:
        seen.append((key, data, signature))
        return True

    require(CHAIN, VOTE, SIGNER.public_key, Signature(b""), check=check)
    assert seen == [(SIGNER.public_key, signing_bytes(CHAIN, VOTE), b"")]


def test_a_signer_does_not_show_its_secret() -> None:
    assert repr(SIGNER) == f"Signer({SIGNER.public_key.hex()[:12]}...)"
