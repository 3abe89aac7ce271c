"""Disagreements made by hand: who is named, with what, and who is left in peace."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.agreement import (
    CHAIN,
    FOUR,
    PRECOMMIT,
    PREVOTE,
    START,
    block,
    commit_certificate,
    member,
    round_certificate,
    validators,
    value,
    vote,
)

from fondaco.consensus.certificates import SignatureCache
from fondaco.consensus.forensics import Finding, Transcript
from fondaco.consensus.journal_entries import MessageEntry, RoundZeroEntry
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.simulation import identities
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import ConsensusMessage, SignedHeader, SignedVote
from fondaco.protocol.errors import Malformed
from fondaco.protocol.evidence import Amnesia, DuplicateVote, LightClientAttack
from fondaco.protocol.light import Fork, LightBlock
from fondaco.protocol.scalars import Hash, Height, Millis, Signature

A, B = value("A"), value("B")


def a_transcript(*messages: ConsensusMessage) -> Transcript:
    transcript = Transcript(CHAIN, Height(1), FOUR, SignatureCache(CHAIN, identities.verify).holds)
    for message in messages:
        transcript.add(message)
    return transcript


def examined(*messages: ConsensusMessage) -> Finding:
    return a_transcript(*messages).examine()


def polka(what: Hash, *who: int, round: int, valid_round: int | None = None) -> ConsensusMessage:
    votes = (vote(PREVOTE, one, what, round=round, valid_round=valid_round) for one in who)
    return round_certificate(*votes)


def named(finding: Finding) -> dict[int, list[str]]:
    index = FOUR.index
    return {
        index[culprit.validator]: [type(one).__name__ for one in culprit.evidence] for culprit in finding.culprits
    }


A_IN_0 = (polka(A, 0, 1, 2, round=0), commit_certificate(A, 0, 1, 2))
B_IN_1 = commit_certificate(B, 1, 2, 3, round=1)


def test_where_all_is_well_nobody_is_named() -> None:
    finding = examined(*A_IN_0)
    assert [(one.round, one.value) for one in finding.decisions] == [(0, A)]
    assert not finding.disagreement
    assert (finding.culprits, finding.unexplained) == ((), ())
    assert finding.decisions[0].signers == (member(0), member(1), member(2))


def test_two_values_in_one_round_convict_those_in_both_quorums() -> None:
    finding = examined(*A_IN_0, polka(B, 1, 2, 3, round=0), commit_certificate(B, 1, 2, 3))
    assert finding.disagreement
    assert finding.accounted_for
    assert named(finding) == {1: ["DuplicateVote"] * 2, 2: ["DuplicateVote"] * 2}
    assert all(isinstance(one, DuplicateVote) for culprit in finding.culprits for one in culprit.evidence)


def test_two_values_in_two_rounds_convict_those_who_forgot() -> None:
    finding = examined(*A_IN_0, polka(B, 1, 2, 3, round=1), B_IN_1)
    assert finding.disagreement
    assert named(finding) == {1: ["Amnesia"], 2: ["Amnesia"]}
    assert (finding.convicted, finding.total) == (2, 4)
    assert finding.unexplained == ()


def test_the_first_polka_after_the_decision_shows_who_forgot_though_later_votes_are_excused_by_it() -> None:
    late = commit_certificate(B, 1, 2, 3, round=2)
    excused = polka(B, 1, 2, 3, round=2, valid_round=1)
    finding = examined(*A_IN_0, polka(B, 1, 2, 3, round=1), excused, late)
    assert named(finding) == {1: ["Amnesia"], 2: ["Amnesia"]}


def test_a_polka_in_the_very_round_of_the_decision_shows_who_prevoted_twice() -> None:
    votes = (polka(B, 1, 2, 3, round=0), polka(B, 1, 2, 3, round=1, valid_round=0))
    finding = examined(*A_IN_0, *votes, B_IN_1)
    assert named(finding) == {1: ["DuplicateVote"], 2: ["DuplicateVote"]}


def test_a_polka_that_nobody_shows_is_asked_for() -> None:
    finding = examined(*A_IN_0, polka(B, 1, 2, 3, round=1, valid_round=0), B_IN_1)
    assert finding.culprits == ()
    assert not finding.accounted_for
    assert [FOUR.index[one.validator] for one in finding.unexplained] == [1, 2, 3]
    assert {(one.vote.kind, one.polka, one.power) for one in finding.unexplained} == {(PREVOTE, 0, 1)}


def test_without_their_journals_precommits_are_unexplained() -> None:
    finding = examined(commit_certificate(A, 0, 1, 2), B_IN_1)
    assert len(finding.unexplained) == 4
    assert finding.unexplained[0].vote.kind is PRECOMMIT


def test_misbehaviour_that_came_to_nothing_is_listed_too() -> None:
    finding = examined(vote(PREVOTE, 3, A), vote(PREVOTE, 3, None), vote(PRECOMMIT, 0, A))
    assert named(finding) == {3: ["DuplicateVote"]}
    assert finding.decisions == ()


def test_votes_for_nil_decide_nothing_and_forget_nothing() -> None:
    words = [vote(kind, 0, None, round=round) for kind in (PREVOTE, PRECOMMIT) for round in range(3)]
    finding = examined(vote(PRECOMMIT, 0, A, round=3), *words)
    assert (finding.decisions, finding.culprits) == ((), ())


def test_only_votes_of_this_height_by_its_validators_are_heard() -> None:
    five = validators(1, 1, 1, 1, 1)
    outside = next(who for who in range(5) if five.members[who].public_key not in FOUR.index)
    forged = replace(vote(PREVOTE, 0, B), signature=Signature(bytes(64)))
    transcript = a_transcript(vote(PREVOTE, 0, A), vote(PREVOTE, 0, A), forged, vote(PREVOTE, outside, A, of=five))
    transcript.add(vote(PREVOTE, 0, B, height=2))
    assert transcript.passed_over == 2
    assert transcript.examine().culprits == ()


def test_no_more_votes_are_kept_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FORENSIC_VOTES", 1)
    transcript = a_transcript(vote(PREVOTE, 0, A), vote(PREVOTE, 0, B))
    assert transcript.passed_over == 1


def test_journal_entries_are_read() -> None:
    transcript = a_transcript()
    for entry in (
        RoundZeroEntry(time=Millis(START)),
        *(MessageEntry(time=Millis(START), message=vote(PREVOTE, 1, what), own=False) for what in (A, B)),
    ):
        transcript.add_entry(codec.encode(entry))
    assert named(transcript.examine()) == {1: ["DuplicateVote"]}
    with pytest.raises(Malformed):
        transcript.add_entry(b"\xc1")


# Forks that light clients were shown


def light_block(name: bytes, *signers: int, round: int = 0, of: ValidatorSet = FOUR) -> LightBlock:
    header = replace(block().header, state_root=Hash(name.ljust(32, b".")), validators=of.hash)
    certificate = commit_certificate(header.hash(), *signers, round=round, of=of)
    return LightBlock(
        signed=SignedHeader(header=header, certificate=certificate),
        validators=of.members,
        next_validators=of.members,
    )


def finding_of(first: LightBlock, second: LightBlock) -> Finding:
    transcript = a_transcript()
    transcript.add_fork(Fork(common_height=0, first=first, second=second))
    return transcript.examine()


def test_a_fork_in_one_round_convicts_by_both_its_sides() -> None:
    finding = finding_of(light_block(b"one", 0, 1, 2), light_block(b"other", 1, 2, 3))
    assert finding.disagreement
    assert finding.accounted_for
    assert set(named(finding)) == {1, 2}
    assert all({DuplicateVote, LightClientAttack} == {type(e) for e in one.evidence} for one in finding.culprits)


def test_a_fork_in_two_rounds_asks_for_the_journals() -> None:
    finding = finding_of(light_block(b"one", 0, 1, 2), light_block(b"other", 1, 2, 3, round=1))
    assert finding.disagreement
    assert finding.culprits == ()
    assert len(finding.unexplained) == 4


def test_a_header_of_invented_validators_convicts_its_signers() -> None:
    mine = ValidatorSet.of([(member(0), FOUR.members[0].power), (member(3), FOUR.members[3].power)])
    finding = finding_of(light_block(b"one", 0, 1, 2), light_block(b"other", 0, 1, of=mine))
    assert {0, 3} <= set(named(finding))
    assert not finding.disagreement


def test_a_side_whose_validators_are_missing_is_believed_for_its_signatures_alone() -> None:
    bare = replace(light_block(b"other", 1, 2, 3), validators=())
    finding = finding_of(light_block(b"one", 0, 1, 2), bare)
    assert named(finding) == {1: ["LightClientAttack"], 2: ["LightClientAttack"]}
    assert not finding.disagreement


def test_a_forgotten_lock_is_named_once_for_each_precommit() -> None:
    words: list[SignedVote] = [
        vote(PRECOMMIT, 0, A, round=0),
        vote(PRECOMMIT, 0, A, round=1),
        *(vote(PREVOTE, 0, B, round=round) for round in (2, 3)),
    ]
    (culprit,) = examined(*words).culprits
    assert all(isinstance(one, Amnesia) for one in culprit.evidence)
    assert len(culprit.evidence) == 2
