"""Snapshots on the disk: whole or not there, alike on every node, made while the chain goes on."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.support.chains import Town, town_chain
from tests.support.network import until

from fondaco.node import snapshots as module
from fondaco.node.chain import Chain
from fondaco.node.snapshots import SnapshotMaker, Snapshots, SnapshotService
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec
from fondaco.protocol.agreement import Block
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import Height
from fondaco.protocol.signing import sha256
from fondaco.protocol.snapshots import SnapshotManifest


@pytest.fixture
def grown(tmp_path: Path) -> Iterator[tuple[Town, Chain]]:
    with town_chain(tmp_path, "alice", "bob", validators=4) as (town, chain):
        grow(town, chain, 3)
        yield town, chain


def grow(town: Town, chain: Chain, blocks: int) -> None:
    alice, bob = town.actors("alice", "bob")
    for _ in range(blocks):
        town.grow(chain, alice.pays(bob, 1))


def heights(snapshots: Snapshots) -> list[int]:
    return [one.manifest.height for one in snapshots.stored()]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_snapshot_is_found_again_with_its_block_and_its_chunks(
    grown: tuple[Town, Chain], tmp_path: Path
) -> None:
    _, chain = grown
    made = Snapshots.open(tmp_path / "here").make(chain.store, chain.id)
    again = Snapshots.open(tmp_path / "here")
    (stored,) = again.stored()
    assert stored.manifest == made
    assert (made.height, made.block, made.chain) == (3, chain.head.hash, chain.id)
    chunks = [again.chunk(Height(3), index) for index in range(len(made.chunks))]
    assert tuple(sha256(chunk) for chunk in chunks) == made.chunks
    assert stored.size == sum(map(len, chunks))
    assert codec.decode(again.block(Height(3)), Block) == chain.store.block(Height(3))


def test_two_nodes_at_one_height_make_the_same_snapshot(grown: tuple[Town, Chain], tmp_path: Path) -> None:
    town, chain = grown
    other = town.open(tmp_path / "other.db")
    town.copy(chain, other)
    first = Snapshots.open(tmp_path / "one").make(chain.store, chain.id)
    assert Snapshots.open(tmp_path / "two").make(other.store, other.id) == first
    other.close()


def test_the_newest_two_are_kept_and_a_second_of_one_height_takes_its_place(
    grown: tuple[Town, Chain], tmp_path: Path
) -> None:
    town, chain = grown
    snapshots = Snapshots.open(tmp_path / "here")
    assert snapshots.oldest() is None
    for _ in range(2):
        snapshots.make(chain.store, chain.id)
    for _ in range(3):
        grow(town, chain, 1)
        snapshots.make(chain.store, chain.id)
    assert heights(snapshots) == [6, 5]
    assert names(tmp_path / "here") == ["5", "6"]
    assert snapshots.oldest() == 5


def test_what_was_half_made_is_removed_and_what_is_damaged_is_not_offered(
    grown: tuple[Town, Chain], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, chain = grown
    here = tmp_path / "here"
    Snapshots.open(here).make(chain.store, chain.id)
    (here / ".making").mkdir()
    (here / ".making" / "0.chunk").write_bytes(b"half")
    (here / "7").mkdir()
    (here / "8").mkdir()
    (here / "8" / "manifest").write_bytes(b"\xc1")
    assert heights(Snapshots.open(here)) == [3]
    assert not (here / ".making").exists()
    assert caplog.text.count("is no snapshot") == 2


def test_a_disk_that_refuses_leaves_nothing_behind(
    grown: tuple[Town, Chain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, chain = grown
    snapshots = Snapshots.open(tmp_path / "here")

    def full(descriptor: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_all", full)
    with pytest.raises(OSError, match="No space"):
        snapshots.make(chain.store, chain.id)
    assert (snapshots.stored(), names(tmp_path / "here")) == ([], [])


def test_a_chain_without_a_block_has_no_snapshot(tmp_path: Path) -> None:
    with (
        town_chain(tmp_path, "alice") as (_, chain),
        pytest.raises(Refused, match=r"snapshot\.empty"),
    ):
        Snapshots.open(tmp_path / "here").make(chain.store, chain.id)


async def test_one_is_made_at_every_interval_while_the_chain_goes_on(
    grown: tuple[Town, Chain], tmp_path: Path
) -> None:
    """It is of the height at which it was due, though blocks follow before anything of it is read."""
    town, chain = grown
    snapshots = Snapshots.open(tmp_path / "here")
    maker = SnapshotMaker(chain, snapshots, 5)
    grow(town, chain, 4)
    assert chain.head.height == 7
    async with trio.open_nursery() as nursery:
        nursery.start_soon(maker.run)
        await until(lambda: heights(snapshots) == [5] and not maker.busy)
        grow(town, chain, 3)
        await until(lambda: heights(snapshots) == [10, 5])
        nursery.cancel_scope.cancel()
    other = town.open(tmp_path / "other.db")
    for height in range(1, 6):
        block, certificate = chain.store.block(Height(height)), chain.store.certificate(Height(height))
        assert block is not None
        assert certificate is not None
        other.commit(block, certificate)
    twin = Snapshots.open(tmp_path / "twin").make(other.store, other.id)
    assert snapshots.stored()[1].manifest == twin
    other.close()


async def test_the_next_is_left_out_while_one_is_being_made(
    grown: tuple[Town, Chain], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    town, chain = grown
    snapshots = Snapshots.open(tmp_path / "here")
    maker = SnapshotMaker(chain, snapshots, 2)
    grow(town, chain, 3)  # 4 is due, and 6 while nobody has begun with it
    assert "no snapshot at height 6" in caplog.text
    async with trio.open_nursery() as nursery:
        nursery.start_soon(maker.run)
        await until(lambda: heights(snapshots) == [4] and not maker.busy)
        grow(town, chain, 2)
        await until(lambda: heights(snapshots) == [8, 4])
        nursery.cancel_scope.cancel()


async def test_one_that_fails_is_missing_and_the_chain_goes_on(
    grown: tuple[Town, Chain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    town, chain = grown
    snapshots = Snapshots.open(tmp_path / "here")
    maker = SnapshotMaker(chain, snapshots, 2)

    def broken(path: Path) -> ChainStore:
        raise Refused("storage.unusable", "no more files")

    with monkeypatch.context() as patched:
        patched.setattr(ChainStore, "view", broken)
        grow(town, chain, 1)
    assert "no more files" in caplog.text
    (tmp_path / "here").write_bytes(b"a file in the way")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(maker.run)
        grow(town, chain, 2)
        await until(lambda: "no snapshot: " in caplog.text and not maker.busy)
        (tmp_path / "here").unlink()
        grow(town, chain, 2)
        await until(lambda: heights(snapshots) == [8])
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("chunk", [3, 99], "snapshot.unknown"),
        ("chunk", [3, -1], "snapshot.unknown"),
        ("chunk", [4, 0], "snapshot.unknown"),
        ("block", [4], "snapshot.unknown"),
        ("chunk", [3], "request.params"),
        ("chunk", ["3", "../../secret"], "request.params"),
        ("block", None, "request.params"),
    ],
)
async def test_what_is_not_there_is_refused(
    grown: tuple[Town, Chain], tmp_path: Path, method: str, params: Any, code: str
) -> None:
    _, chain = grown
    snapshots = Snapshots.open(tmp_path / "here")
    made = snapshots.make(chain.store, chain.id)
    methods = SnapshotService(snapshots).methods()
    assert [codec.decode(raw, SnapshotManifest) for raw in await methods["list"]("peer", [])] == [made]
    assert sha256(await methods["chunk"]("peer", [3, 0])) == made.chunks[0]
    with pytest.raises(Refused) as caught:
        await methods[method]("peer", params)
    assert caught.value.code == code


async def test_one_that_is_due_when_the_node_stops_leaves_the_database_alone(
    grown: tuple[Town, Chain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town, chain = grown
    views = list[ChainStore]()
    view = ChainStore.view

    def watched(path: Path) -> ChainStore:
        views.append(view(path))
        return views[-1]

    monkeypatch.setattr(ChainStore, "view", watched)
    async with trio.open_nursery() as nursery:
        maker = SnapshotMaker(chain, Snapshots.open(tmp_path / "here"), 1)
        nursery.start_soon(maker.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        grow(town, chain, 1)
    (opened,) = views
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened._execute("SELECT 1")
    assert names(tmp_path) == ["chain.db", "chain.db-shm", "chain.db-wal"]


def test_what_is_being_removed_is_not_offered_any_more(
    grown: tuple[Town, Chain], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread removes it while peers are told what there is."""
    town, chain = grown
    snapshots = Snapshots.open(tmp_path / "here")
    offered = dict[str, list[int]]()
    remove = shutil.rmtree

    def watched(path: Path, *, ignore_errors: bool) -> None:
        if path.exists():
            offered[path.name] = heights(snapshots)
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", watched)
    for _ in range(4):
        snapshots.make(chain.store, chain.id)
        before = snapshots._stored
        listed = dict(before)
        grow(town, chain, 1)
    assert offered == {"3": [5, 4], "4": [6, 5]}
    snapshots.make(chain.store, chain.id)
    assert before == listed
