"""Broken words are found whatever the order they are heard in, once each, and never where none was broken."""

from __future__ import annotations

import itertools
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
    proposal,
    proposer_of,
    round_certificate,
    value,
    vote,
)

from fondaco.consensus.certificates import SignatureCache
from fondaco.consensus.votes import VoteKeeper
from fondaco.consensus.watch import Watch, commit_votes, culprit
from fondaco.node.simulation import identities
from fondaco.protocol.agreement import SignedVote
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.evidence import Amnesia, duplicate_vote
from fondaco.protocol.scalars import Round, Signature

A, B = value("A"), value("B")
HOLDS = SignatureCache(CHAIN, identities.verify).holds
LOCK = vote(PRECOMMIT, 1, A, round=1)
FORGOTTEN = vote(PREVOTE, 1, B, round=3, valid_round=0)


def found(*votes: SignedVote) -> list[object]:
    watch = Watch(FOUR)
    for one in votes:
        watch.note(one)
    return list(watch.take())


@pytest.mark.parametrize("order", list(itertools.permutations((LOCK, FORGOTTEN, vote(PREVOTE, 1, A, round=1)))))
def test_a_forgotten_lock_is_found_in_any_order(order: tuple[SignedVote, ...]) -> None:
    assert found(*order) == [Amnesia(precommit=LOCK, prevote=FORGOTTEN)]


def test_each_broken_word_is_found_once() -> None:
    again = vote(PREVOTE, 1, B, round=4)
    other = vote(PREVOTE, 1, A, round=3)
    assert found(LOCK, FORGOTTEN, FORGOTTEN, again, other, vote(PREVOTE, 1, None, round=3)) == [
        Amnesia(precommit=LOCK, prevote=FORGOTTEN),
        duplicate_vote(FORGOTTEN, other),
    ]


def test_what_honest_validators_say_is_nothing() -> None:
    assert not found(
        LOCK,
        vote(PREVOTE, 1, None, round=2),
        vote(PREVOTE, 1, A, round=3, valid_round=1),
        vote(PREVOTE, 1, B, round=5, valid_round=4),
        vote(PREVOTE, 2, B, round=3),
    )


def test_what_was_found_before_a_crash_is_new_again_after_it() -> None:
    watch = Watch(FOUR)
    watch.note(LOCK)
    watch.note(FORGOTTEN)
    first = watch.take()
    assert first
    assert watch.take() == []
    watch.untake()
    assert watch.take() == first


def test_votes_of_far_rounds_are_held_against_others_once_their_round_comes_near() -> None:
    keeper = VoteKeeper(FOUR)
    keeper.add(LOCK)
    keeper.add(vote(PREVOTE, 1, B, round=9))
    assert keeper.watch.take() == []
    keeper.advance(Round(8))
    assert [culprit(evidence) for evidence in keeper.watch.take()] == [member(1)]


def test_a_certificate_shows_what_its_signers_told_others() -> None:
    watch = Watch(FOUR)
    nil = vote(PRECOMMIT, 1, None)
    watch.note(nil)
    watch.note_certificate(commit_certificate(A, 0, 1, 2))
    watch.note_certificate(commit_certificate(A, 0, 1, 3))
    assert watch.take() == [duplicate_vote(nil, vote(PRECOMMIT, 1, A))]


def test_a_certificate_that_does_not_fit_the_set_holds_no_votes() -> None:
    short = replace(commit_certificate(A, 0, 1, 2), signatures=())
    assert list(commit_votes(short, FOUR)) == []


@pytest.mark.parametrize(
    "late",
    [
        vote(PRECOMMIT, 1, A),
        round_certificate(vote(PRECOMMIT, 0, A), vote(PRECOMMIT, 1, A)),
        commit_certificate(A, 0, 1, 2),
    ],
)
def test_late_messages_of_any_kind_can_show_it(late: object) -> None:
    watch = Watch(FOUR)
    watch.note(vote(PRECOMMIT, 1, None))
    watch.note_late(late, HOLDS)  # type: ignore[arg-type]
    assert [culprit(evidence) for evidence in watch.take()] == [member(1)]


def test_a_late_vote_that_would_convict_must_be_signed() -> None:
    watch = Watch(FOUR)
    watch.note(vote(PRECOMMIT, 1, None))
    bad = Signature(bytes(64))
    with pytest.raises(PeerFault):
        watch.note_late(replace(vote(PRECOMMIT, 1, A), signature=bad), HOLDS)
    watch.note_late(replace(vote(PRECOMMIT, 2, A), signature=bad), HOLDS)
    assert watch.take() == []


def test_late_votes_of_other_heights_and_late_proposals_show_nothing() -> None:
    watch = Watch(FOUR)
    watch.note(LOCK)
    watch.note_late(vote(PREVOTE, 1, B, round=3, height=2), HOLDS)
    watch.note_late(proposal(block(), who=proposer_of(0)), HOLDS)
    assert watch.take() == []
