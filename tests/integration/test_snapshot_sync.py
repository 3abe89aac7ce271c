"""Joining by a snapshot: real hosts on loopback, honest nodes over real files, and liars."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.chains import Town
from tests.support.light import Asked, Full, asking
from tests.support.network import address, seed

from fondaco.node import clock, snapshot_sync
from fondaco.node.config import NodeConfig
from fondaco.node.network.peers import PeerId
from fondaco.node.network.rpc import RpcClient, RpcServer
from fondaco.node.snapshot_sync import SnapshotSync
from fondaco.node.snapshots import Snapshots, SnapshotService
from fondaco.node.sync import SyncService
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Block
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.frames import hello
from fondaco.protocol.scalars import Hash, Height
from fondaco.protocol.signing import sha256
from fondaco.protocol.snapshots import PROTOCOL, SnapshotChunk

Methods = Mapping[str, Callable[..., Any]]
NODES = 3


class Scene:
    """A town's chain with a snapshot of many chunks at height 5, and two blocks more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.town = Town("alice", "bob", *(f"citizen {number}" for number in range(30)), validators=4)
        self.chain = self.town.open(path / "chain.db")
        self.snapshots = Snapshots.open(path / "snapshots")
        self.grow(5)
        self.manifest = self.snapshots.make(self.chain.store, self.chain.id)
        self.grow(2)

    def grow(self, blocks: int) -> None:
        alice, bob = self.town.actors("alice", "bob")
        for _ in range(blocks):
            at = max(self.chain.head.time, clock.now() - 60_000) + 1_000
            self.town.grow(self.chain, alice.pays(bob, 1), at=at)

    @property
    def honest(self) -> Methods:
        return SnapshotService(self.snapshots).methods()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(limits, "SNAPSHOT_CHUNK_ENTRIES", 6)
    scene = Scene(tmp_path)
    yield scene
    scene.chain.close()


@dataclass
class Joining:
    asked: Asked
    sync: SnapshotSync
    blamed: list[tuple[int, str]]
    """(which node, for what)"""
    asks: list[tuple[str, list[int]]]


@asynccontextmanager
async def joining(scene: Scene, data: Path, *nodes: Methods) -> AsyncIterator[Joining]:
    async with asking(scene.chain, *(Full(scene.chain).methods() for _ in nodes)) as asked:
        for host, methods in zip(asked.hosts, nodes, strict=True):
            RpcServer(host, PROTOCOL, dict(methods), hello=hello(scene.chain.id))
        rpc = RpcClient(asked.client.host, PROTOCOL, hello=hello(scene.chain.id))
        numbers = {host.peer_id: number for number, host in enumerate(asked.hosts)}
        blamed = list[tuple[int, str]]()
        asks = list[tuple[str, list[int]]]()

        async def call(peer: str, method: str, params: list[Any]) -> Any:
            asks.append((method, params))
            return await rpc.call(PeerId(peer), method, params)

        def blame(peer: str, fault: PeerFault) -> None:
            blamed.append((numbers[PeerId(peer)], fault.code))

        data.mkdir(exist_ok=True)
        sync = SnapshotSync(scene.chain.genesis, asked.client, call, blame, data)
        yield Joining(asked, sync, blamed, asks)


def check_joined(scene: Scene, data: Path) -> None:
    """The database goes on like the chain it was taken from, and nothing else is left."""
    assert [path.name for path in data.iterdir()] == ["chain.db"]
    chain = scene.town.open(data / "chain.db")
    try:
        assert chain.head.height == scene.manifest.height
        assert chain.store.first_height() == scene.manifest.height
        scene.town.copy(scene.chain, chain)
        assert chain.head == scene.chain.head
        scene.grow(1)
        scene.town.copy(scene.chain, chain)
        assert chain.head == scene.chain.head
        assert Full(chain).service._light_block(Height(5)) == Full(scene.chain).service._light_block(Height(5))
    finally:
        chain.close()


async def test_a_node_without_a_chain_gets_one_that_goes_on_as_the_others_do(scene: Scene, tmp_path: Path) -> None:
    async with joining(scene, tmp_path / "new", *[scene.honest] * NODES) as here:
        assert await here.sync.run() == 5
        assert here.sync.fetched == len(scene.manifest.chunks) > limits.SNAPSHOT_REQUESTS
        assert here.blamed == []
    check_joined(scene, tmp_path / "new")


async def test_one_node_alone_is_not_believed(scene: Scene, tmp_path: Path) -> None:
    none = {**scene.honest, "list": _answers([])}
    async with joining(scene, tmp_path / "new", scene.honest, none, none) as here:
        with pytest.raises(Unreachable, match=r"snapshot\.none"):
            await here.sync.run()
        assert list((tmp_path / "new").iterdir()) == []


