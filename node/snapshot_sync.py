"""Joining a chain by a snapshot: fetched from peers, checked against a verified header, built, put in place.

    DATA/joining/ID/INDEX.chunk    chunks fetched so far, each checked by its hash; kept over a restart
    DATA/chain.db.restoring        the database while it is built

Nobody is trusted. A light client verifies the header at the snapshot's height, from genesis or from a header that
the operator vouches for, and two peers must show it and offer the same snapshot. The state is rebuilt from the
chunks, and its root must be the header's. Only then is there a database, and the blocks above come by sync.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import trio

from fondaco.consensus.blocks import check_bound
from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.ledger.snapshot import Restoration
from fondaco.consensus.proof import parse_header_id
from fondaco.node.chain import CHAIN
from fondaco.node.config import NodeConfig
from fondaco.node.files import sync_directory, write_atomically
from fondaco.node.groups import unwrapped
from fondaco.node.network.host import open_host
from fondaco.node.network.peers import PeerId
from fondaco.node.network.rpc import RpcClient
from fondaco.node.storage import ChainStore
from fondaco.node.tenant.headers import Headers
from fondaco.node.tenant.light import LightClient
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Block
from fondaco.protocol.errors import FondacoError, PeerFault, Unreachable
from fondaco.protocol.frames import hello
from fondaco.protocol.light import LightBlock
from fondaco.protocol.scalars import Height
from fondaco.protocol.signing import sha256
from fondaco.protocol.snapshots import PROTOCOL, SnapshotManifest, check_manifest

log = logging.getLogger("fondaco.snapshots")
T = TypeVar("T")
DATABASE = "chain.db"
JOINING = "joining"
WITNESSES = 2
"""So many peers must offer a snapshot, and show its header."""
PATIENCE_S = 30.0
"""How long peers that are just starting, or have no snapshot yet, are asked again."""
PAUSE_S = 1.0

Call = Callable[[str, str, list[Any]], Awaitable[Any]]
"""(peer, method, parameters) -> result, on `/fondaco/snapshot/1`."""
Blame = Callable[[str, PeerFault], None]


async def join(config: NodeConfig, genesis: Genesis, seed: bytes) -> None:
    """Give a node that has no block yet a database from a snapshot; without one it will fetch all blocks.

    Raises `Refused` `light.*` where no header can be trusted: genesis is too old, or `config.trust` is wrong.
    """
    if _has_begun(config.data / DATABASE):
        shutil.rmtree(config.data / JOINING, ignore_errors=True)  # left by a crash just after the end
        return
    async with open_host(seed, config.listen or None) as host:
        rpc = RpcClient(host, PROTOCOL, hello=hello(genesis.chain))

        async def call(peer: str, method: str, params: list[Any]) -> Any:
            return await rpc.call(PeerId(peer), method, params)

        def blame(peer: str, fault: PeerFault) -> None:
            host.blame(PeerId(peer), fault)

        give_up = trio.current_time() + PATIENCE_S
        while True:
            try:
                headers = await LightClient.connect(genesis, host, config.peers)
                if config.trust:
                    await headers.anchor_at(parse_header_id(config.trust))
                height = await SnapshotSync(genesis, headers, call, blame, config.data).run()
            except Unreachable as error:
                if trio.current_time() > give_up:
                    log.warning("all blocks will be fetched: %s", error)
                    return
                log.warning("%s", error)
                await trio.sleep(PAUSE_S)
            else:
                log.info("joined by a snapshot at height %d", height)
                return


@dataclass(slots=True)
class Offer:
    """A snapshot and those who offer it; whoever turns out not to have it, or to lie, is struck off."""

    manifest: SnapshotManifest
    id: str
    peers: list[str]


class SnapshotSync:
    """Fills an empty data folder with a chain as it stands at a recent height."""

    def __init__(self, genesis: Genesis, headers: Headers, call: Call, blame: Blame, data: Path) -> None:
        self._genesis = genesis
        self._headers = headers
        self._call = call
        self._blame = blame
        self._joining = data / JOINING
        self._database = data / DATABASE
        self.fetched = 0
        """Chunks taken from peers; those that lay here already do not count."""

    async def run(self) -> Height:
        """The height this node stands at when the database is there.

        Raises `Unreachable` `snapshot.none` if no snapshot could be had, and what the light client raises when
        it can trust nothing.
        """
        for offer in sorted(await self._offers(), key=self._preference, reverse=True):
            try:
                await self._take(offer)
            except PeerFault as fault:
                for peer in offer.peers:
                    self._blame(peer, fault)
            except Unreachable as error:
                log.warning("snapshot at height %d: %s", offer.manifest.height, error)
            else:
                return offer.manifest.height
        raise Unreachable(
            "snapshot.none",
            f"no snapshot that {WITNESSES} peers offer could be had",
            hint="do peers make snapshots (snapshot_interval)? without one, all blocks are fetched",
        )

    async def _offers(self) -> list[Offer]:
        """What enough peers offer alike."""
        offers: dict[str, Offer] = {}

        async def ask(peer: str) -> None:
            try:
                for raw in _manifests(await self._call(peer, "list", [])):
                    manifest = codec.decode(raw, SnapshotManifest)
                    check_manifest(manifest, self._genesis.chain)
                    identity = sha256(raw).hex()
                    offer = offers.setdefault(identity, Offer(manifest, identity, []))
                    if peer not in offer.peers:
                        offer.peers.append(peer)
            except PeerFault as fault:
                self._blame(peer, fault)
            except FondacoError as error:
                log.info("peer %s offers no snapshot: %s", peer, error)

        async with trio.open_nursery() as nursery:
            for peer in list(self._headers.peers):
                nursery.start_soon(ask, str(peer))
        return [offer for offer in offers.values() if len(offer.peers) >= WITNESSES]

    def _preference(self, offer: Offer) -> tuple[bool, int]:
        """One that was begun before a restart, then the newest."""
        return (self._joining / offer.id).exists(), offer.manifest.height

    async def _take(self, offer: Offer) -> None:
        manifest = offer.manifest
        light = await self._headers.confirmed(manifest.height, nodes=WITNESSES)
        if light.signed.header.hash() != manifest.block:
            raise PeerFault("snapshot.block", f"the block at height {manifest.height} is another one")
        here = self._joining / offer.id
        for other in self._joining.iterdir() if self._joining.is_dir() else ():
            if other != here:
                shutil.rmtree(other)
        here.mkdir(mode=0o700, parents=True, exist_ok=True)
        log.info("joining by the snapshot at height %d, %d chunks", manifest.height, len(manifest.chunks))
        block = await self._block(offer, light)
        await self._fetch(offer, here)
        try:
            await trio.to_thread.run_sync(
                self._build, manifest, here, light, block, trio.from_thread.check_cancelled
            )
        except PeerFault:
            shutil.rmtree(here)
            raise
        shutil.rmtree(self._joining)

    async def _block(self, offer: Offer, light: LightBlock) -> Block:
        def read(raw: bytes) -> Block:
            block = codec.decode(raw, Block)
            check_bound(block, light.signed.header.hash())
            return block

        return await self._ask(offer, 0, "block", [offer.manifest.height], read)

    async def _fetch(self, offer: Offer, here: Path) -> None:
        """Have every chunk on the disk, several asked for at once."""
        chunks = offer.manifest.chunks
        waiting = deque(
            index for index in range(len(chunks)) if not _lies_there(_path(here, index), chunks[index])
        )
        done = len(chunks) - len(waiting)

        async def fetch() -> None:
            nonlocal done
            while waiting:
                index = waiting.popleft()

                def read(raw: bytes, index: int = index) -> bytes:
                    if sha256(raw) != chunks[index]:
                        raise PeerFault("snapshot.chunk", f"chunk {index} is not what the manifest names")
                    return raw

                raw = await self._ask(offer, index, "chunk", [offer.manifest.height, index], read)
                write_atomically(_path(here, index), raw)
                done, self.fetched = done + 1, self.fetched + 1
                log.info("chunk %d of %d", done, len(chunks))

        with unwrapped():
            async with trio.open_nursery() as nursery:
                for _ in range(limits.SNAPSHOT_REQUESTS):
                    nursery.start_soon(fetch)

    async def _ask(self, offer: Offer, turn: int, method: str, params: list[Any], read: Callable[[bytes], T]) -> T:
        """Ask those who offer it, another one first each time, until one gives what `read` accepts."""
        first = turn % len(offer.peers) if offer.peers else 0
        for peer in (*offer.peers[first:], *offer.peers[:first]):
            try:
                raw = await self._call(peer, method, params)
                if type(raw) is not bytes:
                    raise PeerFault("snapshot.answer", f"a {method} comes as bytes")
                return read(raw)
            except PeerFault as fault:
                if peer in offer.peers:  # what it was asked at the same time is one lie
                    offer.peers.remove(peer)
                    self._blame(peer, fault)
            except FondacoError as error:
                log.info("peer %s: %s", peer, error)
        raise Unreachable("snapshot.unavailable", f"none of those who offer it gives {method} {params}")

    def _build(
        self, manifest: SnapshotManifest, here: Path, light: LightBlock, block: Block, tick: Callable[[], object]
    ) -> None:
        """Make the database out of chunks that lie here. Raises `PeerFault` if they are not the header's state."""
        building = self._database.with_name(f"{self._database.name}.restoring")
        _remove(building)
        store = ChainStore.open(building)
        try:
            restoration = Restoration(store, light.signed.header)
            for index in range(len(manifest.chunks)):
                store.commit(restoration.take(_path(here, index).read_bytes()))
                tick()
            last = {**restoration.finish(), CHAIN: self._genesis.chain.encode()}
            deciders = {manifest.height: codec.encode(light.validators)}
            store.commit_block(block, light.signed.certificate, last, deciders)
        except BaseException:
            store.close()
            _remove(building)
            raise
        store.close()
        _remove(self._database)  # one without a block, from a start that found no snapshot
        os.rename(building, self._database)
        sync_directory(self._database.parent)


def _has_begun(database: Path) -> bool:
    """Whether there is a block in it. A start that found no snapshot leaves one that holds genesis alone."""
    if not database.exists():
        return False
    store = ChainStore.open(database)
    try:
        return store.head() is not None
    finally:
        store.close()


def _manifests(answer: Any) -> list[bytes]:
    if type(answer) is not list or not all(type(one) is bytes for one in answer):
        raise PeerFault("snapshot.answer", "snapshots are listed as bytes")
    return answer[: limits.SNAPSHOTS_LISTED]


def _path(directory: Path, index: int) -> Path:
    return directory / f"{index}.chunk"


def _lies_there(path: Path, digest: bytes) -> bool:
    try:
        return sha256(path.read_bytes()) == digest
    except FileNotFoundError:
        return False


def _remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            database.with_name(database.name + suffix).unlink()
