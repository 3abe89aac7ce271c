"""Snapshots on the disk: made every so many blocks beside consensus, kept, and given to peers.

    DATA/snapshots/HEIGHT/manifest         a `SnapshotManifest`
    DATA/snapshots/HEIGHT/block            the block at that height
    DATA/snapshots/HEIGHT/INDEX.chunk      the chunks, by number

A snapshot is written under another name, forced to the disk and renamed: there is a whole one or none. It is read
from the database as it stood when its block was committed, in a thread, while the chain goes on.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from fondaco.consensus.ledger import snapshot
from fondaco.consensus.ledger.application import Execution
from fondaco.consensus.ledger.snapshot import Restoration
from fondaco.node.chain import Chain
from fondaco.node.files import sync_directory, write_all
from fondaco.node.news import News
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import FondacoError, Malformed, PeerFault, Refused
from fondaco.protocol.scalars import ChainId, Height
from fondaco.protocol.signing import sha256
from fondaco.protocol.snapshots import FORMAT, SnapshotManifest

log = logging.getLogger("fondaco.snapshots")
KEPT = 2
"""So that whoever fetches the older one may finish."""
MAKING = ".making"
Tick = Callable[[], object]
Progress = Callable[[int, int], object]
"""(done, whole)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A snapshot that lies here."""

    manifest: SnapshotManifest
    size: int
    """Bytes of all its chunks."""


class Snapshots:
    """Those that lie in one folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stored: dict[Height, Stored] = {}
        """Replaced, never changed: a thread makes snapshots while peers are told which there are."""

    @classmethod
    def open(cls, directory: Path) -> Snapshots:
        """Take over what is there; what was half made when the process ended goes."""
        shutil.rmtree(directory / MAKING, ignore_errors=True)
        found = cls(directory)
        found.look()
        return found

    def look(self) -> None:
        """See what lies in the folder; nothing is changed."""
        stored = dict[Height, Stored]()
        for path in self.directory.iterdir() if self.directory.is_dir() else ():
            if path.name.isdigit():
                try:
                    manifest = codec.decode((path / "manifest").read_bytes(), SnapshotManifest)
                except (OSError, Malformed) as error:
                    log.warning("%s is no snapshot: %s", path, error)
                    continue
                size = sum(chunk.stat().st_size for chunk in path.glob("*.chunk"))
                stored[manifest.height] = Stored(manifest=manifest, size=size)
        self._stored = stored

    def stored(self) -> list[Stored]:
        """The newest first."""
        return sorted(self._stored.values(), key=lambda one: one.manifest.height, reverse=True)

    def oldest(self) -> Height | None:
        return min(self._stored, default=None)

    def chunk(self, height: Height, index: int) -> bytes:
        """Raises `Refused` `snapshot.unknown`."""
        return self._read(height, f"{index}.chunk")

    def block(self, height: Height) -> bytes:
        """The block after which the state is that of the snapshot. Raises `Refused` `snapshot.unknown`."""
        return self._read(height, "block")

    def _read(self, height: Height, name: str) -> bytes:
        if height in self._stored:
            try:
                return (self.directory / str(height) / name).read_bytes()
            except FileNotFoundError:
                pass
        raise Refused("snapshot.unknown", f"no {name} of a snapshot at height {height} lies here")

    def make(self, store: ChainStore, chain: ChainId, tick: Tick = lambda: None) -> SnapshotManifest:
        """Write a snapshot of `store`, which stands still meanwhile, and drop those that are one too many.

        `tick` is called between chunks, and may raise to give up. Raises `OSError` if the disk refuses, and
        `Refused` `snapshot.empty` for a chain without a block.
        """
        head = store.head()
        body = None if head is None else store.block(head.height)
        if head is None or body is None:
            raise Refused("snapshot.empty", "there is no block yet")
        making = self.directory / MAKING
        try:
            making.mkdir(mode=0o700, parents=True)
            hashes = []
            for index, chunk in enumerate(snapshot.chunks(store)):
                _write(making / f"{index}.chunk", chunk)
                hashes.append(sha256(chunk))
                tick()
            manifest = SnapshotManifest(
                format=FORMAT, chain=chain, height=head.height, block=head.hash, chunks=tuple(hashes)
            )
            _write(making / "block", codec.encode(body))
            _write(making / "manifest", codec.encode(manifest))
            sync_directory(making)
            shutil.rmtree(self.directory / str(head.height), ignore_errors=True)
            os.rename(making, self.directory / str(head.height))
            sync_directory(self.directory)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        self.look()
        newest = self.stored()
        self._stored = {one.manifest.height: one for one in newest[:KEPT]}
        for old in newest[KEPT:]:
            shutil.rmtree(self.directory / str(old.manifest.height), ignore_errors=True)
        return manifest

    def check(
        self, height: Height, source: ChainStore, into: ChainStore, progress: Progress = lambda _done, _whole: None
    ) -> SnapshotManifest:
        """Rebuild a snapshot in the empty store `into` and compare it with the block that `source` has.

        Raises `Refused` `snapshot.*` or `codec.*` for one that is not that block's state.
        """
        stored = self._stored.get(height)
        signed = source.signed_header(height)
        if stored is None or signed is None:
            what = "snapshot" if stored is None else "block"
            raise Refused("snapshot.unknown", f"no {what} at height {height} lies here")
        if signed.header.hash() != stored.manifest.block:
            raise Refused("snapshot.block", "it was made at another block of this height")
        restoration = Restoration(into, signed.header)
        for index, digest in enumerate(stored.manifest.chunks):
            raw = self.chunk(height, index)
            if sha256(raw) != digest:
                raise Refused("snapshot.chunk", f"chunk {index} is not what the manifest names")
            with _as_refusal():
                into.commit(restoration.take(raw))
            progress(index + 1, len(stored.manifest.chunks))
        with _as_refusal():
            into.commit(restoration.finish())
        return stored.manifest