async def test_what_was_fetched_before_a_crash_is_not_fetched_again(scene: Scene, tmp_path: Path) -> None:
    """But what was torn by it is."""
    scene.grow(3)
    older = scene.manifest
    newer = scene.snapshots.make(scene.chain.store, scene.chain.id)
    begun = tmp_path / "new" / "joining" / sha256(codec.encode(older)).hex()
    begun.mkdir(parents=True)
    for index in range(3):
        (begun / f"{index}.chunk").write_bytes(scene.snapshots.chunk(older.height, index))
    (begun / "2.chunk").write_bytes(b"torn")
    (tmp_path / "new" / "joining" / "another").mkdir()
    (tmp_path / "new" / "chain.db.restoring").write_bytes(b"half")
    async with joining(scene, tmp_path / "new", *[scene.honest] * NODES) as here:
        assert await here.sync.run() == older.height < newer.height
        assert here.sync.fetched == len(older.chunks) - 2
    check_joined(scene, tmp_path / "new")


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        ({"chunk": lambda scene: _answers(b"something else")}, "snapshot.chunk"),
        ({"chunk": lambda scene: _answers(7)}, "snapshot.answer"),
        ({"block": lambda scene: _answers(codec.encode(other_block(scene)))}, "block.value"),
        ({"block": lambda scene: _answers(b"\xc1")}, "codec.syntax"),
        ({"list": lambda scene: _answers([b"\xc1"])}, "codec.syntax"),
        ({"list": lambda scene: _answers([1])}, "snapshot.answer"),
        (
            {"list": lambda scene: _answers([codec.encode(replace(scene.manifest, chunks=()))])},
            "snapshot.manifest",
        ),
    ],
    ids=["chunk", "chunk type", "block", "block bytes", "list bytes", "list type", "manifest"],
)
async def test_a_peer_that_lies_is_blamed_and_the_others_are_asked(
    scene: Scene, tmp_path: Path, lie: dict[str, Callable[[Scene], Any]], code: str
) -> None:
    liar = {**scene.honest, **{name: make(scene) for name, make in lie.items()}}
    async with joining(scene, tmp_path / "new", liar, scene.honest, scene.honest) as here:
        assert await here.sync.run() == 5
        assert here.blamed == [(0, code)] or ("block" in lie and not here.blamed)  # if it was not asked first
    check_joined(scene, tmp_path / "new")


async def test_a_snapshot_that_two_liars_made_up_is_dropped_for_the_honest_one(
    scene: Scene, tmp_path: Path
) -> None:
    """Its chunks are as its manifest says, but they are not the state that the validators signed."""
    pieces = [scene.snapshots.chunk(Height(5), index) for index in range(len(scene.manifest.chunks))]
    first = codec.decode(pieces[0], SnapshotChunk)
    richer = replace(first, records=(replace(first.records[0], value=b"a million"), *first.records[1:]))
    pieces[0] = codec.encode(richer)
    forged = replace(scene.manifest, chunks=tuple(map(sha256, pieces)))
    begun = tmp_path / "new" / "joining" / sha256(codec.encode(forged)).hex()
    begun.mkdir(parents=True)  # so that it is tried first

    async def chunk(peer: str, params: Any) -> bytes:
        index: int = params[1]
        return pieces[index]

    liar = {**scene.honest, "list": _answers([codec.encode(forged)]), "chunk": chunk}
    async with joining(scene, tmp_path / "new", liar, liar, scene.honest) as here:
        with pytest.raises(Unreachable, match=r"snapshot\.none"):
            await here.sync.run()
        assert sorted(here.blamed) == [(0, "snapshot.root"), (1, "snapshot.root")]
        assert not (tmp_path / "new" / "chain.db").exists()
    async with joining(scene, tmp_path / "new", liar, scene.honest, scene.honest) as here:
        assert await here.sync.run() == 5
    check_joined(scene, tmp_path / "new")


async def test_a_snapshot_of_a_block_that_nobody_signed_is_refused_before_anything_is_fetched(
    scene: Scene, tmp_path: Path
) -> None:
    forged = replace(scene.manifest, block=Hash(bytes(32)))
    liar = {**scene.honest, "list": _answers([codec.encode(forged)])}
    async with joining(scene, tmp_path / "new", *[liar] * NODES) as here:
        with pytest.raises(Unreachable, match=r"snapshot\.none"):
            await here.sync.run()
        assert sorted(here.blamed) == [(number, "snapshot.block") for number in range(NODES)]
        assert {method for method, _ in here.asks} == {"list"}


