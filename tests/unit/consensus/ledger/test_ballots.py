"""Votes weigh what was bonded all along, hold that stake until the end, and come in time or not at all."""

from __future__ import annotations

from tests.support.ledger import HOUR, MINUTE, of_kind
from tests.support.parish import ABSTAIN, MILLION, NO, VETO, YES, Parish, ballot

from fondaco.consensus.ledger.ballots import governance_of, locked
from fondaco.protocol import codec, limits
from fondaco.protocol.events import VoteCast
from fondaco.protocol.evidence import duplicate_vote
from fondaco.protocol.messages import Resolution
from fondaco.protocol.records import ProposalState
from fondaco.protocol.scalars import Hash, MicroStake, ProposalNumber


def test_a_vote_weighs_what_was_bonded_at_the_start() -> None:
    parish = Parish()
    alice = parish.alice
    parish.block(alice.proposes())
    parish.block(alice.bonds(50 * MILLION))
    assert parish.code(alice.says(YES)) == "vote.no_stake"
    parish.block(alice.proposes())
    assert parish.code(alice.says(YES, 2)) == ""
    assert parish.proposal(2).tally.yes == 50 * MILLION
    assert parish.proposal(2).electorate == 150 * MILLION
    assert parish.proposal(1).electorate == 100 * MILLION
    parish.block(alice.bonds(7 * MILLION))
    parish.block(alice.says(NO, 2))
    assert parish.proposal(2).tally.no == 50 * MILLION, "what was bonded later does not count"
    assert parish.proposal(2).tally.yes == 0, "a vote replaces the one before"
    parish.books.count()


def test_stake_that_left_and_came_back_does_not_count() -> None:
    parish = Parish()
    alice = parish.alice
    parish.block(alice.bonds(50 * MILLION))
    parish.block(alice.proposes())
    parish.block(alice.unbonds(40 * MILLION))
    parish.block(alice.bonds(30 * MILLION))
    parish.block(alice.says(YES))
    assert parish.proposal().tally.yes == 10 * MILLION
    parish.block(alice.bonds(1 * MILLION))
    assert parish.code(alice.says(ABSTAIN)) == ""
    assert parish.proposal().tally.abstain == 10 * MILLION


def test_the_least_that_was_bonded_meanwhile_counts() -> None:
    """A ballot noted once is not raised by what is bonded later, and lowered by what left in between."""
    parish = Parish()
    alice = parish.alice
    parish.block(alice.bonds(50 * MILLION))
    parish.block(alice.proposes())
    parish.block(alice.bonds(10 * MILLION))
    found = ballot(parish, alice)
    assert found is not None
    assert (found.weight, found.choice) == (50 * MILLION, None)
    parish.block(alice.unbonds(40 * MILLION))
    parish.block(alice.bonds(40 * MILLION))
    parish.block(alice.says(YES))
    assert parish.proposal().tally.yes == 20 * MILLION


def test_stake_that_was_voted_with_stays_until_the_vote_ends() -> None:
    parish = Parish()
    dan = parish.dan
    parish.block(parish.alice.proposes())
    parish.block(dan.unbonds(10 * MILLION))
    parish.block(dan.says(NO))
    assert locked(parish.ledger.state(), dan.key) == 30 * MILLION
    assert parish.code(dan.unbonds(1)) == "stake.locked"
    assert parish.code(parish.cat.unbonds(5 * MILLION)) == "", "who has not voted is free to go"
    parish.block(after_ms=HOUR)
    assert locked(parish.ledger.state(), dan.key) == 0
    assert parish.code(dan.unbonds(5 * MILLION)) == ""
    parish.books.count()


def test_the_heaviest_of_several_votes_holds_the_stake() -> None:
    parish = Parish()
    alice = parish.alice
    parish.block(alice.bonds(5 * MILLION))
    parish.block(alice.proposes())
    parish.block(alice.bonds(5 * MILLION))
    parish.block(alice.proposes())
    parish.block(alice.says(YES, 1), alice.says(YES, 2))
    assert parish.code(alice.unbonds(1)) == "stake.locked"
    assert [parish.proposal(number).tally.yes for number in (1, 2)] == [5 * MILLION, 10 * MILLION]


