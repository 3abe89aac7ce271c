"""Snapshots of the state, as nodes offer them to those that join.

Tags 155 and 156, on `/fondaco/snapshot/1`. Nothing here is trusted for who said it: chunks are checked by the
manifest's hashes, and what they add up to by the state root of a header that a light client has verified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import ChainId, Hash, Height, TxId

PROTOCOL = "/fondaco/snapshot/1"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotManifest:
    """What a snapshot consists of. Nodes that are at one height make the same, to the byte."""

    TAG: ClassVar[int] = 155
    format: int
    chain: ChainId
    height: Height
    """The state is that after this block."""
    block: Hash
    """The hash of its header."""
    chunks: tuple[Hash, ...]
    """SHA-256 of each, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRecord:
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotId:
    """A transaction that was included and has not expired."""

    bucket: int
    """As in the record that counts it, `used-ids/`."""
    id: TxId


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotChunk:
    """A piece of a state: records by key, behind them ids by bucket, in each in the order of their blocks."""

    TAG: ClassVar[int] = 156
    records: tuple[SnapshotRecord, ...]
    ids: tuple[SnapshotId, ...]


def check_manifest(manifest: SnapshotManifest, chain: ChainId) -> None:
    """Raise `PeerFault` `snapshot.manifest` for one that no honest node offers on `chain`."""
    if manifest.format != FORMAT:
        raise PeerFault("snapshot.manifest", f"snapshot format {manifest.format}, known is {FORMAT}")
    if manifest.chain != chain:
        raise PeerFault("snapshot.manifest", f"a snapshot of chain {manifest.chain}, not of {chain}")
    if not 0 < len(manifest.chunks) <= limits.SNAPSHOT_CHUNKS:
        raise PeerFault("snapshot.manifest", f"{len(manifest.chunks)} chunks, from 1 to {limits.SNAPSHOT_CHUNKS}")
