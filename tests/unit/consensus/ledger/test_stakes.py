"""Becoming a validator, ceasing to be one, being away, and the parameters of all that."""

from __future__ import annotations

import pytest
from tests.support.ledger import FREE, World, of_kind
from tests.support.stakes import FOUR, JAIL, QUICK, VOTE, away, fork, four, settle, totals

from fondaco.consensus.ledger.elections import step_towards
from fondaco.consensus.ledger.history import STRETCH
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import limits
from fondaco.protocol.events import ParameterChanged, PowerChanged, Unbonded
from fondaco.protocol.messages import SetParams, Unjail
from fondaco.protocol.scalars import Millis, Power, PublicKey

# Bonding


def test_a_bond_acts_two_heights_after_its_block() -> None:
    world = four()
    (eve,) = world.actors("eve")
    execution = world.block(eve.bonds(5 * VOTE))
    height = execution.block.header.height
    (change,) = of_kind(execution.events, PowerChanged)
    assert (change.validator, change.power, change.height) == (eve.key, 5, height + 2)
    assert "eve" not in world.powers()
    world.block()
    assert world.powers() == {**FOUR, "eve": 5}
    assert eve.stake == 10**9 - 5 * VOTE
    assert totals(world).bonded_stake == 45 * VOTE


def test_fractions_of_a_vote_are_bonded_but_do_not_vote() -> None:
    world = four()
    (eve,) = world.actors("eve")
    world.block(eve.bonds(2 * VOTE + 999_999))
    settle(world)
    assert world.powers()["eve"] == 2


def test_less_than_a_third_of_the_power_changes_in_one_height() -> None:
    world = four()
    (eve,) = world.actors("eve")
    world.block(eve.bonds(100 * VOTE))
    powers = []
    for _ in range(6):
        world.block()
        powers.append(world.powers()["eve"])
    assert powers == [13, 30, 53, 83, 100, 100]
    assert all(3 * (after - before) < 40 + before for before, after in zip([0, *powers], powers, strict=False))


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ({1: 10, 2: 10, 3: 10, 4: 10}, {5: 10, 6: 10, 7: 10, 8: 10}),
        ({1: 1}, {1: 5}),
        ({1: 1, 2: 1, 3: 1}, {1: 1}),
        ({1: 1_000}, {2: 1}),
        (dict.fromkeys(range(64), 1), {one + 64: 1 for one in range(64)}),
    ],
)
def test_step_by_step_any_set_becomes_any_other(before: dict[int, int], wanted: dict[int, int]) -> None:
    def keyed(powers: dict[int, int]) -> dict[PublicKey, Power]:
        return {PublicKey(bytes([one]) * 32): Power(power) for one, power in powers.items()}

    now, goal = ValidatorSet.of(keyed(before).items()), keyed(wanted)
    for _ in range(200):
        step = step_towards(now, goal)
        if not step:
            break
        moved = sum(abs(power - now.power_of(key)) for key, power in step.items())
        assert 3 * moved < now.total or (moved == 1 and now.total <= 3)
        now = now.updated(step).advance(1)
        assert len(now.members) <= limits.VALIDATORS
    assert {member.public_key: member.power for member in now.members} == goal


def test_only_the_largest_stakes_are_in_the_set() -> None:
    small = {f"v{place}": 10 for place in range(limits.VALIDATORS)}
    world = World("eve", validators=small, **FREE)
    (eve,) = world.actors("eve")
    world.block(eve.bonds(10 * VOTE - 1))
    settle(world, 3)
    assert "eve" not in world.powers()
    world.block(eve.bonds(2 * VOTE))
    settle(world, 3)
    assert world.powers()["eve"] == 11
    assert len(world.powers()) == limits.VALIDATORS


@pytest.mark.parametrize(
    ("amount", "code"),
    [(0, "stake.zero"), (VOTE - 1, "stake.too_small"), (10**9 + 1, "funds.stake")],
)
def test_bonds_that_are_refused(amount: int, code: str) -> None:
    world = four()
    (eve,) = world.actors("eve")
    assert world.code(eve.bonds(amount)) == code


# Unbonding


def test_unbonded_stake_is_free_when_its_time_and_the_evidence_limits_have_passed() -> None:
    world = four(**QUICK)
    (dan,) = world.actors("dan")
    had = dan.stake
    world.block(dan.unbonds(10 * VOTE))
    settle(world)
    assert "dan" not in world.powers()
    world.block(after_ms=50_000)
    assert dan.stake == had
    (freed,) = of_kind(world.block(after_ms=10_000).events, Unbonded)
    assert (freed.validator, freed.amount) == (dan.key, 10 * VOTE)
    assert dan.stake == had + 10 * VOTE
    assert totals(world).bonded_stake == 30 * VOTE


def test_time_alone_does_not_free_stake() -> None:
    world = four(**{**QUICK, "evidence_blocks": 5})
    (dan,) = world.actors("dan")
    world.block(dan.unbonds(4 * VOTE))
    world.block(dan.unbonds(2 * VOTE))
    for _ in range(3):
        assert not of_kind(world.block(after_ms=3_600_001).events, Unbonded)
    assert of_kind(world.block(after_ms=3_600_001).events, Unbonded) == []
    freed = of_kind(world.block(after_ms=3_600_001).events, Unbonded)
    freed += of_kind(world.block(after_ms=3_600_001).events, Unbonded)
    assert [event.amount for event in freed] == [4 * VOTE, 2 * VOTE]
    assert totals(world).bonded_stake == 34 * VOTE


