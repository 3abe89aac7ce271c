"""The table, arm by arm; the paper's line numbers are those of arXiv 1807.04938, algorithm 1."""

from __future__ import annotations

import pytest
from tests.support.agreement import value

from fondaco.consensus.rounds import (
    BuildValue,
    CastVote,
    Decide,
    Input,
    Kind,
    Output,
    Propose,
    RoundValue,
    StartRound,
    StartTimeout,
    State,
    Step,
    apply,
)
from fondaco.protocol.agreement import VoteKind
from fondaco.protocol.scalars import Round

A, B = value("A"), value("B")
R2 = Round(2)
LOCK_A1 = RoundValue(A, Round(1))


def _state(step: Step, **changes: object) -> State:
    return State(round=R2, step=step, **changes)  # type: ignore[arg-type]


def _input(kind: Kind, **changes: object) -> Input:
    return Input(kind=kind, **{"round": R2, **changes})  # type: ignore[arg-type]


def _prevote(what: object, valid_round: int | None = None) -> CastVote:
    return CastVote(VoteKind.PREVOTE, R2, what, valid_round)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "event", "step", "output"),
    [
        # L11-21
        (_state(Step.UNSTARTED), _input(Kind.NEW_ROUND), Step.PROPOSE, StartTimeout(Step.PROPOSE, R2)),
        (_state(Step.UNSTARTED), _input(Kind.NEW_ROUND, proposer=True), Step.PROPOSE, BuildValue(R2)),
        (
            _state(Step.UNSTARTED, valid=LOCK_A1),
            _input(Kind.NEW_ROUND, proposer=True),
            Step.PROPOSE,
            Propose(R2, A, Round(1)),
        ),
        (_state(Step.UNSTARTED), _input(Kind.NEW_ROUND, round=Round(1)), Step.UNSTARTED, None),
        (_state(Step.PROPOSE), _input(Kind.PROPOSE_VALUE, value=A), Step.PROPOSE, Propose(R2, A, None)),
        # L22-27
        (_state(Step.PROPOSE), _input(Kind.PROPOSAL, value=A), Step.PREVOTE, _prevote(A)),
        (_state(Step.PROPOSE, locked=LOCK_A1), _input(Kind.PROPOSAL, value=A), Step.PREVOTE, _prevote(A, 1)),
        (_state(Step.PROPOSE, locked=LOCK_A1), _input(Kind.PROPOSAL, value=B), Step.PREVOTE, _prevote(None)),
        (_state(Step.PROPOSE), _input(Kind.INVALID_PROPOSAL, value=A), Step.PREVOTE, _prevote(None)),
        # L28-33
        (
            _state(Step.PROPOSE, locked=LOCK_A1),
            _input(Kind.PROPOSAL_AND_POLKA_PREVIOUS, value=B, valid_round=Round(1)),
            Step.PREVOTE,
            _prevote(B, 1),
        ),
        (
            _state(Step.PROPOSE, locked=LOCK_A1),
            _input(Kind.PROPOSAL_AND_POLKA_PREVIOUS, value=B, valid_round=Round(0)),
            Step.PREVOTE,
            _prevote(None),
        ),
        (
            _state(Step.PROPOSE, locked=LOCK_A1),
            _input(Kind.PROPOSAL_AND_POLKA_PREVIOUS, value=A, valid_round=Round(0)),
            Step.PREVOTE,
            _prevote(A, 1),
        ),
        (
            _state(Step.PROPOSE),
            _input(Kind.PROPOSAL_AND_POLKA_PREVIOUS, value=A, valid_round=R2),
            Step.PROPOSE,
            None,
        ),
        (
            _state(Step.PROPOSE),
            _input(Kind.INVALID_PROPOSAL_AND_POLKA_PREVIOUS, value=A, valid_round=Round(0)),
            Step.PREVOTE,
            _prevote(None),
        ),
        # L34-35, L44-46
        (_state(Step.PREVOTE), _input(Kind.POLKA_ANY), Step.PREVOTE, StartTimeout(Step.PREVOTE, R2)),
        (
            _state(Step.PREVOTE),
            _input(Kind.POLKA_NIL),
            Step.PRECOMMIT,
            CastVote(VoteKind.PRECOMMIT, R2, None),
        ),
        # L36-43
        (
            _state(Step.PREVOTE),
            _input(Kind.PROPOSAL_AND_POLKA_CURRENT, value=A),
            Step.PRECOMMIT,
            CastVote(VoteKind.PRECOMMIT, R2, A),
        ),
        (_state(Step.PRECOMMIT), _input(Kind.PROPOSAL_AND_POLKA_CURRENT, value=A), Step.PRECOMMIT, None),
        (_state(Step.PROPOSE), _input(Kind.PROPOSAL_AND_POLKA_CURRENT, value=A), Step.PROPOSE, None),
        # L47-48
        (_state(Step.PROPOSE), _input(Kind.PRECOMMIT_ANY), Step.PROPOSE, StartTimeout(Step.PRECOMMIT, R2)),
        (_state(Step.UNSTARTED), _input(Kind.PRECOMMIT_ANY), Step.UNSTARTED, None),
        # L49-54: any round, any step
        (
            _state(Step.PROPOSE),
            _input(Kind.PROPOSAL_AND_PRECOMMIT_VALUE, round=Round(0), value=A),
            Step.DECIDED,
            Decide(Round(0), A),
        ),
        (
            _state(Step.UNSTARTED),
            _input(Kind.PROPOSAL_AND_PRECOMMIT_VALUE, round=Round(9), value=A),
            Step.DECIDED,
            Decide(Round(9), A),
        ),
        # L55-56
        (_state(Step.PREVOTE), _input(Kind.SKIP_ROUND, round=Round(5)), Step.UNSTARTED, StartRound(Round(5))),
        (_state(Step.PREVOTE), _input(Kind.SKIP_ROUND), Step.PREVOTE, None),
        # L57-67
        (_state(Step.PROPOSE), _input(Kind.TIMEOUT_PROPOSE), Step.PREVOTE, _prevote(None)),
        (
            _state(Step.PREVOTE),
            _input(Kind.TIMEOUT_PREVOTE),
            Step.PRECOMMIT,
            CastVote(VoteKind.PRECOMMIT, R2, None),
        ),
        (_state(Step.PROPOSE), _input(Kind.TIMEOUT_PRECOMMIT), Step.UNSTARTED, StartRound(Round(3))),
        (_state(Step.PRECOMMIT), _input(Kind.TIMEOUT_PRECOMMIT), Step.UNSTARTED, StartRound(Round(3))),
        # What does not fit says nothing.
        (_state(Step.PREVOTE), _input(Kind.TIMEOUT_PROPOSE), Step.PREVOTE, None),
        (_state(Step.PROPOSE), _input(Kind.TIMEOUT_PREVOTE), Step.PROPOSE, None),
        (_state(Step.PROPOSE), _input(Kind.TIMEOUT_PROPOSE, round=Round(1)), Step.PROPOSE, None),
        (_state(Step.PRECOMMIT), _input(Kind.POLKA_NIL), Step.PRECOMMIT, None),
        (_state(Step.PROPOSE), _input(Kind.NO_INPUT), Step.PROPOSE, None),
        (_state(Step.DECIDED), _input(Kind.TIMEOUT_PRECOMMIT), Step.DECIDED, None),
    ],
)
def test_each_arm_of_the_table(state: State, event: Input, step: Step, output: Output | None) -> None:
    after, said = apply(state, event)
    assert (after.step, said) == (step, output)


def test_a_nil_polka_keeps_the_lock() -> None:
    after, _ = apply(_state(Step.PREVOTE, locked=LOCK_A1), _input(Kind.POLKA_NIL))
    assert after.locked == LOCK_A1


def test_a_polka_in_time_locks_and_one_too_late_only_makes_valid() -> None:
    polka = _input(Kind.PROPOSAL_AND_POLKA_CURRENT, value=B)
    in_time, _ = apply(_state(Step.PREVOTE, locked=LOCK_A1, valid=LOCK_A1), polka)
    too_late, _ = apply(_state(Step.PRECOMMIT, locked=LOCK_A1, valid=LOCK_A1), polka)
    assert (in_time.locked, in_time.valid) == (RoundValue(B, R2), RoundValue(B, R2))
    assert (too_late.locked, too_late.valid) == (LOCK_A1, RoundValue(B, R2))
