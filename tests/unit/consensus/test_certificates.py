from __future__ import annotations

import pytest
from tests.support.agreement import (
    CHAIN,
    FOUR,
    PRECOMMIT,
    PREVOTE,
    commit_certificate,
    round_certificate,
    validators,
    value,
    vote,
)

from fondaco.consensus.certificates import (
    SignatureCache,
    commit_from_votes,
    signed_weight,
    verify_commit,
    verify_round,
)
from fondaco.node.simulation import identities
from fondaco.protocol.agreement import CommitCertificate, RoundCertificate
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import Height, PublicKey, Round, Signature

A = value("A")
HOLDS = SignatureCache(CHAIN, identities.verify).holds


def test_more_than_two_thirds_make_a_certificate() -> None:
    verify_commit(commit_certificate(A, 0, 1, 2), FOUR, HOLDS)


def test_a_certificate_built_from_votes_is_the_same_in_any_order() -> None:
    votes = [vote(PRECOMMIT, who, A) for who in (2, 0, 3)]
    built = commit_from_votes(FOUR, height=Height(1), round=Round(0), value=A, votes=votes)
    assert built == commit_certificate(A, 0, 2, 3)


@pytest.mark.parametrize(
    ("certificate", "code"),
    [
        (commit_certificate(A, 0, 1), "certificate.weak"),
        (commit_certificate(A, 0, 1, 2, of=validators(1, 1, 1)), "certificate.places"),
        (
            CommitCertificate(height=Height(1), round=Round(0), value=A, signatures=(Signature(bytes(64)),) * 4),
            "signature.bad",
        ),
    ],
)
def test_bad_commit_certificates_are_the_peers_fault(certificate: CommitCertificate, code: str) -> None:
    with pytest.raises(PeerFault) as caught:
        verify_commit(certificate, FOUR, HOLDS)
    assert caught.value.code == code


def test_one_false_signature_spoils_a_certificate_that_would_do_without_it() -> None:
    good = commit_certificate(A, 0, 1, 2)
    spoiled = CommitCertificate(
        height=good.height,
        round=good.round,
        value=good.value,
        signatures=(*good.signatures[:3], Signature(bytes(64))),
    )
    with pytest.raises(PeerFault):
        verify_commit(spoiled, FOUR, HOLDS)


def test_weight_may_be_counted_in_another_set() -> None:
    trusted = validators(5, 7)
    assert signed_weight(commit_certificate(A, 0, 1, 2, 3), FOUR, HOLDS, counted_in=trusted) == 12


def test_a_third_makes_a_round_certificate_and_kinds_may_mix() -> None:
    verify_round(round_certificate(vote(PREVOTE, 0, A), vote(PRECOMMIT, 1, None)), FOUR, HOLDS)


@pytest.mark.parametrize(
    ("certificate", "code"),
    [
        (round_certificate(), "certificate.places"),
        (round_certificate(*[vote(PREVOTE, 0, A)] * 9), "certificate.places"),
        (round_certificate(vote(PREVOTE, 0, A), vote(PREVOTE, 1, A, round=1)), "certificate.mixed"),
        (round_certificate(vote(PREVOTE, 0, A), vote(PREVOTE, 0, None)), "certificate.mixed"),
        (round_certificate(vote(PREVOTE, 0, A)), "certificate.weak"),
        (
            round_certificate(*(vote(PREVOTE, who, A, of=validators(1, 1, 1, 1, 1, 1)) for who in range(6))),
            "certificate.stranger",
        ),
        (
            RoundCertificate(
                votes=(
                    vote(PREVOTE, 0, A),
                    type(vote(PREVOTE, 1, A))(
                        vote=vote(PREVOTE, 1, A).vote,
                        validator=vote(PREVOTE, 1, A).validator,
                        signature=Signature(bytes(64)),
                    ),
                )
            ),
            "signature.bad",
        ),
    ],
)
def test_bad_round_certificates_are_the_peers_fault(certificate: RoundCertificate, code: str) -> None:
    with pytest.raises(PeerFault) as caught:
        verify_round(certificate, FOUR, HOLDS)
    assert caught.value.code == code


def test_a_signature_is_verified_once_and_bad_ones_are_not_remembered() -> None:
    asked: list[Signature] = []

    def verify(key: PublicKey, data: bytes, signature: Signature) -> bool:
        asked.append(signature)
        return identities.verify(key, data, signature)

    cache = SignatureCache(CHAIN, verify, size=2)
    first, second, third = (vote(PREVOTE, who, A) for who in range(3))
    for one in (first, first, second, third, third):
        assert cache.holds(one.validator, one.vote, one.signature)
    assert asked == [first.signature, second.signature, third.signature]
    assert not cache.holds(first.validator, second.vote, third.signature)
    assert not cache.holds(first.validator, second.vote, third.signature)
    assert len(asked) == 5
    assert cache.holds(first.validator, first.vote, first.signature), "forgotten to make room, and still good"
    assert len(asked) == 6


def test_old_statements_make_room_for_new_ones() -> None:
    cache = SignatureCache(CHAIN, identities.verify, size=1)
    for round in range(3):
        one = vote(PREVOTE, 0, A, round=round)
        assert cache.holds(one.validator, one.vote, one.signature)
