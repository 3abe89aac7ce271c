"""Any history can be restored from its snapshot and goes on alike; nothing else passes for it."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.ledger_fuzz import Fuzz

from fondaco.consensus.ledger.application import Ledger
from fondaco.consensus.ledger.snapshot import Restoration, chunks
from fondaco.consensus.ledger.state import MemoryStore
from fondaco.protocol import codec
from fondaco.protocol.agreement import Header
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import TxId
from fondaco.protocol.snapshots import SnapshotChunk, SnapshotId, SnapshotRecord

Entry = SnapshotRecord | SnapshotId


def restored(header: Header, pieces: list[bytes]) -> MemoryStore:
    store = MemoryStore()
    restoration = Restoration(store, header)
    for piece in pieces:
        store.apply(restoration.take(piece))
    store.apply(restoration.finish())
    return store


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), before=st.integers(0, 12), after=st.integers(1, 4))
def test_any_history_goes_on_after_its_snapshot_as_before(seed: int, before: int, after: int) -> None:
    fuzz = Fuzz(seed)
    for _ in range(before):
        fuzz.block(12)
    world = fuzz.world
    store = restored(world.block().block.header, list(chunks(world.store)))
    ledger = Ledger(store, world.chain)
    for _ in range(after):
        fuzz.block(12)
        store.apply(ledger.finalize_block(world.blocks[-1].block).writes)
        ledger.committed()
    assert ledger.head == world.ledger.head
    assert list(chunks(store)) == list(chunks(world.store))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_entry_can_be_changed_dropped_added_or_moved(data: st.DataObject) -> None:
    """However the rest is cut into chunks."""
    header, entries = history()
    spoiled = list(entries)
    place = data.draw(st.integers(0, len(entries) - 1))
    match data.draw(st.sampled_from(("change", "drop", "repeat", "move"))):
        case "change":
            spoiled[place] = data.draw(changed(entries[place]))
        case "drop":
            del spoiled[place]
        case "repeat":
            spoiled.insert(data.draw(st.integers(0, len(entries))), entries[place])
        case "move":
            spoiled.insert(data.draw(st.integers(0, len(entries) - 1)), spoiled.pop(place))
    size = data.draw(st.integers(1, len(spoiled)))
    code = refusal(header, cut(spoiled, size))
    assert code in ("snapshot.order", "snapshot.ids", "snapshot.root", "")
    assert code or cut(spoiled, len(spoiled)) == cut(entries, len(entries)), "only what it was before passes"


def refusal(header: Header, pieces: list[bytes]) -> str:
    try:
        restored(header, pieces)
    except PeerFault as fault:
        return fault.code
    return ""


@st.composite
def changed(draw: st.DrawFn, entry: Entry) -> Entry:
    """With one bit of it turned over."""
    if isinstance(entry, SnapshotId):
        if draw(st.booleans()):
            return SnapshotId(bucket=entry.bucket ^ 1 << draw(st.integers(0, 40)), id=entry.id)
        return SnapshotId(bucket=entry.bucket, id=TxId(turned(draw, entry.id)))
    both = turned(draw, entry.key + entry.value)
    return SnapshotRecord(key=both[: len(entry.key)], value=both[len(entry.key) :])


def turned(draw: st.DrawFn, raw: bytes) -> bytes:
    changed = bytearray(raw)
    changed[draw(st.integers(0, len(raw) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def cut(entries: list[Entry], size: int) -> list[bytes]:
    """In chunks of so many; a chunk holds its records before its ids."""
    return [codec.encode(chunk(entries[at : at + size])) for at in range(0, len(entries), size)]


def chunk(entries: list[Entry]) -> SnapshotChunk:
    return SnapshotChunk(
        records=tuple(entry for entry in entries if isinstance(entry, SnapshotRecord)),
        ids=tuple(entry for entry in entries if isinstance(entry, SnapshotId)),
    )


@cache
def history() -> tuple[Header, list[Entry]]:
    fuzz = Fuzz(5)
    for _ in range(8):
        fuzz.block(12)
    (piece,) = chunks(fuzz.world.store)
    whole = codec.decode(piece, SnapshotChunk)
    return fuzz.world.blocks[-1].block.header, [*whole.records, *whole.ids]
