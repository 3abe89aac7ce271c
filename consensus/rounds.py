"""One height's round machine: Tendermint's rules (arXiv 1807.04938, algorithm 1) as a pure table.

A round has a proposer and three steps. In *propose* everyone waits for the proposal, or for a timeout; then
it casts a prevote: for the value if it may accept it, else for nil. In *prevote* it waits for more than two
thirds of the prevotes. If they agree on a value (a *polka*) it locks that value and precommits it; if they
agree on nil it precommits nil, **keeping its lock**; if they only differ, a timeout ends the wait. In
*precommit* more than two thirds for a value decide it; more than two thirds that differ start a timeout after
which the next round begins.

Two pairs outlive a round. `locked` is what this validator precommitted last: it prevotes nothing else unless a
later polka shows that the lock is out of date (L28). `valid` is the last value it saw a polka for, whether or
not it could precommit it: proposing that one is what helps everybody out of a lock (L14, L36-43).

The machine sees no votes, only the facts that the driver derives from them, each as one of sixteen inputs:

    input                           means                                                   arm
    NO_INPUT                        nothing; the identity                                   -
    NEW_ROUND                       enter `round`, as its proposer or not                   L11-21
    PROPOSE_VALUE                   the host built `value` for us to propose                L18-19
    PROPOSAL                        a fresh, valid, timely proposal for this round          L22-27
    INVALID_PROPOSAL                a fresh one that is not valid, or not timely            L22, L26
    PROPOSAL_AND_POLKA_PREVIOUS     a valid one, with the polka at its valid round          L28-33
    INVALID_PROPOSAL_AND_POLKA_PREVIOUS   the same, not valid                               L28, L32
    POLKA_ANY                       > 2/3 prevotes of this round                            L34-35
    POLKA_NIL                       > 2/3 prevotes for nil                                  L44-46
    PROPOSAL_AND_POLKA_CURRENT      a polka for a valid value we hold                       L36-43
    PRECOMMIT_ANY                   > 2/3 precommits of this round                          L47-48
    PROPOSAL_AND_PRECOMMIT_VALUE    > 2/3 precommits, of ANY round, for a valid value       L49-54
    SKIP_ROUND                      > 1/3 of the power is in the higher `round`             L55-56
    TIMEOUT_PROPOSE                                                                         L57-60
    TIMEOUT_PREVOTE                                                                         L61-64
    TIMEOUT_PRECOMMIT                                                                       L65-67

and it answers with at most one of six outputs: `StartRound`, `Propose`, `CastVote`, `StartTimeout`,
`BuildValue` (with the propose timeout), `Decide`. An input that does not fit the step changes nothing. "For
the first time", which the paper says at L34, L36 and L47, is the driver's business.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from fondaco.protocol.agreement import VoteKind
from fondaco.protocol.scalars import Hash, Round

FIRST_ROUND = Round(0)


class Step(enum.IntEnum):
    """Where in a round; ordered, for the paper's `step >= prevote`."""

    UNSTARTED = 0
    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3
    DECIDED = 4


@dataclass(frozen=True, slots=True)
class RoundValue:
    """A value and the round of its polka."""

    value: Hash
    round: Round


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What one validator must remember of one height."""

    round: Round = FIRST_ROUND
    step: Step = Step.UNSTARTED
    locked: RoundValue | None = None
    """`lockedValue`, `lockedRound`."""
    valid: RoundValue | None = None
    """`validValue`, `validRound`."""


class Kind(enum.Enum):
    """The sixteen inputs."""

    NO_INPUT = enum.auto()
    NEW_ROUND = enum.auto()
    PROPOSE_VALUE = enum.auto()
    PROPOSAL = enum.auto()
    INVALID_PROPOSAL = enum.auto()
    PROPOSAL_AND_POLKA_PREVIOUS = enum.auto()
    INVALID_PROPOSAL_AND_POLKA_PREVIOUS = enum.auto()
    POLKA_ANY = enum.auto()
    POLKA_NIL = enum.auto()
    PROPOSAL_AND_POLKA_CURRENT = enum.auto()
    PRECOMMIT_ANY = enum.auto()
    PROPOSAL_AND_PRECOMMIT_VALUE = enum.auto()
    SKIP_ROUND = enum.auto()
    TIMEOUT_PROPOSE = enum.auto()
    TIMEOUT_PREVOTE = enum.auto()
    TIMEOUT_PRECOMMIT = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One fact about `round`. Fields a kind has no use for stay at their defaults."""

    kind: Kind
    round: Round
    value: Hash | None = None
    valid_round: Round | None = None
    """Of a proposal that was made before."""
    proposer: bool = False
    """With NEW_ROUND: the round is ours to propose in."""


@dataclass(frozen=True, slots=True)
class StartRound:
    """Enter `round`: the driver answers with NEW_ROUND."""

    round: Round


@dataclass(frozen=True, slots=True)
class Propose:
    round: Round
    value: Hash
    valid_round: Round | None


@dataclass(frozen=True, slots=True)
class CastVote:
    kind: VoteKind
    round: Round
    value: Hash | None
    valid_round: Round | None = None
    """The polka round that a prevote rests on."""


@dataclass(frozen=True, slots=True)
class StartTimeout:
    step: Step
    round: Round