@pytest.mark.parametrize(
    ("amount", "code"),
    [(0, "stake.zero"), (10 * VOTE + 1, "stake.short"), (10 * VOTE - 1, "stake.too_small")],
)
def test_unbondings_that_are_refused(amount: int, code: str) -> None:
    world = four()
    (dan,) = world.actors("dan")
    assert world.code(dan.unbonds(amount)) == code


def test_few_amounts_are_on_their_way_out_at_once() -> None:
    world = World("ann", validators={"ann": 100}, **FREE)
    (ann,) = world.actors("ann")
    world.block(*[ann.unbonds(VOTE)] * limits.UNBONDINGS)
    assert world.code(ann.unbonds(VOTE)) == "stake.unbondings"


def test_the_last_validator_cannot_leave() -> None:
    world = World("ann", validators={"ann": 100}, **FREE)
    (ann,) = world.actors("ann")
    assert world.code(ann.unbonds(100 * VOTE)) == "stake.last"


# Absence


def test_who_misses_too_many_certificates_in_a_row_is_jailed_and_can_come_back() -> None:
    world = four(**JAIL)
    (dan,) = world.actors("dan")
    world.absent.add("dan")
    assert away(world, 5) == []
    (jailed,) = away(world, 1)
    assert (jailed.validator, jailed.until) == (dan.key, world.now + 60_000)
    settle(world)
    assert world.powers() == {"ann": 10, "ben": 10, "cat": 10}
    assert world.stake_behind(dan).bonded == 10 * VOTE
    assert world.code(dan.does(Unjail())) == "stake.jailed"
    world.absent.clear()
    assert world.code(dan.does(Unjail()), after_ms=60_000) == ""
    settle(world)
    assert world.powers() == FOUR
    assert world.code(dan.does(Unjail())) == "stake.not_jailed"


def test_one_signature_now_and_then_is_enough() -> None:
    world = four(**JAIL)
    for _ in range(4):
        world.absent.add("dan")
        assert away(world, 4) == []
        world.absent.clear()
        world.block()


def test_many_blocks_in_a_short_time_jail_nobody() -> None:
    world = four(**{**JAIL, "absence_ms": 60_000})
    world.absent.add("dan")
    assert away(world, 20) == []
    assert len(away(world, 3, after_ms=20_000)) == 1


def test_who_is_jailed_still_signs_for_two_heights_and_is_not_jailed_again() -> None:
    world = four(**{**JAIL, "absence_blocks": 4, "absence_ms": 1_000})
    world.absent.add("dan")
    world.block()
    for _ in range(4):
        world.block()
    world.block(world.actors("ann")[0].bonds(VOTE))
    assert len(away(world, 12)) == 0
    assert world.powers()["ann"] == 11


# Parameters


def test_only_the_authority_changes_parameters_and_within_their_bounds() -> None:
    world = World("ann", "bob", authority="ann", **FREE)
    ann, bob = world.actors("ann", "bob")
    assert world.code(bob.sets(fee_base=7)) == "params.authority"
    execution = world.block(ann.sets(fee_base=7, fee_per_byte=1))
    assert [event.name for event in of_kind(execution.events, ParameterChanged)] == ["fee_base", "fee_per_byte"]
    assert (world.ledger.params.fee_base, world.ledger.params.fee_per_byte) == (7, 1)
    for draft, code in (
        (ann.sets(fee_base=-1 % 2**63), "params.value"),
        (ann.sets(nonsense=1), "params.value"),
        (ann.does(SetParams(changes=())), "params.changes"),
    ):
        assert world.code(draft) == code
    assert world.ledger.params == Params(**{**FREE, "fee_base": 7, "fee_per_byte": 1})  # type: ignore[arg-type]


def test_without_an_authority_nobody_changes_parameters() -> None:
    world = World("ann", **FREE)
    assert world.code(world.actors("ann")[0].sets(fee_base=7)) == "params.authority"


def test_a_header_commits_to_the_parameters_its_block_leaves() -> None:
    world = World("ann", authority="ann", **FREE)
    before = world.block().block.header.params
    after = world.block(world.actors("ann")[0].sets(fee_base=7)).block.header.params
    assert after != before
    assert world.block(after_ms=Millis(5)).block.header.params == after


def test_a_higher_bond_puts_out_who_has_less_and_never_everybody() -> None:
    world = World(*FOUR, validators={**FOUR, "big": 40}, authority="ann", **FREE)
    (ann,) = world.actors("ann")
    world.block(ann.sets(validator_bond=20 * VOTE))
    settle(world, 4)
    assert world.powers() == {"big": 40}
    world.block(ann.sets(validator_bond=50 * VOTE))
    settle(world, 4)
    assert world.powers() == {"big": 40}


def test_limits_that_were_lowered_are_caught_up_with() -> None:
    world = World("ann", authority="ann", evidence_blocks=10_000, evidence_ms=1_000, **FREE)
    world.judged = False
    (ann,) = world.actors("ann")
    while world.ledger.head.height < 5 * STRETCH - 2:
        world.block()
    world.block(ann.sets(evidence_blocks=10))
    assert len(world.ledger.state().scan(b"moment/", 99)) == 4
    world.block()
    assert len(world.ledger.state().scan(b"moment/", 99)) == 3


def test_where_nobody_else_is_left_who_is_convicted_and_absent_is_jailed_once() -> None:
    world = four(**{**JAIL, "absence_blocks": 4, "absence_ms": 1_000})
    settle(world)
    world.block(evidence=[fork(actor) for actor in world.actors(*FOUR)])
    world.absent.add("dan")
    assert len(away(world, 20)) == 1
    assert set(world.powers()) == set(FOUR)
