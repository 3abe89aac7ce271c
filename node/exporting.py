"""A node's state as the genesis of another chain: what `fondaco genesis export` does with a home."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fondaco.consensus.ledger.memo import Records
from fondaco.consensus.ledger.start import read_head
from fondaco.node.config import NodeConfig
from fondaco.node.genesis_file import Checked, export, read_genesis, state_path
from fondaco.node.replay import Progress, replay
from fondaco.node.storage import ChainStore
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import Height, Millis


def export_node(
    config: NodeConfig,
    out: Path,
    *,
    name: str,
    height: Height | None = None,
    time: Millis | None = None,
    progress: Progress = lambda _done, _last: None,
) -> Checked:
    """Write the genesis of a chain that goes on from this node's after `height`, or its newest block.

    The node may be running: it is only read, as of one moment. For a height that has passed all its blocks must be
    there: they are executed again up to it.
    Raises `Refused` as `genesis_file.export`, `replay.replay` and `ChainStore.view`.
    """
    genesis = read_genesis(config.genesis)
    source = ChainStore.view(config.data / "chain.db")
    try:
        with source.unchanging():
            recorded = (source.get(b"a/chain") or b"").decode()
            if recorded != genesis.chain:
                raise Refused(
                    "chain.other", f"the database holds chain {recorded}, genesis.json is of {genesis.chain}"
                )
            if height is None or height == read_head(source, Records()).height:
                return export(source, out, name=name, time=time, auditors=genesis.auditors)
        with tempfile.TemporaryDirectory(prefix="fondaco-export-") as folder:
            past = ChainStore.open(Path(folder, "chain.db"))
            try:
                replay(source, genesis, state_path(config.genesis), past, to=height, progress=progress)
                return export(past, out, name=name, time=time, auditors=genesis.auditors)
            finally:
                past.close()
    finally:
        source.close()
