"""Situations of the paper, told to one driver by hand."""

from __future__ import annotations

import pytest
from tests.support.agreement import (
    FOUR,
    PRECOMMIT,
    PREVOTE,
    block,
    member,
    proposal,
    proposer_of,
    round_certificate,
    vote,
)

from fondaco.consensus.driver import Driver
from fondaco.consensus.rounds import (
    BuildValue,
    CastVote,
    Decide,
    Output,
    Propose,
    RoundValue,
    StartRound,
    StartTimeout,
    Step,
)
from fondaco.protocol.agreement import Block, VoteKind
from fondaco.protocol.scalars import Hash, Round

P0, P1 = proposer_of(0), proposer_of(1)
ME = next(who for who in range(4) if who not in (P0, P1, proposer_of(2)))
OTHERS = [who for who in range(4) if who != ME]
RED, BLUE = block(b"red", proposer=P0), block(b"blue", proposer=P1)
R, B = RED.header.hash(), BLUE.header.hash()


def _driver(who: int = ME) -> Driver:
    driver = Driver(FOUR, member(who))
    driver.start()
    return driver


def _votes(driver: Driver, kind: VoteKind, what: Hash | None, *who: int, round: int = 0) -> list[Output]:
    outputs: list[Output] = []
    for one in who:
        outputs += driver.add_vote(vote(kind, one, what, round=round))
    return outputs


def _propose(
    driver: Driver, content: Block, *, round: int = 0, valid_round: int | None = None, timely: bool = True
) -> list[Output]:
    signed = proposal(content, who=proposer_of(round), round=round, valid_round=valid_round)
    outputs = driver.add_proposal(signed, timely=timely)
    return outputs + driver.judge(content.header.hash(), valid=True)


def _prevote(what: Hash | None, round: int = 0, valid_round: int | None = None) -> CastVote:
    return CastVote(PREVOTE, Round(round), what, None if valid_round is None else Round(valid_round))


def _precommit(what: Hash | None, round: int = 0) -> CastVote:
    return CastVote(PRECOMMIT, Round(round), what)


def _to_round(driver: Driver, round: int) -> list[Output]:
    """All time out."""
    outputs = []
    while driver.state.round < round:
        outputs = driver.timeout(Step.PRECOMMIT, driver.state.round)
    return outputs


def _locked_on_red() -> Driver:
    """Prevoted and precommitted red in round 0, then went to round 1 without a decision."""
    driver = _driver()
    _propose(driver, RED)
    _votes(driver, PREVOTE, R, ME, *OTHERS[:2])
    _to_round(driver, 1)
    assert driver.state.locked == RoundValue(R, Round(0))
    return driver


def test_a_round_in_which_all_goes_well() -> None:
    driver = _driver()
    assert driver.state.step is Step.PROPOSE
    assert _propose(driver, RED) == [_prevote(R)]
    assert _votes(driver, PREVOTE, R, ME, *OTHERS[:2]) == [_precommit(R)]
    assert _votes(driver, PRECOMMIT, R, ME, *OTHERS[:2]) == [Decide(Round(0), R)]
    assert driver.timeout(Step.PRECOMMIT, Round(0)) == []


def test_the_proposer_builds_proposes_and_prevotes_its_own() -> None:
    driver = Driver(FOUR, member(P0))
    assert driver.start() == [StartRound(Round(0)), BuildValue(Round(0))][1:]
    assert driver.build(Round(0), RED) == [Propose(Round(0), R, None)]
    assert driver.add_proposal(proposal(RED, who=P0), timely=True) == [_prevote(R)]


def test_a_value_built_too_late_is_not_proposed() -> None:
    driver = Driver(FOUR, member(P0))
    driver.start()
    _to_round(driver, 1)
    assert driver.build(Round(0), RED) == []


def test_it_starts_once() -> None:
    driver = _driver()
    assert driver.started
    with pytest.raises(AssertionError):
        driver.start()


def test_an_untimely_fresh_value_gets_a_nil_prevote() -> None:
    assert _propose(_driver(), RED, timely=False) == [_prevote(None)]


def test_an_invalid_value_gets_a_nil_prevote() -> None:
    driver = _driver()
    driver.add_proposal(proposal(RED, who=P0), timely=True)
    assert driver.judge(R, valid=False) == [_prevote(None)]


