"""Snapshots: all that execution depends on after one block, in pieces that anybody can check.

These are the records under the state root, and of the transactions that have not expired their ids, in the order
in which their bucket's running hash has them. Not the tree, which whoever restores builds anew: its root must be
the header's. Equal states give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from fondaco.consensus.ledger import envelope
from fondaco.consensus.ledger.memo import Records
from fondaco.consensus.ledger.start import HEAD, Head, read_head
from fondaco.consensus.ledger.state import AUX, RECORD, State, Store, Writes
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Header
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.records import UsedIds, key_used_ids
from fondaco.protocol.scalars import Hash, Millis, TxId
from fondaco.protocol.snapshots import SnapshotChunk, SnapshotId, SnapshotRecord

PAGE = 1_000
ENTRY_OVERHEAD_BYTES = 16
"""More than the codec adds to a record or an id."""
BUCKET_BYTES = 8
BUCKETS = 64
"""More than transactions can live for."""


def chunks(store: Store) -> Iterator[bytes]:
    """The state in `store` as the canonical bytes of `SnapshotChunk`s, at most `limits.SNAPSHOT_CHUNK_BYTES` each.

    The store must stand still meanwhile; a chunk is made when it is asked for.
    """
    records, ids, size = list[SnapshotRecord](), list[SnapshotId](), 0
    for entry in _entries(store):
        grown = size + _size(entry)
        if size and (
            grown > limits.SNAPSHOT_CHUNK_BYTES or len(records) + len(ids) >= limits.SNAPSHOT_CHUNK_ENTRIES
        ):
            yield codec.encode(SnapshotChunk(records=tuple(records), ids=tuple(ids)))
            records, ids, grown = [], [], _size(entry)
        if isinstance(entry, SnapshotRecord):
            records.append(entry)
        else:
            ids.append(entry)
        size = grown
    yield codec.encode(SnapshotChunk(records=tuple(records), ids=tuple(ids)))


def _entries(store: Store) -> Iterator[SnapshotRecord | SnapshotId]:
    for key, value in _everything(store, RECORD):
        yield SnapshotRecord(key=key, value=value)
    live = envelope.first_live_bucket(read_head(store, Records()).time)
    bucket, placed = live, list[tuple[bytes, TxId]]()
    for key, place in _everything(store, AUX + envelope.USED):
        number = int.from_bytes(key[:BUCKET_BYTES], "big")
        if number != bucket:
            yield from _in_order(bucket, placed)
            bucket, placed = number, []
        if number >= live:
            placed.append((place, TxId(key[BUCKET_BYTES:])))
    yield from _in_order(bucket, placed)


def _in_order(bucket: int, placed: list[tuple[bytes, TxId]]) -> Iterator[SnapshotId]:
    for _, identity in sorted(placed):
        yield SnapshotId(bucket=bucket, id=identity)


def _everything(store: Store, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All entries below `prefix`, their keys without it."""
    start, end = prefix, prefix[:-1] + b"0"  # "0" follows the "/" that each prefix ends in
    while page := list(store.scan(start, end, PAGE)):
        for key, value in page:
            yield key[len(prefix) :], value
        start = page[-1][0] + b"\0"


def _size(entry: SnapshotRecord | SnapshotId) -> int:
    if isinstance(entry, SnapshotRecord):
        return len(entry.key) + len(entry.value) + ENTRY_OVERHEAD_BYTES
    return len(entry.id) + ENTRY_OVERHEAD_BYTES


class Restoration:
    """Rebuilds the state below a verified header from chunks, in their order.

    The records come to the header's root before any of them is read, and then say which ids may follow. The caller
    writes what `take` and `finish` return into `store` before the next call. Whatever does not fit raises a
    `PeerFault` `snapshot.*`, or `Malformed`; what is in the store then is worth nothing.
    """

    def __init__(self, store: Store, header: Header) -> None:
        self._store = store
        self._header = header
        self._live = envelope.first_live_bucket(header.time)
        self._last_key = b""
        self._proven = False
        """All records are there, and they are the header's."""
        self._bucket: int | None = None
        self._counted = self._used = envelope.NO_IDS
        """What the present bucket's record says, and what was taken of it so far."""
        self._complete: set[int] = set()

    def take(self, raw: bytes) -> Writes:
        """What the next chunk adds to the store."""
        chunk = codec.decode(raw, SnapshotChunk)
        state = State(self._store)
        for record in chunk.records:
            if record.key <= self._last_key or self._proven:
                raise PeerFault("snapshot.order", "records come once each, in the order of their keys, before ids")
            self._last_key = record.key
            state.overlay.put(RECORD + record.key, record.value)
        root = state.seal()
        if chunk.ids:
            self._prove(root)
        for entry in chunk.ids:
            self._take_id(state, entry)
        return state.writes

    def finish(self) -> Writes:
        """What remains to be written once all chunks are. Raises `PeerFault` unless the state is the header's."""
        state = State(self._store)
        self._prove(state.seal())
        self._complete_bucket()
        for key, _ in state.scan_from(envelope.USED_IDS, self._live, BUCKETS):
            if int.from_bytes(key[len(envelope.USED_IDS) :], "big") not in self._complete:
                raise PeerFault("snapshot.ids", "the ids of a bucket are missing")
        head = Head(height=self._header.height, hash=self._header.hash(), time=Millis(self._header.time))
        state.put_aux(HEAD, codec.encode(head))
        return state.writes

    def _prove(self, root: Hash) -> None:
        if root != self._header.state_root:
            raise PeerFault(
                "snapshot.root", f"its records have the root {root.hex()[:16]}, the header says another"
            )
        self._proven = True

    def _take_id(self, state: State, entry: SnapshotId) -> None:
        if entry.bucket != self._bucket:
            self._complete_bucket()
            if entry.bucket < self._live or entry.bucket in self._complete:
                raise PeerFault("snapshot.order", "ids come bucket by bucket, and none that has expired")
            self._bucket, self._used = entry.bucket, envelope.NO_IDS
            self._counted = state.get(key_used_ids(entry.bucket), UsedIds) or envelope.NO_IDS
        if self._used.count == self._counted.count:
            raise PeerFault("snapshot.ids", "a bucket has more ids than its record counts")
        self._used = envelope.place(state, entry.bucket, entry.id, self._used)

    def _complete_bucket(self) -> None:
        """All ids of the present bucket are there: they must be those that its record counts."""
        if self._bucket is None:
            return
        if self._counted != self._used:
            raise PeerFault("snapshot.ids", "the ids of a bucket are not those its record counts")
        self._complete.add(self._bucket)
