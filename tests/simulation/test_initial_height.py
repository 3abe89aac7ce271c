"""Whole networks whose chain begins high up: what is known of height 1 must hold for any first height."""

from __future__ import annotations

from random import Random

import pytest

from fondaco.node.simulation.faults import draw
from fondaco.node.simulation.profiles import HURRIED
from fondaco.node.simulation.world import World


@pytest.mark.parametrize("seed", range(4))
def test_networks_that_begin_at_height_1000_keep_every_promise(seed: int) -> None:
    faults = draw(Random(seed), liars=seed % 2)
    world = World(seed=seed, faults=faults, config=HURRIED, spectators=1, initial_height=1_000)
    assert world.nodes[0].height == 999
    world.run(safety_ms=10_000)
    heights = [block.header.height for block, _ in world.nodes[0].disk.blocks]
    assert heights == list(range(1_000, 1_000 + len(heights)))


def test_the_first_height_changes_nothing_else() -> None:
    """The same seed makes the same blocks, one by one; only their heights (and so their hashes) differ."""
    low, high = (World(seed=5, initial_height=first) for first in (1, 1_000))
    for world in (low, high):
        world.advance(12_000)
    counts = [[len(block.transactions) for block, _ in world.nodes[0].disk.blocks] for world in (low, high)]
    assert counts[0] == counts[1]
    assert len(counts[0]) >= 5
