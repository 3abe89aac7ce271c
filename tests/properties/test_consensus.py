"""Properties of the agreement core over whatever Hypothesis comes up with."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import example, given
from tests.support.agreement import FOUR, PREVOTE, value, vote

from fondaco.consensus import merkle_list
from fondaco.consensus.rounds import CastVote, Input, Kind, StartRound, State, Step, apply
from fondaco.consensus.validators import ValidatorSet
from fondaco.consensus.votes import VoteKeeper
from fondaco.consensus.watch import Watch
from fondaco.node.simulation import identities
from fondaco.protocol.agreement import VoteKind
from fondaco.protocol.scalars import Hash, Power, Round

A, B = value("A"), value("B")
powers = st.lists(st.integers(1, 1_000), min_size=1, max_size=12)
rounds = st.integers(0, 4).map(Round)
values = st.sampled_from([A, B])
inputs = st.builds(
    Input,
    kind=st.sampled_from(Kind),
    round=rounds,
    value=values,
    valid_round=rounds,
    proposer=st.booleans(),
)
FACTS = [
    Kind.PROPOSAL,
    Kind.PROPOSAL_AND_POLKA_PREVIOUS,
    Kind.TIMEOUT_PROPOSE,
    Kind.PROPOSAL_AND_POLKA_CURRENT,
    Kind.TIMEOUT_PREVOTE,
    Kind.TIMEOUT_PRECOMMIT,
]
"""About the present round, in any order: what makes the machine vote, and go on to the next."""
votes = st.builds(
    vote,
    st.sampled_from(VoteKind),
    st.integers(0, 3),
    st.sampled_from([A, B, None]),
    round=st.integers(0, 4),
)


def _set(of: list[int]) -> ValidatorSet:
    return ValidatorSet.of((identities.key_of(index), Power(power)) for index, power in enumerate(of))


@given(powers=powers, turns=st.integers(0, 60))
def test_priorities_stay_near_zero_and_balanced(powers: list[int], turns: int) -> None:
    later = _set(powers).advance(turns)
    priorities = [member.priority for member in later.members]
    assert max(priorities) - min(priorities) <= 2 * later.total
    assert abs(sum(priorities)) < len(priorities)


@given(powers=powers, weight=st.integers(0, 12_000))
def test_two_quorums_share_more_than_a_third(powers: list[int], weight: int) -> None:
    chosen = _set(powers)
    if chosen.has_quorum(weight):
        assert chosen.has_third(2 * weight - chosen.total)


@given(events=st.lists(inputs, max_size=60))
def test_the_machine_never_goes_back_and_never_loses_a_lock(events: list[Input]) -> None:
    state = State()
    for event in events:
        after, _ = apply(state, event)
        assert after.round >= state.round
        if after.round == state.round and after.step is not Step.UNSTARTED:
            assert after.step >= state.step
        if state.locked is not None:
            assert after.locked is not None
            assert after.locked.round >= state.locked.round
        if after.locked is not None:
            assert after.valid is not None
            assert after.valid.round >= after.locked.round
        state = after


RELOCKED = [
    (Kind.PROPOSAL, A, Round(0)),
    (Kind.PROPOSAL_AND_POLKA_CURRENT, A, Round(0)),
    (Kind.TIMEOUT_PRECOMMIT, A, Round(0)),
    (Kind.TIMEOUT_PROPOSE, A, Round(0)),
    (Kind.PROPOSAL_AND_POLKA_CURRENT, B, Round(0)),
    (Kind.TIMEOUT_PRECOMMIT, B, Round(0)),
    (Kind.PROPOSAL, B, Round(0)),
]
"""Locked on A, then anew on B, which is then proposed as if it were fresh."""


@example(steps=RELOCKED)
@given(steps=st.lists(st.tuples(st.sampled_from(FACTS), values, rounds), max_size=60))
def test_whatever_happens_nothing_the_machine_says_is_evidence_against_it(
    steps: list[tuple[Kind, Hash, Round]],
) -> None:
    state, _ = apply(State(), Input(kind=Kind.NEW_ROUND, round=Round(0)))
    said = Watch(FOUR)
    for kind, what, valid_round in steps:
        state, output = apply(state, Input(kind=kind, round=state.round, value=what, valid_round=valid_round))
        if isinstance(output, StartRound):
            state, _ = apply(state, Input(kind=Kind.NEW_ROUND, round=output.round))
        if isinstance(output, CastVote):
            places = {"round": output.round, "valid_round": output.valid_round}
            said.note(vote(output.kind, 0, output.value, **places))  # type: ignore[arg-type]
    assert said.take() == []


@given(cast=st.lists(votes, max_size=80), current=rounds)
def test_a_keepers_memory_is_bounded_and_the_order_of_votes_decides_no_quorum_twice(
    cast: list[object], current: Round
) -> None:
    keeper = VoteKeeper(FOUR)
    keeper.advance(current)
    reported = [
        threshold
        for one in cast
        for threshold in keeper.add(one)  # type: ignore[arg-type]
    ]
    assert len(reported) == len(set(reported))
    assert len(keeper._far) <= 4
    for tally in keeper._tallies.values():
        assert len(tally.first) <= 4
        assert tally.second.keys() <= tally.first.keys()
        assert tally.total == sum(tally.weights.values())


@given(order=st.permutations(range(4)), nil=st.integers(0, 3))
def test_a_quorum_of_honest_votes_is_found_in_any_order(order: list[int], nil: int) -> None:
    keeper = VoteKeeper(FOUR)
    for who in order:
        keeper.add(vote(PREVOTE, who, None if who == nil else A))
    assert keeper.polkas(Round(0)) == (A,)


@given(leaves=st.lists(st.binary(max_size=40), min_size=1, max_size=40), data=st.data())
def test_lists_prove_each_leaf_at_its_place_only(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(st.integers(0, len(leaves) - 1))
    path, root = merkle_list.prove(leaves, index), merkle_list.root(leaves)
    assert merkle_list.holds(leaves[index], index, len(leaves), path, root)
    if leaves[other] != leaves[index]:
        assert not merkle_list.holds(leaves[other], index, len(leaves), path, root)
