"""Proposals that name their transactions, in the seeded world: lost questions, empty pools, and misers."""

from __future__ import annotations

from random import Random

import pytest

from fondaco.consensus import rebuilding
from fondaco.consensus.rebuilding import Counters
from fondaco.node.simulation.faults import Faults, draw
from fondaco.node.simulation.host import SimulatedNode
from fondaco.node.simulation.profiles import HURRIED
from fondaco.node.simulation.world import World


def counted(world: World) -> dict[SimulatedNode, Counters]:
    return {node: node.rebuilder.counters for node in world.nodes}


def deaf(node: SimulatedNode) -> None:
    """Let no transaction reach `node` but in blocks."""
    node.submit = lambda transaction: None  # type: ignore[method-assign]


def test_in_a_healthy_network_all_that_is_missing_is_given_in_time() -> None:
    world = World(seed=1, transaction_every_ms=250, compact=True)
    world.advance(20_000)
    assert {certificate.round for node in world.nodes for _, certificate in node.disk.blocks} == {0}
    for node, counters in counted(world).items():
        assert counters.compact > node.height // 2
        assert counters.missing < counters.named
        assert counters.given_up == 0
    world.recount()


def test_a_validator_that_hears_of_no_transaction_votes_all_the_same() -> None:
    world = World(seed=2, transaction_every_ms=250, compact=True)
    ignorant = world.nodes[0]
    deaf(ignorant)
    world.kill(world.nodes[1])  # so that the three others are needed
    world.advance(20_000)
    assert min(node.height for node in world.nodes if node.alive) >= 5
    assert counted(world)[ignorant].missing > 0
    assert [node.punished for node in world.nodes] == [[], [], [], []]


@pytest.mark.parametrize("seed", range(3))
def test_anything_may_go_wrong_on_the_way(seed: int) -> None:
    faults = draw(Random(seed), liars=seed % 2)
    world = World(seed=seed, faults=faults, config=HURRIED, spectators=1, transaction_every_ms=250, compact=True)
    report = world.run(safety_ms=8_000)
    assert report.faults["transactions asked for"] > 0


def test_a_proposer_that_does_not_give_what_it_names_only_loses_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "ASKS", 1)  # whom it would be asked of next
    world = World(seed=4, faults=Faults(delay_mean_ms=10), transaction_every_ms=250, compact=True)
    for node in world.nodes[1:]:
        deaf(node)
    world.advance(100)
    miser = world.nodes[0]
    miser.rebuilder.give = lambda names: []  # type: ignore[method-assign]
    world.advance(40_000)
    assert min(node.height for node in world.nodes) >= 5
    assert sum(counters.given_up for counters in counted(world).values()) > 0
    assert [node.punished for node in world.nodes] == [[], [], [], []]
    proposers = {
        block.header.proposer for node in world.nodes[1:] for block, _ in node.disk.blocks if block.transactions
    }
    assert miser.key not in proposers, "what only it has comes into no block of its own"