class SnapshotMaker:
    """Makes a snapshot of a running chain at every height that `interval` divides."""

    def __init__(self, chain: Chain, snapshots: Snapshots, interval: int) -> None:
        self._chain = chain
        self._snapshots = snapshots
        self._interval = interval
        self._due = News()
        self._view: tuple[ChainStore, ExitStack] | None = None
        self.busy = False
        """Whether one is being made, or about to be."""
        chain.listeners.append(self._on_commit)

    def _on_commit(self, execution: Execution) -> None:
        height = execution.block.header.height
        if height % self._interval:
            return
        if self.busy:
            log.warning("no snapshot at height %d: the one before is still being made", height)
            return
        try:  # here, where no further block can come between
            view = ChainStore.view(self._chain.store.path)
        except Refused as refusal:
            log.error("no snapshot at height %d: %s", height, refusal)
            return
        closing = ExitStack()
        closing.callback(view.close)
        closing.enter_context(view.unchanging())
        self._view, self.busy = (view, closing), True
        self._due.ring()

    async def run(self) -> None:
        """Until cancelled. A snapshot that fails is missing, and no more: the chain goes on."""
        try:
            while True:
                waiting = self._due.next
                if self._view is not None:
                    await self._make(*self._view)
                await waiting.wait()
        finally:
            if self._view is not None:  # due, and not begun
                self._view[1].close()

    async def _make(self, view: ChainStore, closing: ExitStack) -> None:
        with closing:
            try:
                manifest = await trio.to_thread.run_sync(
                    self._snapshots.make, view, self._chain.id, trio.from_thread.check_cancelled
                )
            except (OSError, FondacoError) as error:
                log.error("no snapshot: %s", error)
            else:
                log.info("snapshot at height %d: %d chunks", manifest.height, len(manifest.chunks))
            finally:
                self._view, self.busy = None, False


class SnapshotService:
    """What this node answers on `/fondaco/snapshot/1`.

    `list` [] -> manifests as bytes, the newest first; `chunk` [height, index] and `block` [height] -> bytes.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def methods(self) -> dict[str, Callable[..., Any]]:
        return {"list": self.list, "chunk": self.chunk, "block": self.block}

    async def list(self, peer: str, params: Any) -> list[bytes]:
        return [codec.encode(one.manifest) for one in self._snapshots.stored()][: limits.SNAPSHOTS_LISTED]

    async def chunk(self, peer: str, params: Any) -> bytes:
        height, index = _integers(params, 2)
        return self._snapshots.chunk(Height(height), index)

    async def block(self, peer: str, params: Any) -> bytes:
        (height,) = _integers(params, 1)
        return self._snapshots.block(Height(height))


@contextmanager
def _as_refusal() -> Iterator[None]:
    """What would be a peer's fault is, on our own disk, just wrong."""
    try:
        yield
    except PeerFault as fault:
        raise Refused(fault.code, fault.message) from None


def _integers(params: Any, count: int) -> list[int]:
    if type(params) is not list or len(params) != count or not all(type(one) is int for one in params):
        raise Refused("request.params", f"wanted {count} numbers")
    return params


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
