"""`fondaco snapshot` over a node's folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.chains import Town

from fondaco.node.cli import cli
from fondaco.node.config import NodeConfig, dump
from fondaco.node.files import DirectoryLock
from fondaco.protocol import codec
from fondaco.protocol.scalars import Hash
from fondaco.protocol.signing import sha256
from fondaco.protocol.snapshots import SnapshotChunk, SnapshotManifest


def fondaco(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def told(*arguments: object) -> Any:
    result = fondaco(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A stopped node, three blocks into its chain."""
    town = Town("alice", "bob", validators=2)
    settings = NodeConfig(home=tmp_path, name="n", listen="127.0.0.1:4001")
    settings.data.mkdir()
    (tmp_path / "node.toml").write_text(dump(settings))
    (tmp_path / "genesis.json").write_text(json.dumps(town.genesis.to_json()))
    chain = town.open(settings.data / "chain.db")
    for _ in range(3):
        town.grow(chain, town.actors("alice")[0].pays(town.actors("bob")[0], 1))
    chain.close()
    return tmp_path


def test_one_is_made_listed_and_checked(home: Path) -> None:
    assert fondaco("snapshot", "list", "--home", home).output == "no snapshot here yet\n"
    made = told("snapshot", "make", "--home", home)
    assert (made["height"], made["chunks"]) == (3, 1)
    (row,) = told("snapshot", "list", "--home", home)["snapshots"]
    assert row == {**made, "bytes": (home / "data/snapshots/3/0.chunk").stat().st_size}
    assert told("snapshot", "check", "--home", home, 3) == {**made, "good": True}
    for words in (("list",), ("check", 3), ("make",)):
        result = fondaco("snapshot", words[0], "--home", home, *words[1:])
        assert result.exit_code == 0
        assert made["block"] in result.output


def test_what_is_wrong_with_one_is_said_in_one_line(home: Path) -> None:
    told("snapshot", "make", "--home", home)
    folder = home / "data" / "snapshots" / "3"
    result = fondaco("snapshot", "check", "--home", home, 2)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "[snapshot.unknown]" in result.stderr
    chunk = (folder / "0.chunk").read_bytes()
    (folder / "0.chunk").write_bytes(chunk[:-1] + bytes([chunk[-1] ^ 1]))
    assert "[snapshot.chunk]" in fondaco("snapshot", "check", "--home", home, 3).stderr
    (folder / "0.chunk").unlink()
    assert "[snapshot.unknown]" in fondaco("snapshot", "check", "--home", home, 3).stderr


def test_a_snapshot_of_other_records_or_of_another_block_is_found_out(home: Path) -> None:
    told("snapshot", "make", "--home", home)
    folder = home / "data" / "snapshots" / "3"
    manifest = codec.decode((folder / "manifest").read_bytes(), SnapshotManifest)
    chunk = codec.decode((folder / "0.chunk").read_bytes(), SnapshotChunk)
    raw = codec.encode(replace(chunk, records=chunk.records[1:]))
    (folder / "0.chunk").write_bytes(raw)
    (folder / "manifest").write_bytes(codec.encode(replace(manifest, chunks=(sha256(raw),))))
    assert "[snapshot.root]" in fondaco("snapshot", "check", "--home", home, 3).stderr
    (folder / "manifest").write_bytes(codec.encode(replace(manifest, block=Hash(bytes(32)))))
    assert "[snapshot.block]" in fondaco("snapshot", "check", "--home", home, 3).stderr


def test_none_is_made_under_a_running_node(home: Path) -> None:
    with DirectoryLock(home / "data"):
        result = fondaco("snapshot", "make", "--home", home)
    assert result.exit_code == 1
    assert "[home.in_use]" in result.stderr


@pytest.mark.parametrize("line", ["snapshot_interval = -1", "keep_blocks = 7", "keep_blocks = -1"])
def test_settings_out_of_range_are_refused(home: Path, line: str) -> None:
    path = home / "node.toml"
    name = line.split()[0]
    lines = [kept for kept in path.read_text().splitlines() if not kept.startswith(name)]
    path.write_text("\n".join([*lines, line]))
    result = fondaco("snapshot", "list", "--home", home)
    assert result.exit_code == 1
    assert "[config.field]" in result.stderr
    assert name in result.stderr