async def test_where_nobody_gives_a_chunk_any_more_it_is_given_up(scene: Scene, tmp_path: Path) -> None:
    gone = {**scene.honest, "chunk": SnapshotService(Snapshots(tmp_path / "nowhere")).methods()["chunk"]}
    async with joining(scene, tmp_path / "new", *[gone] * NODES) as here:
        with pytest.raises(Unreachable, match=r"snapshot\.none"):
            await here.sync.run()
        assert here.blamed == []
        assert len([method for method, _ in here.asks if method == "chunk"]) >= NODES


async def test_a_database_that_holds_genesis_alone_gives_way(scene: Scene, tmp_path: Path) -> None:
    """Such is left by a start that found no snapshot: it must not keep the node from ever joining by one."""
    (tmp_path / "new").mkdir()
    scene.town.open(tmp_path / "new" / "chain.db").close()
    async with joining(scene, tmp_path / "new", *[scene.honest] * NODES) as here:
        await snapshot_sync.join(settings(tmp_path, here), scene.chain.genesis, seed(8))
    check_joined(scene, tmp_path / "new")


async def test_a_node_that_has_blocks_asks_nobody(scene: Scene, tmp_path: Path) -> None:
    """What a crash left just after it had joined goes."""
    (tmp_path / "new").mkdir()
    chain = scene.town.open(tmp_path / "new" / "chain.db")
    scene.town.copy(scene.chain, chain)
    head = chain.head
    chain.close()
    (tmp_path / "new" / "joining").mkdir()
    async with joining(scene, tmp_path / "new", *[scene.honest] * NODES) as here:
        await snapshot_sync.join(settings(tmp_path, here), scene.chain.genesis, seed(8))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["chain.db"]
    again = scene.town.open(tmp_path / "new" / "chain.db")
    assert again.head == head
    again.close()


async def test_where_nobody_has_a_snapshot_the_node_begins_without(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(snapshot_sync, "PATIENCE_S", 0.0)
    none = {**scene.honest, "list": _answers([])}
    async with joining(scene, tmp_path / "new", *[none] * NODES) as here:
        await snapshot_sync.join(settings(tmp_path, here), scene.chain.genesis, seed(8))
    assert "all blocks will be fetched: snapshot.none" in caplog.text
    assert list((tmp_path / "new").iterdir()) == []


async def test_a_header_vouched_for_is_what_joining_begins_with(scene: Scene, tmp_path: Path) -> None:
    wrong = f"4:{scene.manifest.block.hex()}"
    async with joining(scene, tmp_path / "new", *[scene.honest] * NODES) as here:
        with pytest.raises(Refused, match=r"light\.anchor"):
            await snapshot_sync.join(settings(tmp_path, here, trust=wrong), scene.chain.genesis, seed(8))
        right = f"5:{scene.manifest.block.hex()}"
        await snapshot_sync.join(settings(tmp_path, here, trust=right), scene.chain.genesis, seed(8))
    check_joined(scene, tmp_path / "new")


async def test_blocks_that_are_not_kept_are_refused_as_such(scene: Scene, tmp_path: Path) -> None:
    """They were there: who asks need not wait for them, as for those that are still to come."""
    scene.chain.store.prune(Height(4))
    sync = SyncService(scene.chain)
    async with joining(scene, tmp_path / "new", scene.honest) as here:
        peer, client = here.asked.peer(0), here.asked.client
        for height, code in ((1, "block.pruned"), (3, "block.pruned"), (0, "block.unknown"), (8, "block.unknown")):
            with pytest.raises(Refused) as refused:
                await client.block(peer, height)
            assert refused.value.code == code
        assert (await client.block(peer, 4)).signed.header.height == 4
    with pytest.raises(Refused, match=r"sync\.pruned"):
        await sync.blocks("somebody", [3, 7])
    assert len(await sync.blocks("somebody", [4, 7])) == 3


def settings(home: Path, here: Joining, trust: str = "") -> NodeConfig:
    """Of a node whose data lie in HOME/new."""

    class Here(NodeConfig):
        @property
        def data(self) -> Path:
            return self.home / "new"

    peers = tuple(address(host) for host in here.asked.hosts)
    return Here(home=home, name="n", listen="127.0.0.1:0", peers=peers, trust=trust)


def other_block(scene: Scene) -> Block:
    block = scene.chain.store.block(Height(4))
    assert block is not None
    return block


def _answers(value: Any) -> Callable[..., Any]:
    async def answer(peer: str, params: Any) -> Any:
        return value

    return answer
