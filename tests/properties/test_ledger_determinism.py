"""The same blocks give the same roots: on any store, in any process, whatever the hash seed and the Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.children import ROOT
from tests.support.ledger_fuzz import Fuzz

from fondaco.consensus.ledger.application import Ledger, genesis_writes
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec

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


JUDGE = """
import sys
from pathlib import Path
from fondaco.consensus.ledger.application import Ledger, genesis_writes
from fondaco.consensus.ledger.genesis import genesis_from
from fondaco.consensus.ledger.state import MemoryStore
from fondaco.protocol import codec
from fondaco.protocol.agreement import Block
import json
folder = Path(sys.argv[1])
genesis = genesis_from(json.loads((folder / "genesis.json").read_bytes()))
store = MemoryStore()
store.apply(genesis_writes(genesis))
ledger = Ledger(store, genesis.chain)
for raw in sorted(folder.glob("*.block")):
    block = codec.decode(raw.read_bytes(), Block)
    execution = ledger.prepare_proposal(
        time=block.header.time,
        proposer=block.header.proposer,
        previous_certificate=block.previous_certificate,
        candidates=block.transactions,
    )
    again = Ledger(store, genesis.chain).finalize_block(block)
    store.apply(again.writes)
    ledger.committed()
    print(execution.header.hash().hex(), execution.header.state_root.hex(), execution.header.events_root.hex())
"""
"""Makes each block anew out of its transactions, judges the block as it came, and tells what both come to."""
JUDGE_NEEDS = "import msgpack, nacl.bindings"
OLDEST_MINOR, NEWEST_MINOR = 11, 20


def ran(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Blocks of random messages, valid and invalid, as files, and what this process says that they come to."""
    folder, fuzz = tmp_path_factory.mktemp("blocks"), Fuzz(11)
    (folder / "genesis.json").write_text(json.dumps(fuzz.world.genesis.to_json()))
    lines = list[str]()
    for number in range(40):
        if number:
            fuzz.block(25)
        block = fuzz.world.blocks[-1].block
        (folder / f"{number:04}.block").write_bytes(codec.encode(block))
        header = block.header
        lines.append(f"{header.hash().hex()} {header.state_root.hex()} {header.events_root.hex()}")
    assert len(fuzz.outcomes) > 10, "much was refused"
    assert fuzz.outcomes[""] > 100, "and much was not"
    return folder, lines


def judged(python: str | Path, folder: Path, *, hash_seed: str) -> list[str]:
    run = ran(python, "-c", JUDGE, folder, PYTHONHASHSEED=hash_seed, PYTHONPATH=str(ROOT / "src"))
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def other_pythons() -> dict[str, str]:
    """Interpreters of other minor versions that this program supports, on the path or beside this one."""
    found = dict[str, str]()
    for minor in range(OLDEST_MINOR, NEWEST_MINOR):
        if minor == sys.version_info.minor:
            continue
        name = f"python3.{minor}"
        beside = Path(sys.base_prefix).parent.glob(f"3.{minor}*/bin/{name}")
        for path in filter(None, (shutil.which(name), *map(str, sorted(beside)))):
            # A name on the path need not lead anywhere.
            run = ran(path, "-c", "import sys; print(sys.version_info[1])")
            if run.stdout.strip() == str(minor):
                found[f"3.{minor}"] = path
    return found


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_every_block_comes_to_the_same_hashes_whatever_the_hash_seed(
    blocks: tuple[Path, list[str]], hash_seed: str
) -> None:
    folder, lines = blocks
    assert judged(sys.executable, folder, hash_seed=hash_seed) == lines


def test_every_block_comes_to_the_same_hashes_on_another_python(blocks: tuple[Path, list[str]]) -> None:
    folder, lines = blocks
    able = {
        version: python
        for version, python in other_pythons().items()
        if ran(python, "-c", JUDGE_NEEDS).returncode == 0
    }
    if not able:
        pytest.skip("no other Python here has msgpack and PyNaCl")
    for version, python in able.items():
        assert judged(python, folder, hash_seed="7") == lines, version


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_every_block_comes_to_the_same_hashes_on_all_pythons_there_are(
    blocks: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """Each in an environment made for it."""
    folder, lines = blocks
    others = other_pythons()
    if not others:
        pytest.skip("there is no other Python here")
    for version, python in others.items():
        assert ran(python, "-m", "venv", tmp_path / version).returncode == 0
        inside = tmp_path / version / "bin" / "python"
        if ran(inside, "-m", "pip", "install", "-c", ROOT / "constraints.txt", "msgpack", "pynacl").returncode:
            pytest.skip(f"nothing can be installed for Python {version} here")
        for hash_seed in ("0", "1"):
            assert judged(inside, folder, hash_seed=hash_seed) == lines, version


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
