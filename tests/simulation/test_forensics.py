"""Real disagreements, from the seeded world: honest journals name enough of the guilty, and nobody else."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from tests.support.twins import Recorder, Twins

from fondaco.consensus.certificates import SignatureCache
from fondaco.consensus.config import EngineConfig
from fondaco.consensus.forensics import Finding, Transcript
from fondaco.node.simulation.faults import Faults
from fondaco.node.simulation.profiles import HURRIED
from fondaco.protocol.scalars import Height


def worlds(seed: int) -> Twins:
    random = Random(f"twins {seed}")

    def faults() -> Faults:
        return Faults(
            delay_mean_ms=random.randint(20, 80),
            loss=random.choice((0.0, 0.1, 0.2)),
            duplicates=0.1,
            kills_per_minute=random.choice((0.0, 4.0)),
            partitions_per_minute=random.choice((0.0, 4.0)),
        )

    honest, corrupted = random.choice(((2, 2), (4, 3)))
    config = random.choice((EngineConfig(), HURRIED))
    return Twins(seed, honest, corrupted, (faults(), faults()), config)


def finding_of(twins: Twins, height: int | None, witnesses: list[Recorder]) -> Finding:
    assert height is not None
    world = twins.halves[0]
    holds = SignatureCache(world.chain, world.scheme.verify).holds
    transcript = Transcript(world.chain, Height(height), twins.validators, holds)
    for witness in witnesses:
        for entry in witness.journals.get(height, []):
            transcript.add_entry(entry)
        if witness.height >= height:
            transcript.add(witness.disk.blocks[height - 1][1])
    assert transcript.passed_over == 0
    return transcript.examine()


@pytest.mark.parametrize("seed", range(12))
def test_a_disagreement_names_more_than_a_third_and_never_an_honest_one(seed: int) -> None:
    twins = worlds(seed)
    finding = finding_of(twins, twins.fork, twins.witnesses())
    assert finding.disagreement
    assert finding.accounted_for
    assert {culprit.validator for culprit in finding.culprits} <= twins.guilty
    assert {one.validator for one in finding.unexplained} <= twins.guilty


@pytest.mark.heavy
@pytest.mark.timeout(400)
def test_two_hundred_more_disagreements() -> None:
    across = 0
    for seed in range(100, 300):
        twins = worlds(seed)
        finding = finding_of(twins, twins.fork, twins.witnesses())
        across += len({decision.round for decision in finding.decisions}) > 1
        assert finding.accounted_for, seed
        assert {culprit.validator for culprit in finding.culprits} <= twins.guilty, seed
        assert {one.validator for one in finding.unexplained} <= twins.guilty, seed
    assert across >= 20


@pytest.mark.parametrize("seed", range(4))
def test_however_few_journals_there_are_no_honest_validator_is_convicted(seed: int) -> None:
    twins = worlds(seed)
    witnesses = twins.witnesses()
    for height, few in itertools.product(range(1, 6), ([witnesses[0]], [witnesses[-1]], [])):
        assert {culprit.validator for culprit in finding_of(twins, height, few).culprits} <= twins.guilty