def test_l22_a_locked_validator_prevotes_nil_for_another_fresh_value() -> None:
    assert _propose(_locked_on_red(), BLUE, round=1) == [_prevote(None, 1)]


def test_l28_a_later_polka_unlocks_and_needs_no_timeliness() -> None:
    driver = _locked_on_red()
    _to_round(driver, 2)
    assert _propose(driver, BLUE, round=2, valid_round=1, timely=False) == []
    assert _votes(driver, PREVOTE, B, *OTHERS, round=1) == [_prevote(B, 2, 1)]


def test_l28_a_polka_before_the_lock_does_not_unlock() -> None:
    driver = _driver()
    _to_round(driver, 1)
    _propose(driver, RED, round=1)
    _votes(driver, PREVOTE, R, ME, *OTHERS[:2], round=1)
    _to_round(driver, 2)
    # An impossible polka, two thirds having prevoted red later; the lock must hold all the same.
    _votes(driver, PREVOTE, B, *OTHERS, round=0)
    assert _propose(driver, BLUE, round=2, valid_round=0) == [_prevote(None, 2)]


def test_l28_an_invalid_value_with_a_polka_gets_nil() -> None:
    driver = _driver()
    _to_round(driver, 1)
    _votes(driver, PREVOTE, B, *OTHERS)
    driver.add_proposal(proposal(BLUE, who=P1, round=1, valid_round=0), timely=True)
    assert driver.judge(B, valid=False) == [_prevote(None, 1)]


def test_l34_prevotes_that_differ_start_the_timeout_once() -> None:
    driver = _driver()
    driver.timeout(Step.PROPOSE, Round(0))
    _votes(driver, PREVOTE, None, ME, OTHERS[0])
    assert _votes(driver, PREVOTE, R, OTHERS[1]) == [StartTimeout(Step.PREVOTE, Round(0))]
    assert _votes(driver, PREVOTE, B, OTHERS[2]) == []
    assert driver.timeout(Step.PREVOTE, Round(0)) == [_precommit(None)]


def test_l36_a_late_polka_makes_valid_but_does_not_lock() -> None:
    driver = _driver()
    _propose(driver, RED)
    driver.timeout(Step.PREVOTE, Round(0))
    assert _votes(driver, PREVOTE, R, *OTHERS) == []
    assert (driver.state.locked, driver.state.valid) == (None, RoundValue(R, Round(0)))
    assert len(driver.polka_certificate(Round(0), R).votes) == 3


def test_l36_a_polka_counts_though_the_proposal_comes_after_it() -> None:
    driver = _driver()
    driver.timeout(Step.PROPOSE, Round(0))
    _votes(driver, PREVOTE, R, *OTHERS)
    assert driver.state.step is Step.PREVOTE
    assert _propose(driver, RED) == [_precommit(R)]


def test_l15_the_valid_value_is_proposed_again() -> None:
    driver = Driver(FOUR, member(P1))
    driver.start()
    _propose(driver, RED)
    _votes(driver, PREVOTE, R, *range(3))
    assert _to_round(driver, 1) == [StartRound(Round(1)), Propose(Round(1), R, Round(0))]


def test_l44_a_nil_polka_precommits_nil_and_keeps_the_lock() -> None:
    driver = _locked_on_red()
    driver.timeout(Step.PROPOSE, Round(1))
    assert _votes(driver, PREVOTE, None, *OTHERS, round=1) == [_precommit(None, 1)]
    assert driver.state.locked == RoundValue(R, Round(0))


def test_l47_precommits_that_differ_lead_to_the_next_round_with_their_certificate() -> None:
    driver = _driver()
    outputs = _votes(driver, PRECOMMIT, None, *OTHERS)
    assert outputs == [StartTimeout(Step.PRECOMMIT, Round(0))]
    assert driver.timeout(Step.PRECOMMIT, Round(0))[0] == StartRound(Round(1))
    assert driver.justification == round_certificate(*driver.keeper.votes(PRECOMMIT, Round(0)))


def test_l49_precommits_of_a_past_round_decide() -> None:
    driver = _driver()
    _propose(driver, RED)
    _to_round(driver, 3)
    assert _votes(driver, PRECOMMIT, R, *OTHERS) == [Decide(Round(0), R)]


