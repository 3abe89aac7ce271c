from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.proofs import GENESIS_TIME, RECORDS, Line, at

from fondaco.consensus.light import TRUSTING_PERIOD_MS
from fondaco.consensus.proof import HeaderId, parse_header_id, step_of, verify_proof
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import FondacoError, Malformed, PeerFault, Refused
from fondaco.protocol.proof import RecordProof
from fondaco.protocol.scalars import Hash, Height, Millis

STEADY = Line()
CHANGING = Line(every=10)
KEY = b"lease/3"


def code_of(proof: RecordProof, anchor: object, *, now: int = at(20), kind: type[FondacoError] = PeerFault) -> str:
    with pytest.raises(kind) as caught:
        verify_proof(codec.encode(proof), anchor, now=Millis(now))  # type: ignore[arg-type]
    return caught.value.code


def test_one_header_proves_a_record_from_genesis_while_the_set_stays() -> None:
    found = verify_proof(codec.encode(STEADY.proof(KEY, 10)), STEADY.genesis(), now=at(10))
    assert (found.key, found.value, found.steps) == (KEY, RECORDS[KEY], 1)
    assert found.header == STEADY.header(10)


def test_absence_is_proven_too() -> None:
    found = verify_proof(codec.encode(STEADY.proof(b"lease/none", 10)), STEADY.genesis(), now=at(10))
    assert found.value is None


def test_a_changing_set_needs_headers_between() -> None:
    proof = CHANGING.proof(KEY, 15, 35, 40)
    assert verify_proof(codec.encode(proof), CHANGING.genesis(), now=at(40)).steps == 3
    assert code_of(CHANGING.proof(KEY, 40), CHANGING.genesis(), now=at(40), kind=Refused) == "proof.too_far"


@pytest.mark.parametrize("height", [15, 35, 40])
def test_any_header_on_the_way_can_be_the_anchor(height: int) -> None:
    proof = codec.encode(CHANGING.proof(KEY, 15, 35, 40))
    assert verify_proof(proof, CHANGING.id(height), now=at(40)).header.height == 40


def test_an_expired_anchor_proves_nothing_unless_it_is_the_record_s_own_header() -> None:
    late = GENESIS_TIME + TRUSTING_PERIOD_MS + 60_000
    proof = STEADY.proof(KEY, 5, 10)
    assert code_of(proof, STEADY.genesis(), now=late, kind=Refused) == "light.expired"
    assert code_of(proof, STEADY.id(5), now=late, kind=Refused) == "light.expired"
    assert verify_proof(codec.encode(proof), STEADY.id(10), now=Millis(late)).value == RECORDS[KEY]


def test_an_anchor_off_the_way_is_told_with_what_the_file_holds() -> None:
    proof = codec.encode(STEADY.proof(KEY, 3, 5, 7, 10))
    with pytest.raises(Refused) as caught:
        verify_proof(proof, STEADY.id(4), now=at(10))
    assert caught.value.code == "proof.anchor"
    assert "3, 5, 7 and more" in caught.value.message
    assert "--from 4" in caught.value.hint
    with pytest.raises(Refused) as caught:
        verify_proof(proof, HeaderId(height=Height(5), hash=Hash(bytes(32))), now=at(10))
    assert STEADY.header(5).hash().hex() in caught.value.message


def test_every_header_must_be_signed_by_more_than_two_thirds() -> None:
    weak = STEADY.proof(KEY, 5, 10, signers=2)
    assert code_of(weak, STEADY.genesis()) == "light.weak"
    assert code_of(weak, STEADY.id(10)) == "light.weak", "even where it is not needed"


def test_a_record_that_the_state_does_not_hold_is_refused() -> None:
    forged = replace(STEADY.proof(KEY, 10), value=b"more")
    assert code_of(forged, STEADY.id(10)) == "proof.record"
    assert code_of(replace(STEADY.proof(KEY, 10), value=None), STEADY.id(10)) == "proof.record"


def test_there_is_one_way_to_write_a_proof() -> None:
    proof = STEADY.proof(KEY, 10)
    (step,) = proof.path
    spelled_out = replace(step, next_validators=step.validators)
    turned = replace(step, validators=step.validators[::-1])
    for bent in (spelled_out, turned):
        assert code_of(replace(proof, path=(bent,)), STEADY.genesis(), kind=Malformed) == "proof.form"


def test_a_proof_has_a_bounded_number_of_headers() -> None:
    proof = STEADY.proof(KEY, 10)
    for path in ((), proof.path * (limits.PROOF_STEPS + 1)):
        assert code_of(replace(proof, path=path), STEADY.genesis(), kind=Malformed) == "proof.steps"


def test_a_set_that_changes_is_in_the_step_and_one_that_stays_is_not() -> None:
    changes = step_of(CHANGING.signed(9), CHANGING.set_at(9), CHANGING.set_at(10))
    assert changes.next_validators is not None
    assert step_of(CHANGING.signed(8), CHANGING.set_at(8), CHANGING.set_at(9)).next_validators is None


def test_a_header_id_reads_as_it_is_written() -> None:
    written = STEADY.id(7)
    assert parse_header_id(str(written)) == written


HASH = "00" * 32


@pytest.mark.parametrize(
    "text",
    ["", "7", "7:", f":{HASH}", f"x:{HASH}", f"-7:{HASH}", f"{'9' * 20}:{HASH}", f"\u0663:{HASH}"]
    + [f"7:{bad}" for bad in (HASH[2:], HASH + "00", "0g" * 32, "00 " * 32)],
)
def test_what_is_no_header_id_is_told(text: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_header_id(text)
    assert caught.value.code == "light.anchor"
