"""Nodes in trouble, one at a time, on four validators and a full node while a client pays once a second.

As the manifests of CometBFT's end-to-end tests have it: recovered within 20 s, no fork, nothing committed lost.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import trio
from tests.support.fixtures import fixtures_dir
from tests.support.perturbations import PERTURBATION_S, RECOVERY_S, perturbed

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.e2e]
Sequence = tuple[str, ...]
ROLES = {"": "validator", "validator": "validator", "full": "full", "seed": "full"}
"""Modes of the manifests and what stands for them here; a seed is a full node whose addresses are handed out."""
PLAYED = ("ci", "libp2p-pertub", "long")
"""Between them they hold every sequence that any manifest does."""


@pytest.mark.timeout(120)
async def test_a_killed_and_a_frozen_validator_come_back(tmp_path: Path) -> None:
    async with perturbed(tmp_path) as here:
        assert await here.perturb("validator-1", "kill") < RECOVERY_S
        assert await here.perturb("validator-3", "pause", for_s=3) < RECOVERY_S


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("manifest", PLAYED)
async def test_every_node_of_a_manifest_recovers(manifest: str, tmp_path: Path) -> None:
    turn = {"validator": 0, "full": 0}
    async with perturbed(tmp_path) as here:
        for role, sequence in sorted(sequences(manifest)):
            number = turn[role] % (4 if role == "validator" else 1)
            turn[role] += 1
            for how in sequence:
                took = await here.perturb(f"{role}-{number}", how)
                log.info("%s: %s-%d recovered from %s in %.1f s", manifest, role, number, how, took)


@pytest.mark.heavy
@pytest.mark.timeout(180)
async def test_without_a_quorum_nothing_is_decided_and_all_go_on_once_it_is_back(tmp_path: Path) -> None:
    async with perturbed(tmp_path) as here:
        names = [member.name for member in here.plan.members]
        for name in ("validator-1", "validator-2"):
            here.wires.pull(name)
        await trio.sleep(2)  # what was under way may still be decided
        before = max(map(here.height_of, names))
        await trio.sleep(PERTURBATION_S)
        assert max(map(here.height_of, names)) == before
        for name in ("validator-1", "validator-2"):
            here.wires.plug_in(name)
        with trio.fail_after(RECOVERY_S):
            while min(map(here.height_of, names)) <= before:
                await trio.sleep(0.05)


def test_no_perturbation_of_any_manifest_is_left_out() -> None:
    names = [path.stem for path in fixtures_dir("consensus/e2e_manifests").glob("*.json")]
    played = set().union(*map(sequences, PLAYED))
    assert set().union(*map(sequences, names)) <= played


def sequences(manifest: str) -> set[tuple[str, Sequence]]:
    """What is done to a node, by its role. An `upgrade` needs a second version and is a restart meanwhile."""
    document = json.loads(
        (fixtures_dir("consensus/e2e_manifests") / f"{manifest}.json").read_text(encoding="utf-8")
    )
    found = set()
    for node in document.get("node", {}).values():
        sequence = tuple("restart" if how == "upgrade" else how for how in node.get("perturb", ()))
        if sequence:
            found.add((ROLES[node.get("mode", "")], sequence))
    return found
