"""The same blocks give the same roots: on any store, in any process, whatever the hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.children import ROOT
from tests.support.ledger_fuzz import Fuzz

from fondaco.consensus.ledger.application import Ledger, genesis_writes
from fondaco.node.storage import ChainStore

SCRIPT = """
from tests.support.ledger_fuzz import Fuzz
fuzz = Fuzz(7)
for _ in range(25):
    fuzz.block(20)
print(fuzz.world.ledger.head.hash.hex(), fuzz.world.now)
"""


def test_two_processes_with_other_hash_seeds_make_the_same_chain() -> None:
    outputs = set()
    for seed in ("0", "1", "4242"):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        outputs.add(run.stdout)
    assert len(outputs) == 1
    assert len(outputs.pop()) > 64


def test_a_database_and_a_store_in_memory_come_to_the_same_roots(tmp_path: Path) -> None:
    fuzz = Fuzz(8)
    store = ChainStore.open(tmp_path / "chain.db")
    store.commit(genesis_writes(fuzz.world.genesis))
    replayed = Ledger(store, fuzz.world.chain)
    try:
        blocks = list(fuzz.world.blocks)
        for _ in range(20):
            fuzz.block(15)
            blocks.append(fuzz.world.blocks[-1])
        for execution in blocks:
            again = replayed.finalize_block(execution.block)
            assert again.events == execution.events
            assert again.writes == execution.writes
            store.commit(again.writes)
            replayed.committed()
        assert replayed.head == fuzz.world.ledger.head
    finally:
        store.close()