def test_l49_waits_for_the_block_and_for_the_verdict() -> None:
    driver = _driver()
    assert driver.add_commit(Round(4), R) == []
    assert driver.wants_proposal(proposal(RED, who=P0))
    assert driver.add_proposal(proposal(RED, who=P0), timely=False) == []
    assert driver.judge(R, valid=True) == [Decide(Round(4), R)]


def test_l55_a_third_in_a_later_round_takes_us_there_with_their_certificate() -> None:
    driver = _driver()
    _votes(driver, PREVOTE, None, OTHERS[0], round=7)
    outputs = _votes(driver, PRECOMMIT, None, OTHERS[1], round=7)
    assert outputs[0] == StartRound(Round(7))
    assert driver.state.round == 7
    assert driver.justification is not None
    assert {one.validator for one in driver.justification.votes} == {member(OTHERS[0]), member(OTHERS[1])}


def test_the_timeout_of_another_round_is_nothing_to_us() -> None:
    driver = _driver()
    _to_round(driver, 1)
    assert driver.timeout(Step.PROPOSE, Round(0)) == []


def test_a_certificate_is_taken_whole() -> None:
    driver = _driver()
    _propose(driver, RED)
    _votes(driver, PREVOTE, None, OTHERS[0])
    outputs = driver.add_certificate(round_certificate(*(vote(PREVOTE, who, R) for who in OTHERS)))
    assert driver.keeper.watch.take()
    assert outputs == [_precommit(R)]


def test_a_mixed_certificate_certifies_no_value() -> None:
    driver = _driver()
    votes = [vote(PREVOTE, OTHERS[0], R, round=1), vote(PRECOMMIT, OTHERS[1], None, round=1)]
    outputs = driver.add_certificate(round_certificate(*votes))
    assert outputs[0] == StartRound(Round(1))
    assert driver.keeper.polkas(Round(1)) == ()


def test_two_proposals_a_round_are_kept_and_only_the_first_is_prevoted() -> None:
    driver = _driver()
    others = [block(name, proposer=P0) for name in (b"2", b"3")]
    assert _propose(driver, RED) == [_prevote(R)]
    assert not driver.wants_proposal(proposal(RED, who=P0))
    second, third = (proposal(one, who=P0) for one in others)
    assert driver.wants_proposal(second)
    assert driver.add_proposal(second, timely=True) == []
    assert not driver.wants_proposal(third)
    _votes(driver, PREVOTE, third.proposal.value, *OTHERS)
    assert driver.wants_proposal(third), "two thirds want it"
    assert driver.proposal_of(Round(0), R) == proposal(RED, who=P0)
    assert driver.proposal_of(Round(0), B) is None


def test_proposals_far_ahead_are_not_kept() -> None:
    assert not _driver().wants_proposal(proposal(RED, who=proposer_of(2), round=2))


def test_blocks_of_old_rounds_go_unless_a_quorum_wanted_them() -> None:
    driver = _driver()
    _propose(driver, RED)
    _to_round(driver, 1)
    _propose(driver, BLUE, round=1)
    _votes(driver, PREVOTE, B, *OTHERS, round=1)
    _to_round(driver, 9)
    assert list(driver.blocks) == [B]


def test_a_block_proposed_again_stays() -> None:
    driver = _driver()
    _propose(driver, RED)
    _to_round(driver, 4)
    driver.add_proposal(proposal(RED, who=proposer_of(4), round=4), timely=True)
    _to_round(driver, 6)
    assert R in driver.blocks


def test_nothing_but_a_decision_happens_before_the_start() -> None:
    driver = Driver(FOUR, None)
    assert driver.add_commit(Round(0), R) == []
    assert driver.add_vote(vote(PREVOTE, 0, R, round=1)) == []
    assert _votes(driver, PREVOTE, R, 1, round=1) == []
    assert not driver.started


def test_the_block_of_a_certified_value_is_wanted_whatever_its_round() -> None:
    driver = _driver()
    far = proposal(RED, who=P0, round=9)
    assert not driver.wants_proposal(far)
    driver.add_commit(Round(9), R)
    assert driver.wants_proposal(far)
