"""Whole networks of real engines in the seeded world. A failing seed is in the message: run it again alone."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from fondaco.consensus.certificates import SignatureCache, verify_commit
from fondaco.consensus.watch import culprit
from fondaco.node.simulation.faults import Faults, draw
from fondaco.node.simulation.identities import Ed25519
from fondaco.node.simulation.profiles import HURRIED
from fondaco.node.simulation.world import World
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import Signature


@pytest.mark.parametrize("seed", range(3))
def test_a_few_worlds_with_the_signatures_of_the_real_network(seed: int) -> None:
    faults = draw(Random(seed), liars=seed % 2)
    World(seed=seed, faults=faults, config=HURRIED, spectators=1, scheme=Ed25519()).run(safety_ms=5_000)


def test_a_healthy_network_decides_every_height_in_round_0() -> None:
    world = World(seed=1, transaction_every_ms=500)
    world.advance(20_000)
    rounds_needed = {certificate.round for node in world.nodes for _, certificate in node.disk.blocks}
    assert rounds_needed == {0}
    assert min(node.height for node in world.nodes) >= 12


def test_three_of_four_decide_though_one_is_down() -> None:
    world = World(seed=2)
    world.advance(100)
    world.kill(world.nodes[0])
    world.advance(20_000)
    assert all(node.height >= 5 for node in world.nodes[1:])


def test_two_of_four_decide_nothing() -> None:
    world = World(seed=3)
    world.advance(5_000)
    for node in world.nodes[:2]:
        world.kill(node)
    before = [node.height for node in world.nodes]
    world.advance(30_000)
    assert max(node.height for node in world.nodes) <= max(before) + 1


def test_a_node_that_was_down_catches_up() -> None:
    world = World(seed=4)
    world.advance(5_000)
    late = world.nodes[0]
    world.kill(late)
    world.advance(30_000)
    behind = late.height
    late.boot()
    world.advance(10_000)
    assert late.height > behind + 10
    assert late.height >= max(node.height for node in world.nodes) - 1


def test_a_full_node_linked_to_one_validator_follows() -> None:
    world = World(seed=5, spectators=1)
    spectator = world.nodes[-1]
    for validator in world.nodes[1:-1]:
        world.cut(validator, spectator)
    world.advance(20_000)
    assert spectator.height >= max(node.height for node in world.nodes) - 1


def test_power_counts_not_heads() -> None:
    world = World(seed=6, powers=(10, 1, 1, 1))
    world.advance(200)
    for light in world.nodes[2:]:
        world.kill(light)
    before = world.nodes[0].height
    world.advance(30_000)
    assert world.nodes[0].height > before + 3


def test_equivocators_are_reported_by_honest_nodes() -> None:
    world = World(seed=8, faults=Faults(equivocators=1))
    world.advance(10_000)
    guilty = {culprit(evidence) for node in world.honest() for evidence in node.evidence}
    assert guilty == {node.key for node in world.nodes if not node.honest}


def test_amnesiacs_are_reported_by_honest_nodes() -> None:
    reported: set[str] = set()
    for seed in range(3):
        world = World(seed=seed, faults=Faults(amnesiacs=1, loss=0.1, delay_mean_ms=60), config=HURRIED)
        world.advance(15_000)
        world.recount()
        reported |= {type(one).__name__ for node in world.honest() for one in node.evidence}
    assert reported == {"Amnesia"}


def test_idle_networks_make_no_blocks_between_heartbeats() -> None:
    world = World(seed=9, transaction_every_ms=10**9)
    world.advance(30_000)
    assert 2 <= max(node.height for node in world.nodes) <= 3


def test_nobody_honest_is_punished_on_a_faulty_network() -> None:
    world = World(seed=10, faults=Faults(loss=0.2, duplicates=0.2, kills_per_minute=6, partitions_per_minute=4))
    world.advance(30_000)
    assert [node.punished for node in world.nodes] == [[], [], [], []]


def test_a_certificate_with_one_broken_signature_shows_nothing_to_the_engine_nor_to_the_invariants() -> None:
    """Certificates count whole: who has only heard of a height by a garbled one goes on voting there."""
    world = World(seed=1)
    world.advance(5_000)
    holds = SignatureCache(world.chain, world.scheme.verify).holds
    node = world.nodes[0]
    certificate, keys = node.disk.blocks[0][1], [node.key, *node.peers()]
    signed = tuple(world.scheme.sign(world.chain, key, certificate.vote()) for key in sorted(keys))
    whole = replace(certificate, signatures=signed)
    assert world.invariants.is_sound(whole)
    verify_commit(whole, node.application.validators, holds)
    for place in range(4):
        signatures = list(whole.signatures)
        signatures[place] = None
        three = replace(whole, signatures=tuple(signatures))
        assert world.invariants.is_sound(three)
        signatures[place] = Signature(bytes(64))
        garbled = replace(whole, signatures=tuple(signatures))
        assert not world.invariants.is_sound(garbled)
        with pytest.raises(PeerFault):
            verify_commit(garbled, node.application.validators, holds)
