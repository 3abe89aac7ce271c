"""Whole networks of real engines in the seeded world. A failing seed is in the message: run it again alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from fondaco.consensus import admission, rounds
from fondaco.consensus.certificates import verify_commit
from fondaco.consensus.config import EngineConfig
from fondaco.consensus.engine import Engine
from fondaco.consensus.height import AtHeight
from fondaco.consensus.journal_entries import Happened
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.simulation import faults
from fondaco.node.simulation.faults import Faults
from fondaco.node.simulation.identities import CHEAP, Ed25519, Scheme
from fondaco.node.simulation.violation import Violation
from fondaco.node.simulation.world import World

HURRIED = EngineConfig(
    propose_ms=80,
    propose_step_ms=5,
    prevote_ms=10,
    prevote_step_ms=3,
    precommit_ms=10,
    precommit_step_ms=3,
    rebroadcast_ms=300,
)
"""Timeouts about as long as a message travels: rounds fail all the time and locks matter."""


def a_world(seed: int, scheme: Scheme = CHEAP) -> World:
    random = Random(f"configuration {seed}")
    nodes = random.choice((4, 4, 4, 5, 7))
    return World(
        seed=seed,
        powers=(1,) * nodes,
        faults=faults.draw(random, nodes=nodes),
        config=random.choice((EngineConfig(), EngineConfig(), HURRIED)),
        spectators=random.choice((0, 1)),
        transaction_every_ms=random.choice((250, 500, 1_000)),
        scheme=scheme,
    )


@pytest.mark.parametrize("seed", range(25))
def test_honest_nodes_agree_under_any_faults_and_go_on_once_the_network_heals(seed: int) -> None:
    report = a_world(seed).run(safety_ms=10_000)
    assert report.heights >= 3


@pytest.mark.heavy
@pytest.mark.parametrize("block", range(10))
def test_three_hundred_more_seeds_agree(block: int) -> None:
    for seed in range(1_000 + 30 * block, 1_030 + 30 * block):
        a_world(seed).run(safety_ms=30_000)


@pytest.mark.parametrize("seed", range(3))
def test_a_few_worlds_with_the_signatures_of_the_real_network(seed: int) -> None:
    a_world(seed, scheme=Ed25519()).run(safety_ms=5_000)


def test_the_same_seed_gives_the_same_run() -> None:
    assert a_world(7).run(safety_ms=5_000) == a_world(7).run(safety_ms=5_000)


def test_a_healthy_network_decides_every_height_in_round_0() -> None:
    world = World(seed=1, transaction_every_ms=500)
    world.advance(10_000)
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
    assert late.height > behind + 20
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
    guilty = {first.validator for node in world.honest() for first, _ in node.evidence}
    assert guilty == {node.key for node in world.nodes if not node.honest}


def test_idle_networks_make_no_blocks_between_heartbeats() -> None:
    world = World(seed=9, transaction_every_ms=10**9)
    world.advance(30_000)
    assert 2 <= max(node.height for node in world.nodes) <= 3


def test_nobody_honest_is_punished_on_a_faulty_network() -> None:
    world = World(seed=10, faults=Faults(loss=0.2, duplicates=0.2, kills_per_minute=6, partitions_per_minute=4))
    world.advance(30_000)
    assert [node.punished for node in world.nodes] == [[], [], [], []]


# The simulator must be able to fail: known bugs, planted by changing a rule from here.


def _quorum_of_a_third(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ValidatorSet, "has_quorum", ValidatorSet.has_third)


def _unlock_on_nil_polka(monkeypatch: pytest.MonkeyPatch) -> None:
    right = rounds._in_prevote

    def wrong(state: rounds.State, event: rounds.Input) -> rounds.Transition:
        after, output = right(state, event)
        if event.kind is rounds.Kind.POLKA_NIL:
            after = replace(after, locked=None)
        return after, output

    monkeypatch.setattr(rounds, "_in_prevote", wrong)


def _prevote_against_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    right = rounds._in_propose

    def wrong(state: rounds.State, event: rounds.Input) -> rounds.Transition:
        return right(replace(state, locked=None), event)

    def unlocked(state: rounds.State, event: rounds.Input) -> rounds.Transition:
        after, output = wrong(state, event)
        return replace(after, locked=state.locked), output

    monkeypatch.setattr(rounds, "_in_propose", unlocked)


def _vote_before_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Engine._take

    def wrong(self: Engine, entry: Happened, here: AtHeight) -> None:
        here.in_journal = True
        effects = self._outbox._effects
        before = len(effects)
        right(self, entry, here)
        effects.append(effects.pop(before))

    monkeypatch.setattr(Engine, "_take", wrong)


def _unchecked_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert admission.verify_commit is verify_commit  # type: ignore[attr-defined]
    monkeypatch.setattr(admission, "verify_commit", lambda certificate, validators, holds: None)


@pytest.mark.parametrize(
    "plant",
    [
        _quorum_of_a_third,
        _unlock_on_nil_polka,
        _prevote_against_the_lock,
        _vote_before_journal,
        _unchecked_certificate,
    ],
)
def test_a_planted_bug_is_caught_within_ten_seeds(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plant(monkeypatch)
    with pytest.raises(Violation):
        _run_ten_seeds()


def test_without_a_planted_bug_the_same_ten_seeds_pass() -> None:
    _run_ten_seeds()


def _run_ten_seeds() -> None:
    for seed in range(10):
        lying = {"equivocators": seed % 2, "forgers": 1 - seed % 2}
        chosen = Faults(delay_mean_ms=60, loss=0.1, partitions_per_minute=6, **lying)
        World(seed=seed, faults=chosen, config=HURRIED).run(safety_ms=10_000)
