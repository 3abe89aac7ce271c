"""What it costs a validator to break its word, and how long that is remembered."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.ledger import COMMITMENT, FREE, World, of_kind
from tests.support.stakes import FOUR, OTHER, VOTE, fork, four, settle, totals

from fondaco.consensus.ledger.history import STRETCH, validators_at
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import Slashed
from fondaco.protocol.evidence import Amnesia
from fondaco.protocol.messages import Unjail
from fondaco.protocol.scalars import Height

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
