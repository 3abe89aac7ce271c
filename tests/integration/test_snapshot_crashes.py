"""kill -9 while a snapshot is made, and while one is restored: whole ones, or none."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.children import kill_after

from fondaco.consensus.ledger.state import State
from fondaco.node.snapshots import Snapshots
from fondaco.node.storage import ChainStore
from fondaco.protocol.signing import sha256

GROW = """
import sys
from pathlib import Path
from tests.support.chains import Town
from fondaco.protocol import limits
from fondaco.node.snapshots import Snapshots
from fondaco.node import snapshots as module

limits.SNAPSHOT_CHUNK_ENTRIES = 4
town = Town("alice", "bob", validators=2)
alice, bob = town.actors("alice", "bob")
chain = town.open(Path(sys.argv[1], "chain.db"))
snapshots = Snapshots.open(Path(sys.argv[1], "snapshots"))
write = module._write
def slowly(path, data):
    write(path, data)
    print(chain.head.height, path.name)
module._write = slowly
while True:
    town.grow(chain, alice.pays(bob, 1))
    snapshots.make(chain.store, chain.id)
"""

RESTORE = """
import sys
from pathlib import Path
from fondaco.consensus.ledger.snapshot import Restoration
from fondaco.node.snapshot_sync import SnapshotSync
from fondaco.node.snapshots import Snapshots
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec
from fondaco.protocol.agreement import Block, Validator
from fondaco.protocol.light import LightBlock

source = ChainStore.view(Path(sys.argv[1], "chain.db"))
snapshots = Snapshots.open(Path(sys.argv[1], "snapshots"))
stored = snapshots.stored()[0]
height = stored.manifest.height
signed, raw = source.signed_header(height), source.validator_set(height)
members = codec.decode(raw, tuple[Validator, ...])
light = LightBlock(signed=signed, validators=members, next_validators=members)
block = codec.decode(snapshots.block(height), Block)

class Genesis:
    chain = stored.manifest.chain

take = Restoration.take
def slowly(self, raw):
    print("taking")
    return take(self, raw)
Restoration.take = slowly
sync = SnapshotSync(Genesis, None, None, None, Path(sys.argv[2]))
while True:
    sync._build(stored.manifest, snapshots.directory / str(height), light, block, lambda: None)
    print("built")
"""


@pytest.mark.parametrize("lines", [2, 17, 26])
def test_a_node_killed_while_it_makes_snapshots_offers_whole_ones_only(lines: int, tmp_path: Path) -> None:
    written = kill_after(GROW, tmp_path, lines=lines)
    snapshots = Snapshots.open(tmp_path / "snapshots")
    assert not (tmp_path / "snapshots" / ".making").exists()
    for stored in snapshots.stored():
        manifest = stored.manifest
        for index, digest in enumerate(manifest.chunks):
            assert sha256(snapshots.chunk(manifest.height, index)) == digest
    finished = [int(line.split()[0]) for line in written if line.endswith("manifest")][:-1]
    if finished:  # the newest may have been killed before it got its name
        assert snapshots.stored()[0].manifest.height >= finished[-1]


@pytest.mark.parametrize("lines", [1, 8])
def test_a_node_killed_while_it_restores_has_a_whole_database_or_none(lines: int, tmp_path: Path) -> None:
    kill_after(GROW, tmp_path, lines=24)
    data = tmp_path / "data"
    data.mkdir()
    said = kill_after(RESTORE, tmp_path, data, lines=lines)
    manifest = Snapshots.open(tmp_path / "snapshots").stored()[0].manifest
    assert (data / "chain.db").exists() or "built" not in said
    kill_after(RESTORE, tmp_path, data, lines=len(manifest.chunks) + 1)
    store = ChainStore.view(data / "chain.db")
    signed = store.signed_header(manifest.height)
    assert signed is not None
    assert signed.header.hash() == manifest.block
    assert State(store).seal() == signed.header.state_root
    store.close()