def test_who_is_convicted_votes_no_more_and_is_not_counted_among_the_voters() -> None:
    parish = Parish()
    evidence = codec.encode(
        duplicate_vote(parish.dan.votes(1, Hash(bytes(32))), parish.dan.votes(1, Hash(b"1" * 32)))
    )
    parish.block(parish.alice.proposes())
    parish.block(evidence=[evidence])
    assert parish.code(parish.dan.says(YES)) == "vote.tombstoned"
    assert governance_of(parish.ledger.state()).electorate == 60 * MILLION
    parish.books.count()


def test_a_vote_cast_before_a_conviction_stands_and_what_is_left_stays_locked() -> None:
    parish = Parish()
    evidence = codec.encode(
        duplicate_vote(parish.dan.votes(1, Hash(bytes(32))), parish.dan.votes(1, Hash(b"1" * 32)))
    )
    parish.block(parish.alice.proposes())
    parish.block(parish.dan.says(YES))
    parish.block(evidence=[evidence])
    assert parish.proposal().tally.yes == 40 * MILLION
    assert parish.code(parish.dan.unbonds(parish.stake_behind(parish.dan).bonded)) == "stake.locked"
    parish.books.count()
    parish.block(after_ms=HOUR)
    assert parish.code(parish.dan.unbonds(parish.stake_behind(parish.dan).bonded)) == ""


def test_a_vote_that_comes_too_late_is_refused_though_the_count_is_waiting() -> None:
    parish = Parish()
    parish.block(*(parish.alice.proposes() for _ in range(limits.PROPOSALS_PER_BLOCK + 1)))
    assert parish.code(parish.dan.says(YES, limits.PROPOSALS_PER_BLOCK + 1), after_ms=HOUR) == "proposal.over"


def test_votes_on_what_is_not_there_or_over_are_refused() -> None:
    parish = Parish()
    assert parish.code(parish.dan.says(YES, 1)) == "proposal.unknown"
    parish.block(parish.alice.proposes())
    assert parish.code(parish.alice.says(YES)) == "vote.no_stake"
    parish.block(after_ms=HOUR)
    assert parish.code(parish.dan.says(YES)) == "proposal.over"


def test_ballots_stay_as_long_as_an_older_proposal_is_open() -> None:
    parish = Parish(authority="bob")
    parish.block(parish.alice.proposes())
    parish.block(parish.bob.sets(voting_ms=MINUTE))
    parish.block(parish.alice.proposes())
    parish.block(parish.dan.says(YES, 2))
    parish.block(after_ms=MINUTE)
    assert parish.proposal(2).state == ProposalState.PASSED
    assert ballot(parish, parish.dan, 2) is not None
    assert parish.code(parish.dan.unbonds(20 * MILLION)) == "", "it holds no stake, though"
    parish.books.count()
    parish.block(after_ms=HOUR)
    assert ballot(parish, parish.dan, 2) is None


def test_votes_are_told() -> None:
    parish = Parish()
    parish.block(parish.alice.proposes())
    execution = parish.block(parish.dan.says(VETO))
    assert of_kind(execution.events, VoteCast) == [
        VoteCast(proposal=ProposalNumber(1), voter=parish.dan.key, choice=VETO, weight=MicroStake(40 * MILLION))
    ]
    assert isinstance(parish.proposal().action, Resolution)


def test_a_proposal_and_its_first_vote_may_come_together() -> None:
    parish = Parish()
    parish.block(parish.alice.pays(parish.dan, 100))
    assert parish.code(parish.dan.proposes() & parish.dan.says(YES)) == ""
    assert parish.proposal().tally.yes == 40 * MILLION
