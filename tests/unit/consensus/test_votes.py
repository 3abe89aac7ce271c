from __future__ import annotations

from tests.support.agreement import FOUR, PRECOMMIT, PREVOTE, value, vote

from fondaco.consensus.votes import Crossing, Threshold, VoteKeeper
from fondaco.protocol.evidence import duplicate_vote
from fondaco.protocol.scalars import Round

A, B = value("A"), value("B")
R0, R1, R5 = Round(0), Round(1), Round(5)


def test_each_threshold_is_reported_once() -> None:
    keeper = VoteKeeper(FOUR)
    reached = [keeper.add(vote(PREVOTE, who, A)) for who in range(4)]
    assert reached == [
        (),
        (),
        (Threshold(Crossing.POLKA_ANY, R0), Threshold(Crossing.POLKA_VALUE, R0, A)),
        (),
    ]


def test_nil_and_mixed_votes_cross_their_own_thresholds() -> None:
    keeper = VoteKeeper(FOUR)
    for who, what in enumerate((None, A, None)):
        last = keeper.add(vote(PREVOTE, who, what))
    assert last == (Threshold(Crossing.POLKA_ANY, R0),)
    assert keeper.add(vote(PREVOTE, 3, None)) == (Threshold(Crossing.POLKA_NIL, R0),)
    for who in range(3):
        last = keeper.add(vote(PRECOMMIT, who, None))
    assert last == (Threshold(Crossing.PRECOMMIT_ANY, R0),)
    assert keeper.commits == []


def test_precommits_for_a_value_are_noted_whatever_their_round() -> None:
    keeper = VoteKeeper(FOUR)
    for who in range(3):
        last = keeper.add(vote(PRECOMMIT, who, A, round=1))
    assert Threshold(Crossing.PRECOMMIT_VALUE, R1, A) in last
    assert keeper.commits == [(R1, A)]


def test_a_second_contradicting_vote_is_evidence_and_has_no_weight() -> None:
    keeper = VoteKeeper(FOUR)
    first, second, third = vote(PREVOTE, 0, A), vote(PREVOTE, 0, B), vote(PREVOTE, 0, None)
    keeper.add(first)
    keeper.add(second)
    assert keeper.watch.take() == [duplicate_vote(first, second)]
    assert keeper.add(third) == keeper.add(first) == keeper.add(second)
    assert not keeper.wants(third)
    assert keeper.holds(second)
    assert not keeper.holds(third)
    keeper.add(vote(PREVOTE, 1, B))
    assert keeper.add(vote(PREVOTE, 2, B)) == (Threshold(Crossing.POLKA_ANY, R0),)


def test_the_same_prevote_with_another_valid_round_contradicts() -> None:
    keeper = VoteKeeper(FOUR)
    keeper.add(vote(PREVOTE, 0, A, round=1))
    keeper.add(vote(PREVOTE, 0, A, round=1, valid_round=0))
    assert keeper.watch.take()


def test_a_third_in_a_later_round_is_a_reason_to_skip() -> None:
    keeper = VoteKeeper(FOUR)
    assert keeper.add(vote(PREVOTE, 0, A, round=1)) == ()
    assert keeper.add(vote(PRECOMMIT, 0, A, round=1)) == ()
    assert keeper.add(vote(PREVOTE, 1, None, round=1)) == (Threshold(Crossing.SKIP, R1),)
    assert keeper.skip_to() == R1
    keeper.advance(R1)
    assert keeper.skip_to() is None


def test_of_far_rounds_only_each_senders_highest_is_kept() -> None:
    keeper = VoteKeeper(FOUR)
    keeper.add(vote(PREVOTE, 0, A, round=5))
    assert keeper.wants(vote(PRECOMMIT, 0, A, round=5))
    keeper.add(vote(PRECOMMIT, 0, A, round=5))
    assert not keeper.wants(vote(PREVOTE, 0, A, round=4))
    assert not keeper.wants(vote(PREVOTE, 0, B, round=5))
    assert keeper.holds(vote(PREVOTE, 0, A, round=5))
    keeper.add(vote(PREVOTE, 0, A, round=9))
    assert not keeper.holds(vote(PREVOTE, 0, A, round=5))
    assert keeper.voters_of(R5) == 0
    assert keeper.votes(PREVOTE, Round(9)) == (vote(PREVOTE, 0, A, round=9),)


def test_far_votes_are_weighed_once_their_round_comes_within_reach() -> None:
    keeper = VoteKeeper(FOUR)
    for who in range(3):
        last = keeper.add(vote(PREVOTE, who, A, round=5))
    assert keeper.skip_to() == R5
    assert not keeper.has_polka(R5, A)
    assert last == ()
    assert Threshold(Crossing.POLKA_VALUE, R5, A) in keeper.advance(R5)
    assert keeper.polkas(R5) == (A,)
    assert keeper.votes(PREVOTE, R5) == tuple(
        sorted((vote(PREVOTE, who, A, round=5) for who in range(3)), key=lambda one: one.validator)
    )


def test_a_whole_certificate_counts_though_its_equivocator_said_something_else_here() -> None:
    keeper = VoteKeeper(FOUR)
    certificate = tuple(vote(PREVOTE, who, A) for who in range(3))
    keeper.add(vote(PREVOTE, 0, None))
    for one in certificate:
        keeper.add(one)
    assert not keeper.has_polka(R0, A)
    assert keeper.certify(PREVOTE, R0, A, certificate)
    assert keeper.has_polka(R0, A)
    assert keeper.has_any(PREVOTE, R0)
    assert keeper.quorum_votes(PREVOTE, R0, A) == certificate
    assert not keeper.certify(PREVOTE, R0, A, certificate)


def test_certificates_of_far_rounds_wait_unless_they_decide() -> None:
    keeper = VoteKeeper(FOUR)
    assert not keeper.certify(PREVOTE, R5, A, ())
    assert keeper.certify(PRECOMMIT, R5, A, ())
    assert keeper.commits == [(R5, A)]
    assert keeper.quorum_votes(PRECOMMIT, R5, A) == ()


def test_quorum_votes_are_those_for_the_value() -> None:
    keeper = VoteKeeper(FOUR)
    for who, what in enumerate((A, None, A, A)):
        keeper.add(vote(PREVOTE, who, what))
    assert keeper.quorum_votes(PREVOTE, R0, A) == tuple(vote(PREVOTE, who, A) for who in (0, 2, 3))
    assert keeper.quorum_votes(PREVOTE, R0, B) == ()
    assert keeper.quorum_votes(PREVOTE, R1, A) == ()


def test_an_empty_keeper_holds_nothing() -> None:
    keeper = VoteKeeper(FOUR)
    assert not keeper.holds(vote(PREVOTE, 0, A))
    assert not keeper.has_any(PREVOTE, R0)
    assert keeper.polkas(R0) == ()
    assert keeper.votes(PREVOTE, R0) == ()
