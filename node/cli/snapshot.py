"""`fondaco snapshot`: the snapshots that a node keeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.node import node_home
from fondaco.node.cli.output import json_option, print_json, progress

if TYPE_CHECKING:
    from fondaco.protocol.snapshots import SnapshotManifest


@click.group()
def snapshot() -> None:
    """Look at the snapshots in a node's folder, check them, or make one.

    A running node makes them by itself (`snapshot_interval` in its node.toml) and gives them to nodes that join.
    """


@snapshot.command("list")
@node_home
@json_option
def list_(home: Path, as_json: bool) -> None:
    """List the snapshots that lie in HOME, the newest first."""
    from fondaco.node.snapshots import Snapshots

    snapshots = Snapshots(_folder(home))
    snapshots.look()
    rows = [{**_row(one.manifest), "bytes": one.size} for one in snapshots.stored()]
    if as_json:
        print_json({"snapshots": rows})
        return
    if not rows:
        click.echo("no snapshot here yet")
    for row in rows:
        click.echo(
            f"height {row['height']:<10} {row['chunks']:>6} chunks {row['bytes']:>12} bytes  {row['block']}"
        )


@snapshot.command()
@node_home
@json_option
def make(home: Path, as_json: bool) -> None:
    """Make a snapshot of the newest block of the node in HOME, which must not be running."""
    from fondaco.node import config
    from fondaco.node.files import DirectoryLock
    from fondaco.node.genesis_file import read_genesis
    from fondaco.node.snapshots import Snapshots
    from fondaco.node.storage import ChainStore

    settings = config.load(home)
    with DirectoryLock(settings.data):
        store = ChainStore.view(settings.data / "chain.db")
        try:
            made = Snapshots.open(_folder(home)).make(store, read_genesis(settings.genesis).chain)
        finally:
            store.close()
    _say(_row(made), as_json)


@snapshot.command()
@node_home
@click.argument("height", type=click.IntRange(min=0))
@json_option
def check(home: Path, height: int, as_json: bool) -> None:
    """Rebuild the state at HEIGHT from its snapshot in HOME and compare it with the header of that block.

    Exit code 1, and one line that says what is wrong, if it is not that state.
    """
    import tempfile

    from fondaco.node import config
    from fondaco.node.snapshots import Snapshots
    from fondaco.node.storage import ChainStore
    from fondaco.protocol.scalars import Height

    settings = config.load(home)
    snapshots = Snapshots(_folder(home))
    snapshots.look()
    source = ChainStore.view(settings.data / "chain.db")
    try:
        with tempfile.TemporaryDirectory(prefix="fondaco-snapshot-") as folder:
            into = ChainStore.open(Path(folder, "chain.db"))
            try:
                found = snapshots.check(Height(height), source, into, progress=progress("checked"))
            finally:
                into.close()
    finally:
        source.close()
    _say({**_row(found), "good": True}, as_json)


def _folder(home: Path) -> Path:
    from fondaco.node import config

    return config.load(home).data / "snapshots"


def _row(manifest: SnapshotManifest) -> dict[str, Any]:
    return {
        "height": manifest.height,
        "block": manifest.block.hex(),
        "chain": manifest.chain,
        "chunks": len(manifest.chunks),
    }


def _say(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    for key, value in row.items():
        click.echo(f"{key:<16} {value}")
