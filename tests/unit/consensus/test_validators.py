from __future__ import annotations

from collections import Counter

import pytest
from tests.support.agreement import FOUR, member, validators

from fondaco.consensus.validators import TOTAL_POWER_MAX, ValidatorSet
from fondaco.protocol import limits
from fondaco.protocol.agreement import Validator
from fondaco.protocol.errors import Malformed
from fondaco.protocol.scalars import Power, Priority, PublicKey, Round


def _members(*priorities: int, power: int = 1) -> tuple[Validator, ...]:
    return tuple(
        Validator(public_key=PublicKey(bytes([place]) * 32), power=Power(power), priority=Priority(priority))
        for place, priority in enumerate(priorities)
    )


def test_everyone_proposes_as_often_as_their_power_says() -> None:
    chosen = validators(1, 2, 3, 10)
    turns = Counter(chosen.proposer(Round(round)) for round in range(160))
    assert [turns[one.public_key] for one in chosen.members] == [10, 20, 30, 100]


def test_the_next_heights_first_proposer_is_this_heights_second() -> None:
    chosen = validators(1, 2, 3, 10)
    for _ in range(40):
        assert chosen.advance(1).proposer(Round(0)) == chosen.proposer(Round(1))
        chosen = chosen.advance(1)


def test_advancing_twice_is_advancing_by_two() -> None:
    assert FOUR.advance(1).advance(1) == FOUR.advance(2)


def test_equals_go_to_the_smaller_key() -> None:
    assert FOUR.proposer(Round(0)) == member(0)


def test_centring_rounds_the_mean_down() -> None:
    # The mean of -1, 0, 0 is -1/3: floor gives -1, truncation would give 0.
    centred = ValidatorSet(members=_members(-1, 0, 0)).advance(0)
    assert [one.priority for one in centred.members] == [0, 1, 1]


def test_scaling_divides_towards_zero() -> None:
    # A spread of 14 against twice the total of 3 is scaled by 3: -7 / 3 gives -2 (floor would give -3).
    scaled = ValidatorSet(members=_members(-7, 0, 7)).advance(0)
    assert [one.priority for one in scaled.members] == [-2, 0, 2]


def test_thresholds_are_strict() -> None:
    three = validators(1, 1, 1)
    assert [three.has_quorum(weight) for weight in (2, 3)] == [False, True]
    assert [three.has_third(weight) for weight in (1, 2)] == [False, True]
    assert [FOUR.has_quorum(weight) for weight in (2, 3)] == [False, True]


def test_the_hash_covers_keys_and_powers_only() -> None:
    assert FOUR.hash == FOUR.advance(3).hash
    assert FOUR.hash != validators(1, 1, 1, 2).hash


def test_strangers_have_no_power() -> None:
    assert FOUR.power_of(PublicKey(bytes(32))) == 0
    assert FOUR.power_of(member(2)) == 1


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ((), "validators.count"),
        (_members(*[0] * (limits.VALIDATORS + 1)), "validators.count"),
        (tuple(reversed(_members(0, 0))), "validators.order"),
        (_members(0) * 2, "validators.order"),
        (_members(0, power=0), "validators.power"),
        (_members(0, 0, power=TOTAL_POWER_MAX), "validators.power"),
    ],
)
def test_sets_that_make_no_sense_are_refused(members: tuple[Validator, ...], code: str) -> None:
    with pytest.raises(Malformed) as caught:
        ValidatorSet(members=members)
    assert caught.value.code == code


# Changes


def test_a_change_of_nothing_is_no_change() -> None:
    before = validators(1, 2, 3).advance(2)
    assert before.updated({}) == before


def test_who_joins_starts_behind_and_who_leaves_is_gone() -> None:
    before = validators(1, 1, 1).advance(1)
    stranger = next(key for key in validators(1, 1, 1, 1, 1).index if key not in before.index)
    first = before.members[0].public_key
    after = before.updated({stranger: Power(5), first: Power(0)})
    assert after.power_of(first) == 0
    joined = after.members[after.index[stranger]]
    assert (joined.power, joined.priority) == (5, -(8 + 1))
    kept = {member.public_key: member for member in before.members}
    assert all(kept[member.public_key] == member for member in after.members if member.public_key != stranger)


def test_leaving_and_coming_back_wins_no_turn() -> None:
    before = validators(10, 10, 10, 10)
    turncoat = before.proposer(Round(0))
    out = before.advance(1).updated({turncoat: Power(0)}).advance(1)
    back = out.updated({turncoat: Power(10)})
    turns = []
    for _ in range(3):
        turns.append(back.proposer(Round(0)))
        back = back.advance(1)
    assert turncoat not in turns