@dataclass(frozen=True, slots=True)
class BuildValue:
    """Ask the host for a value to propose, and start the propose timeout."""

    round: Round


@dataclass(frozen=True, slots=True)
class Decide:
    """`value` is final, by the precommits of `round`."""

    round: Round
    value: Hash


Output = StartRound | Propose | CastVote | StartTimeout | BuildValue | Decide
Transition = tuple[State, Output | None]


def apply(state: State, event: Input) -> Transition:
    """The table. Pure; an input that does not fit leaves the state as it is and says nothing."""
    if state.step is Step.DECIDED:
        return state, None
    match event.kind:
        case Kind.NEW_ROUND if state.step is Step.UNSTARTED and event.round >= state.round:
            return _start_round(state, event)
        # L49-54: for any round, in any step.
        case Kind.PROPOSAL_AND_PRECOMMIT_VALUE:
            assert event.value is not None, "a decision needs a value"
            return replace(state, step=Step.DECIDED), Decide(event.round, event.value)
        # L55-56
        case Kind.SKIP_ROUND if event.round > state.round:
            return _leave_for(state, event.round)
    if event.round != state.round:
        return state, None
    match event.kind:
        # L47-48: in any step of the round; the wait that ends it.
        case Kind.PRECOMMIT_ANY if state.step is not Step.UNSTARTED:
            return state, StartTimeout(Step.PRECOMMIT, state.round)
        # L65-67: in any step, too.
        case Kind.TIMEOUT_PRECOMMIT if state.step is not Step.UNSTARTED:
            return _leave_for(state, Round(state.round + 1))
    match state.step:
        case Step.PROPOSE:
            return _in_propose(state, event)
        case Step.PREVOTE:
            return _in_prevote(state, event)
        case Step.PRECOMMIT if event.kind is Kind.PROPOSAL_AND_POLKA_CURRENT:
            # L36, L42-43: seen too late to lock, still worth proposing next time.
            return replace(state, valid=_seen(state, event)), None
    return state, None


def _start_round(state: State, event: Input) -> Transition:
    """L11-21."""
    begun = replace(state, round=event.round, step=Step.PROPOSE)
    if not event.proposer:
        return begun, StartTimeout(Step.PROPOSE, event.round)  # L20-21
    if state.valid is not None:
        return begun, Propose(event.round, state.valid.value, state.valid.round)  # L15-16, L19
    return begun, BuildValue(event.round)  # L17-18


def _leave_for(state: State, round: Round) -> Transition:
    """Between rounds: nothing but NEW_ROUND (or a decision) fits until the driver has answered."""
    return replace(state, step=Step.UNSTARTED), StartRound(round)


def _in_propose(state: State, event: Input) -> Transition:
    locked = state.locked
    match event.kind:
        case Kind.PROPOSE_VALUE:  # L19
            assert event.value is not None, "the host built nothing"
            return state, Propose(state.round, event.value, None)
        case Kind.PROPOSAL:  # L22-27
            free = locked is None or locked.value == event.value
            return _prevote(state, event.value if free else None)
        case Kind.PROPOSAL_AND_POLKA_PREVIOUS:  # L28-33
            assert event.valid_round is not None, "no valid round"
            if event.valid_round >= state.round:
                return state, None
            free = locked is None or locked.round <= event.valid_round or locked.value == event.value
            return _prevote(state, event.value if free else None, event.valid_round)
        case Kind.INVALID_PROPOSAL | Kind.INVALID_PROPOSAL_AND_POLKA_PREVIOUS | Kind.TIMEOUT_PROPOSE:
            return _prevote(state, None)  # L26, L32, L57-60
    return state, None


def _in_prevote(state: State, event: Input) -> Transition:
    match event.kind:
        case Kind.POLKA_ANY:  # L34-35
            return state, StartTimeout(Step.PREVOTE, state.round)
        case Kind.POLKA_NIL | Kind.TIMEOUT_PREVOTE:  # L44-46, L61-64; the lock stays
            return _precommit(state, None)
        case Kind.PROPOSAL_AND_POLKA_CURRENT:  # L36-43
            seen = _seen(state, event)
            return _precommit(replace(state, locked=seen, valid=seen), seen.value)
    return state, None


def _prevote(state: State, value: Hash | None, valid_round: Round | None = None) -> Transition:
    """A prevote, saying the latest polka known for its value: the proposal's, or the one that locked us on it.

    Whoever precommitted another value in between and names no polka since has forgotten its lock; an honest
    validator that was locked anew can say so, and cannot be taken for one (`consensus.evidence`).
    """
    if value is None:
        valid_round = None
    elif state.locked is not None and state.locked.value == value:
        valid_round = state.locked.round if valid_round is None else max(state.locked.round, valid_round)
    return replace(state, step=Step.PREVOTE), CastVote(VoteKind.PREVOTE, state.round, value, valid_round)


def _precommit(state: State, value: Hash | None) -> Transition:
    return replace(state, step=Step.PRECOMMIT), CastVote(VoteKind.PRECOMMIT, state.round, value)


def _seen(state: State, event: Input) -> RoundValue:
    assert event.value is not None, "a polka needs a value"
    return RoundValue(event.value, state.round)
