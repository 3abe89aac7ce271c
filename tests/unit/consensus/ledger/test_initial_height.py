"""A chain may begin above height 1: nothing below is asked for, and everything counts from there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import COMMITMENT, FREE, World, of_kind

from fondaco.consensus.ledger.history import validators_at
from fondaco.protocol import codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import PowerChanged, Slashed
from fondaco.protocol.evidence import duplicate_vote
from fondaco.protocol.scalars import Hash, Height

FOUR = {"ann": 10, "ben": 10, "cat": 10, "dan": 10}
OTHER = Hash(bytes(32))


def world_at(height: int, **params: int) -> World:
    return World("eve", *FOUR, validators=FOUR, initial_height=height, **{**FREE, **params})


def test_the_first_block_stands_at_the_initial_height_and_on_no_certificate() -> None:
    world = world_at(1_000)
    assert world.ledger.head.height == 999
    first = world.block().block
    assert (first.header.height, first.previous_certificate) == (1_000, None)
    assert first.header.previous == world.genesis.hash()
    second = world.propose()
    assert second.previous_certificate is not None
    with pytest.raises(Refused, match=r"block\.certificate"):
        world.ledger.process_proposal(replace(second, previous_certificate=None))
    world.keep(second)
    Bookkeeper(world).count()


def test_a_bond_acts_two_heights_after_its_block_here_too() -> None:
    world = world_at(1_000)
    (eve,) = world.actors("eve")
    (change,) = of_kind(world.block(eve.bonds(5_000_000)).events, PowerChanged)
    assert change.height == 1_002


def test_evidence_reaches_down_to_the_first_height_and_no_further() -> None:
    world = world_at(1_000)
    (ann,) = world.actors("ann")
    for _ in range(3):
        world.block()
    assert validators_at(world.ledger.state(), Height(998)) is None

    def fork(height: int) -> bytes:
        return codec.encode(duplicate_vote(ann.votes(height, COMMITMENT), ann.votes(height, OTHER)))

    assert of_kind(world.block(evidence=[fork(1_000)]).events, Slashed)
    with pytest.raises(Refused, match=r"evidence\.height"):
        world.ledger.check_evidence(fork(998), now=world.now)


@pytest.mark.parametrize("initial_height", [99, 100, 101, 2**52])
def test_history_is_kept_and_forgotten_as_on_a_chain_from_height_one(initial_height: int) -> None:
    world = world_at(initial_height, evidence_blocks=3, evidence_ms=1_000)
    for _ in range(230):
        world.block()
    state = world.ledger.state()
    assert len(state.scan(b"moment/", 10)) == 2, "of this stretch and the one before"
    assert len(state.scan(b"validators-from/", 10)) == 1
    assert validators_at(state, world.ledger.head.height) is not None
