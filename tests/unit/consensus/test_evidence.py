"""What convicts a validator, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.agreement import (
    CHAIN,
    FOUR,
    PRECOMMIT,
    PREVOTE,
    block,
    commit_certificate,
    member,
    validators,
    value,
    vote,
)

from fondaco.consensus.certificates import SignatureCache
from fondaco.consensus.evidence import check
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.simulation import identities
from fondaco.protocol import codec
from fondaco.protocol.agreement import CommitCertificate, Header, SignedHeader, SignedVote
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.evidence import (
    Amnesia,
    DuplicateVote,
    Evidence,
    LightClientAttack,
    decode_evidence,
    duplicate_vote,
    evidence_hash,
)
from fondaco.protocol.scalars import ChainId, Hash, Height, PublicKey, Signature

A, B = value("A"), value("B")
HOLDS = SignatureCache(CHAIN, identities.verify).holds


def set_at(height: Height) -> ValidatorSet | None:
    return FOUR if height <= 5 else None


def convicted(evidence: Evidence, chain: ChainId = CHAIN) -> tuple[PublicKey, ...]:
    return check(evidence, chain, set_at, HOLDS)


def refusal(evidence: Evidence) -> str:
    with pytest.raises(Refused) as caught:
        convicted(evidence)
    return caught.value.code


def amnesia(**changes: SignedVote) -> Amnesia:
    votes = {"precommit": vote(PRECOMMIT, 1, A, round=1), "prevote": vote(PREVOTE, 1, B, round=3), **changes}
    return Amnesia(**votes)


# Votes


def test_two_votes_of_one_round_convict_whoever_saw_them_first() -> None:
    one, other = vote(PREVOTE, 1, A), vote(PREVOTE, 1, None)
    assert convicted(duplicate_vote(one, other)) == convicted(duplicate_vote(other, one)) == (member(1),)
    assert duplicate_vote(one, other) == duplicate_vote(other, one)


def test_evidence_survives_the_codec_and_is_known_by_its_bytes() -> None:
    evidence = duplicate_vote(vote(PREVOTE, 1, A), vote(PREVOTE, 1, None))
    raw = codec.encode(evidence)
    assert decode_evidence(raw) == evidence
    assert evidence_hash(raw) != evidence_hash(codec.encode(amnesia()))
    assert evidence.height == amnesia().height == 1
    with pytest.raises(Malformed):
        decode_evidence(codec.encode(vote(PREVOTE, 1, A)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (vote(PREVOTE, 1, A), vote(PREVOTE, 1, A)),
        (vote(PREVOTE, 1, A), vote(PRECOMMIT, 1, B)),
        (vote(PREVOTE, 1, A), vote(PREVOTE, 1, B, round=1)),
        (vote(PREVOTE, 1, A), vote(PREVOTE, 1, B, height=2)),
        (vote(PREVOTE, 1, A), vote(PREVOTE, 2, B)),
    ],
)
def test_votes_that_do_not_contradict_each_other_prove_nothing(one: SignedVote, other: SignedVote) -> None:
    assert refusal(duplicate_vote(one, other)) == "evidence.votes"


def test_the_same_offence_in_the_other_order_is_refused() -> None:
    good = duplicate_vote(vote(PREVOTE, 1, A), vote(PREVOTE, 1, None))
    assert refusal(DuplicateVote(first=good.second, second=good.first)) == "evidence.votes"


def test_votes_of_strangers_and_of_unknown_heights_prove_nothing() -> None:
    five = validators(1, 1, 1, 1, 1)
    outside = next(who for who in range(5) if five.members[who].public_key not in FOUR.index)
    votes = (vote(PREVOTE, outside, A, of=five), vote(PREVOTE, outside, B, of=five))
    assert refusal(duplicate_vote(*votes)) == "evidence.stranger"
    late = (vote(PREVOTE, 1, A, height=6), vote(PREVOTE, 1, B, height=6))
    assert refusal(duplicate_vote(*late)) == "evidence.height"


def test_a_forged_vote_convicts_nobody() -> None:
    forged = replace(vote(PREVOTE, 1, B), signature=Signature(bytes(64)))
    assert refusal(duplicate_vote(vote(PREVOTE, 1, A), forged)) == "signature.bad"


# Amnesia


@pytest.mark.parametrize("valid_round", [None, 0])
def test_a_prevote_that_names_no_polka_since_the_precommit_is_amnesia(valid_round: int | None) -> None:
    prevote = vote(PREVOTE, 1, B, round=3, valid_round=valid_round)
    assert convicted(amnesia(prevote=prevote)) == (member(1),)


@pytest.mark.parametrize(
    "innocent",
    [
        {"prevote": vote(PREVOTE, 1, B, round=3, valid_round=1)},
        {"prevote": vote(PREVOTE, 1, B, round=3, valid_round=2)},
        {"prevote": vote(PREVOTE, 1, None, round=3)},
        {"prevote": vote(PREVOTE, 1, A, round=3)},
        {"prevote": vote(PREVOTE, 1, B, round=1)},
        {"prevote": vote(PREVOTE, 1, B, round=3, height=2)},
        {"prevote": vote(PRECOMMIT, 1, B, round=3)},
        {"prevote": vote(PREVOTE, 2, B, round=3)},
        {"precommit": vote(PRECOMMIT, 1, None, round=1)},
        {"precommit": vote(PREVOTE, 1, A, round=1)},
    ],
)
def test_what_an_honest_validator_may_say_after_a_precommit(innocent: dict[str, SignedVote]) -> None:
    assert refusal(amnesia(**innocent)) == "evidence.votes"


# Light-client attacks


def signed(header: Header, *signers: int, round: int = 0, of: ValidatorSet = FOUR) -> SignedHeader:
    certificate = commit_certificate(header.hash(), *signers, height=header.height, round=round, of=of)
    return SignedHeader(header=header, certificate=certificate)


def header(data: bytes = b"", of: ValidatorSet = FOUR) -> Header:
    return replace(block().header, state_root=Hash(data.ljust(32, b".")), validators=of.hash)


TRUE = signed(header(), 0, 1, 2)


def attack(conflicting: SignedHeader, *, of: ValidatorSet = FOUR, ours: SignedHeader = TRUE) -> LightClientAttack:
    return LightClientAttack(conflicting=conflicting, validators=of.members, ours=ours, common_height=Height(0))


def test_who_signed_two_headers_in_one_round_is_convicted() -> None:
    evidence = attack(signed(header(b"other"), 1, 2, 3))
    assert convicted(evidence) == (member(1), member(2))
    assert evidence.height == 0


def test_who_signed_a_header_of_invented_validators_is_convicted() -> None:
    mine = ValidatorSet.of([(member(0), FOUR.members[0].power), (member(3), FOUR.members[3].power)])
    assert convicted(attack(signed(header(of=mine), 0, 1, of=mine), of=mine)) == (member(0), member(3))


def test_strangers_among_invented_validators_are_not_convicted() -> None:
    five = validators(1, 1, 1, 1, 1)
    found = convicted(attack(signed(header(of=five), 0, 1, 2, 3, 4, of=five), of=five))
    assert found == tuple(key for key in five.index if key in FOUR.index)


def test_two_rounds_name_nobody_and_say_where_to_look() -> None:
    assert refusal(attack(signed(header(b"other"), 1, 2, 3, round=1))) == "evidence.rounds"


def forged(good: SignedHeader) -> SignedHeader:
    signatures = tuple(None if one is None else Signature(bytes(64)) for one in good.certificate.signatures)
    return replace(good, certificate=replace(good.certificate, signatures=signatures))


def other_value(good: SignedHeader) -> SignedHeader:
    certificate: CommitCertificate = replace(good.certificate, value=A)
    return replace(good, certificate=certificate)


TWO = ValidatorSet.of([(member(0), FOUR.members[0].power), (member(3), FOUR.members[3].power)])
OTHER = signed(header(b"other"), 1, 2, 3)


@pytest.mark.parametrize(
    ("evidence", "code"),
    [
        (attack(other_value(OTHER)), "evidence.headers"),
        (attack(TRUE), "evidence.headers"),
        (replace(attack(OTHER), common_height=Height(1)), "evidence.headers"),
        (attack(signed(replace(header(), chain=ChainId("other")), 0, 1, 2)), "evidence.headers"),
        (attack(signed(replace(header(), height=Height(2)), 0, 1, 2)), "evidence.headers"),
        (attack(OTHER, ours=signed(header(), 0, 1)), "certificate.weak"),
        (attack(OTHER, ours=forged(TRUE)), "signature.bad"),
        (attack(OTHER, of=TWO), "evidence.validators"),
        (replace(attack(OTHER), validators=()), "validators.count"),
        (attack(signed(header(b"other"), 1, 2)), "certificate.weak"),
        (attack(signed(header(of=TWO), 0, of=TWO), of=TWO), "evidence.weak"),
        (attack(forged(signed(header(of=TWO), 0, 1, of=TWO)), of=TWO), "signature.bad"),
        (attack(signed(header(of=TWO), 0, 1, 2), of=TWO), "certificate.places"),
    ],
)
def test_headers_that_prove_nothing(evidence: LightClientAttack, code: str) -> None:
    assert refusal(evidence) == code
