"""What the engine lets in, once each, and what it punishes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.agreement import (
    PRECOMMIT,
    PREVOTE,
    START,
    block,
    commit_certificate,
    only,
    proposal,
    round_certificate,
    vote,
)
from tests.support.engines import (
    BAD,
    ME,
    OTHERS,
    P0,
    P1,
    RED,
    STRANGER,
    R,
    a_host,
    faults,
    forged,
    prevoted_red,
    tell,
)

from fondaco.consensus.effects import (
    ReportEvidence,
    Sign,
    Signed,
    Validate,
    Validated,
)
from fondaco.protocol.agreement import (
    Block,
    ConsensusMessage,
    SignedProposal,
    SignedVote,
)
from fondaco.protocol.evidence import duplicate_vote
from fondaco.protocol.scalars import Height


def _unsigned(message: SignedVote) -> SignedVote:
    return replace(message, signature=BAD)


def _proposal_of(content: Block, **changes: object) -> SignedProposal:
    return replace(proposal(content, who=P0), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (_unsigned(vote(PREVOTE, P0, R)), "signature.bad"),
        (replace(vote(PREVOTE, P0, R), validator=STRANGER), "vote.stranger"),
        (vote(PRECOMMIT, P0, R, round=1, valid_round=0), "vote.valid_round"),
        (vote(PREVOTE, P0, None, round=1, valid_round=0), "vote.valid_round"),
        (vote(PREVOTE, P0, R, round=1, valid_round=1), "vote.valid_round"),
        (_proposal_of(RED, signature=BAD), "signature.bad"),
        (proposal(RED, who=P1), "proposal.turn"),
        (proposal(RED, who=P1, round=1), "proposal.proposer"),
        (proposal(RED, who=P1, round=1, valid_round=1), "proposal.valid_round"),
        (_proposal_of(RED, block=replace(RED, transactions=(b"swapped",))), "block.data"),
        (
            _proposal_of(RED, block=replace(RED, header=replace(RED.header, height=Height(2)))),
            "proposal.height",
        ),
        (forged(commit_certificate(R, 0)), "signature.bad"),
        (commit_certificate(R, 0, 1), "certificate.weak"),
        (round_certificate(), "certificate.places"),
        (round_certificate(vote(PREVOTE, P0, R)), "certificate.weak"),
        (round_certificate(vote(PREVOTE, P0, R, round=1, valid_round=1)), "vote.valid_round"),
        (_unsigned(vote(PREVOTE, P0, R, height=2)), "signature.bad"),
        (
            replace(proposal(replace(RED, header=replace(RED.header, height=Height(2))), who=P1), signature=BAD),
            "signature.bad",
        ),
    ],
)
def test_what_no_honest_peer_sends_is_punished_and_changes_nothing(message: ConsensusMessage, code: str) -> None:
    host = a_host()
    assert faults(tell(host, message)) == [code]
    assert host.journal == []
    assert tell(host, message, sender=None) == ()


def test_a_vote_is_taken_once() -> None:
    host = a_host()
    tell(host, vote(PREVOTE, P0, None))
    assert tell(host, vote(PREVOTE, P0, None)) == ()
    tell(host, vote(PREVOTE, P1, None))
    assert tell(host, round_certificate(vote(PREVOTE, P0, None), vote(PREVOTE, P1, None))) == ()


def test_a_nil_quorum_is_taken_once() -> None:
    host = a_host()
    certificate = round_certificate(*(vote(PRECOMMIT, who, None) for who in OTHERS))
    assert tell(host, certificate)
    assert tell(host, certificate) == ()


def test_a_proposal_is_taken_once_and_judged_once() -> None:
    host = a_host()
    tell(host, proposal(RED, who=P0))
    assert tell(host, proposal(RED, who=P0)) == ()
    host.do(Validated(height=Height(1), value=R, valid=True))
    assert host.do(Validated(height=Height(1), value=R, valid=True)) == ()
    tell(host, vote(PREVOTE, OTHERS[0], None, round=1), vote(PREVOTE, OTHERS[1], None, round=1))
    effects = tell(host, proposal(RED, who=P1, round=1, valid_round=0))
    assert only(Validate, effects) == []


def test_a_block_that_does_not_follow_is_not_shown_to_the_ledger() -> None:
    host = a_host()
    early = block(b"early", proposer=P0, time=START - 1_000)
    effects = tell(host, proposal(early, who=P0))
    assert only(Validate, effects) == []
    assert [one.statement.value for one in only(Sign, effects)] == [None]


def test_a_proposal_from_another_time_gets_nil() -> None:
    host = a_host()
    host.now += 20_000
    tell(host, proposal(RED, who=P0))
    effects = host.do(Validated(height=Height(1), value=R, valid=True))
    assert [one.statement.value for one in only(Sign, effects)] == [None]


def test_two_votes_of_one_validator_are_reported() -> None:
    host = a_host()
    first, second = vote(PREVOTE, P0, R), vote(PREVOTE, P0, None)
    effects = tell(host, first, second)
    assert only(ReportEvidence, effects) == [ReportEvidence(duplicate_vote(first, second))]


def test_a_round_certificate_is_taken_whole_and_known_ones_are_not_taken_again() -> None:
    host = a_host()
    prevoted_red(host)
    tell(host, vote(PREVOTE, OTHERS[0], None))
    polka = round_certificate(*(vote(PREVOTE, who, R) for who in OTHERS))
    effects = tell(host, polka)
    assert only(ReportEvidence, effects)
    assert [one.statement.value for one in only(Sign, effects)] == [R]
    assert tell(host, polka) == ()


def test_an_answer_nobody_asked_for_is_dropped() -> None:
    host = a_host()
    assert host.do(Signed(vote(PREVOTE, ME, R))) == ()
    assert host.do(Signed(proposal(RED, who=P0))) == ()
