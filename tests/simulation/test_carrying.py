"""What simulated markets come to, with everything that happens in them, can be carried to another chain."""

from __future__ import annotations

import pytest

from fondaco.consensus import merkle
from fondaco.consensus.ledger.carrying import carried, successor
from fondaco.consensus.ledger.genesis import GenesisState
from fondaco.consensus.ledger.recount import count_again
from fondaco.consensus.ledger.state import MemoryStore
from fondaco.node.simulation.faults import Faults
from fondaco.node.simulation.world import World
from fondaco.protocol.scalars import Height


@pytest.mark.parametrize("seed", range(5))
def test_the_state_of_a_busy_market_is_one_that_a_chain_can_begin_with(seed: int) -> None:
    world = World(seed=seed, faults=Faults(kills_per_minute=3), transaction_every_ms=200)
    judged = 0
    for _ in range(10):
        world.advance(1_000)
        judged += judge(world.nodes[0].disk.store)
    assert judged > 200


def judge(store: MemoryStore) -> int:
    """How many records were carried and counted."""
    none_yet = GenesisState(records=0, root=merkle.EMPTY)
    draft = successor(store, name="heir", time=None, auditors=(), state=none_yet)
    records = list(carried(store, Height(draft.initial_height - 1)))
    state = GenesisState(records=len(records), root=merkle.root_over(records))
    return count_again(successor(store, name="heir", time=None, auditors=(), state=state), records).records.total()
