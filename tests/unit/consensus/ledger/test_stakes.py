"""Becoming a validator, ceasing to be one, and what it costs to break one's word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import COMMITMENT, FREE, Actor, World, of_kind

from fondaco.consensus.ledger.elections import step_towards
from fondaco.consensus.ledger.history import STRETCH, validators_at
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import Jailed, ParameterChanged, PowerChanged, Slashed, Unbonded
from fondaco.protocol.evidence import Amnesia, duplicate_vote
from fondaco.protocol.messages import SetParams, Unjail
from fondaco.protocol.records import TOTALS, Totals
from fondaco.protocol.scalars import Hash, Height, Millis, Power, PublicKey

FOUR = {"ann": 10, "ben": 10, "cat": 10, "dan": 10}
VOTE = 1_000_000
OTHER = Hash(bytes(32))
QUICK = {"unbonding_ms": 60_000, "evidence_blocks": 3, "evidence_ms": 30_000}


def four(**params: int) -> World:
    return World("eve", *FOUR, validators=FOUR, **{**FREE, **params})


def settle(world: World, blocks: int = 2) -> None:
    for _ in range(blocks):
        world.block()


def fork(actor: Actor, height: int = 1) -> bytes:
    return codec.encode(duplicate_vote(actor.votes(height, COMMITMENT), actor.votes(height, OTHER)))


def totals(world: World) -> Totals:
    Bookkeeper(world).count()
    return world.ledger.state().require(TOTALS, Totals)


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


def away(world: World, blocks: int, *, after_ms: int = 1_000) -> list[Jailed]:
    return [event for _ in range(blocks) for event in of_kind(world.block(after_ms=after_ms).events, Jailed)]


JAIL = {"absence_blocks": 5, "absence_ms": 4_000, "jail_ms": 60_000}


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


# Conviction


def test_evidence_costs_a_part_of_the_stake_and_the_place_in_the_set() -> None:
    world = four()
    (dan,) = world.actors("dan")
    settle(world)
    execution = world.block(evidence=[fork(dan)])
    (slashed,) = of_kind(execution.events, Slashed)
    assert (slashed.validator, slashed.amount) == (dan.key, VOTE // 2)
    assert execution.block.evidence == (fork(dan),)
    assert totals(world).pool_stake == VOTE // 2
    settle(world)
    assert "dan" not in world.powers()
    assert world.code(dan.bonds(VOTE)) == "stake.tombstoned"
    assert world.code(dan.does(Unjail())) == "stake.tombstoned"
    assert world.code(dan.unbonds(world.stake_behind(dan).bonded)) == ""


def test_stake_on_its_way_out_answers_for_what_was_done_before_it_left() -> None:
    world = four()
    (dan,) = world.actors("dan")
    settle(world)
    world.block(dan.unbonds(4 * VOTE))
    settle(world)
    (slashed,) = of_kind(world.block(evidence=[fork(dan, height=2)]).events, Slashed)
    assert slashed.amount == 10 * VOTE // 20
    totals(world)


def test_stake_that_left_before_the_offence_is_not_touched() -> None:
    world = four()
    (dan,) = world.actors("dan")
    world.block(dan.unbonds(4 * VOTE))
    settle(world, 4)
    (slashed,) = of_kind(world.block(evidence=[fork(dan, height=4)]).events, Slashed)
    assert slashed.amount == 6 * VOTE // 20


def test_evidence_comes_before_the_transactions_of_its_block() -> None:
    world = four()
    dan, eve = world.actors("dan", "eve")
    settle(world)
    events = world.block(dan.bonds(VOTE), evidence=[fork(dan)]).events
    assert isinstance(events[0], Slashed)
    assert world.stake_behind(dan).bonded == 10 * VOTE - VOTE // 2
    assert eve.stake == 10**9


def test_nobody_is_convicted_twice() -> None:
    world = four()
    (dan,) = world.actors("dan")
    settle(world)
    amnesia = Amnesia(precommit=dan.votes(1, COMMITMENT, precommit=True), prevote=dan.votes(1, OTHER, round=1))
    assert world.propose(evidence=[fork(dan), fork(dan), codec.encode(amnesia)]).evidence == (fork(dan),)
    world.block(evidence=[fork(dan)])
    for raw in (fork(dan), codec.encode(amnesia)):
        with pytest.raises(Refused) as caught:
            world.ledger.check_evidence(raw, now=world.now)
        assert caught.value.code == "evidence.known"


def test_every_member_may_be_convicted_and_the_chain_goes_on() -> None:
    world = four()
    settle(world)
    world.block(evidence=[fork(actor) for actor in world.actors(*FOUR)])
    settle(world, 10)
    assert world.powers()
    assert totals(world).pool_stake == 2 * VOTE


def refusal(world: World, raw: bytes) -> str:
    with pytest.raises(Refused) as caught:
        world.ledger.check_evidence(raw, now=world.now)
    block = replace(world.propose(), evidence=(raw,))
    with pytest.raises(Refused) as again:
        world.ledger.process_proposal(block)
    assert again.value.code == caught.value.code
    return caught.value.code


def test_what_is_no_evidence_spoils_a_block() -> None:
    world = four()
    dan, eve = world.actors("dan", "eve")
    settle(world)
    assert refusal(world, b"x").startswith("codec.")
    assert refusal(world, fork(eve)) == "evidence.stranger"
    assert refusal(world, fork(dan, height=4)) == "evidence.height"
    assert world.propose(evidence=[b"x", fork(eve)]).evidence == ()


def test_a_block_holds_a_bounded_number_of_pieces() -> None:
    many = {f"v{place}": 10 for place in range(limits.BLOCK_EVIDENCE + 1)}
    world = World(validators=many, **FREE)
    settle(world)
    pieces = [fork(actor) for actor in world.actors(*many)]
    block = world.propose(evidence=pieces)
    assert block.evidence == tuple(pieces[:-1])
    with pytest.raises(Refused, match="pieces of evidence"):
        world.ledger.process_proposal(replace(block, evidence=tuple(pieces)))


# What is remembered


def test_evidence_expires_when_it_is_too_old_in_blocks_and_in_time() -> None:
    world = four(evidence_blocks=150, evidence_ms=400_000)
    world.judged = False
    (dan,) = world.actors("dan")
    while world.ledger.head.height < 250:
        world.block()
    world.ledger.check_evidence(fork(dan, height=50), now=world.now)
    world.block(after_ms=400_000)
    settle(world, STRETCH)
    assert refusal(world, fork(dan, height=50)) == "evidence.expired"
    world.ledger.check_evidence(fork(dan, height=310), now=world.now)


def test_sets_and_convictions_are_forgotten_with_their_heights() -> None:
    world = four(evidence_blocks=10, evidence_ms=1_000)
    world.judged = False
    dan, eve = world.actors("dan", "eve")
    settle(world)
    world.block(eve.bonds(VOTE), evidence=[fork(dan)])
    while world.ledger.head.height < 2 * STRETCH:
        world.block()
    before = world.ledger.state()
    assert validators_at(before, Height(1)) is not None
    assert before.scan(b"evidence/", 9)
    while world.ledger.head.height < 4 * STRETCH:
        world.block()
    after = world.ledger.state()
    assert validators_at(after, Height(1)) is None
    assert not after.scan(b"evidence/", 9)
    assert not after.scan(b"evidence-height/", 9)
    assert len(after.scan(b"moment/", 99)) <= 3
    last = validators_at(after, world.ledger.head.height)
    assert last is not None
    assert last.hash == world.ledger.validators.hash
    assert refusal(world, fork(dan)) == "evidence.expired"


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
