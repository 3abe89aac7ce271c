"""Snapshots of a ledger: made alike everywhere, restored to what they were, refused where anything is amiss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.ledger import World
from tests.support.ledger_fuzz import Fuzz

from fondaco.consensus.ledger import envelope, snapshot
from fondaco.consensus.ledger.application import Ledger
from fondaco.consensus.ledger.snapshot import Restoration, chunks
from fondaco.consensus.ledger.state import AUX, RECORD, MemoryStore, Store
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Header
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.records import UsedIds, key_used_ids
from fondaco.protocol.scalars import ChainId, Hash, Height, TxId
from fondaco.protocol.signing import sha256
from fondaco.protocol.snapshots import (
    FORMAT,
    SnapshotChunk,
    SnapshotId,
    SnapshotManifest,
    SnapshotRecord,
    check_manifest,
)


def restored(header: Header, pieces: list[bytes]) -> MemoryStore:
    store = MemoryStore()
    restoration = Restoration(store, header)
    for piece in pieces:
        store.apply(restoration.take(piece))
    store.apply(restoration.finish())
    return store


def entries(store: Store) -> dict[bytes, bytes]:
    return dict(store.scan(b"a", b"z", 10**6))


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> tuple[World, Header]:
    """A chain with some ids in use in several buckets, in pieces of a few entries."""
    monkeypatch.setattr(limits, "SNAPSHOT_CHUNK_ENTRIES", 7)
    world = World("alice", "bob")
    alice, bob = world.actors("alice", "bob")
    for _ in range(5):
        last = world.block(*(alice.pays(bob, 1) for _ in range(3)), after_ms=4_000)
    return world, last.block.header


@pytest.mark.parametrize("seed", range(4))
def test_after_a_random_day_the_restored_ledger_is_the_same_and_goes_on_alike(seed: int) -> None:
    fuzz = Fuzz(seed)
    for _ in range(12):
        fuzz.block(15)
    world = fuzz.world
    header = world.block().block.header
    store = restored(header, list(chunks(world.store)))
    live = envelope.first_live_bucket(header.time)
    expired = {
        key
        for key in entries(world.store)
        if key.startswith(AUX + envelope.USED) and int.from_bytes(key[7:15], "big") < live
    }
    assert entries(store) == {key: value for key, value in entries(world.store).items() if key not in expired}
    assert list(chunks(store)) == list(chunks(world.store))
    other = Ledger(store, world.chain)
    for _ in range(12):
        fuzz.block(10)
        store.apply(other.finalize_block(world.blocks[-1].block).writes)
        other.committed()
        assert other.head == world.ledger.head


def test_pieces_are_bounded_in_bytes_and_in_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(*(f"somebody {number}" for number in range(60)))
    header = world.block().block.header
    assert len(list(chunks(world.store))) == 1
    monkeypatch.setattr(limits, "SNAPSHOT_CHUNK_BYTES", 700)
    pieces = list(chunks(world.store))
    assert len(pieces) > 5
    assert max(map(len, pieces)) <= 700
    assert entries(restored(header, pieces)) == entries(world.store)
    monkeypatch.setattr(limits, "SNAPSHOT_CHUNK_BYTES", 1)  # an entry that is too large by itself gets its own
    assert all(len(codec.decode(piece, SnapshotChunk).records) == 1 for piece in chunks(world.store))


def test_used_ids_come_back_in_order_and_are_refused_again(busy: tuple[World, Header]) -> None:
    world, header = busy
    alice, bob = world.actors("alice", "bob")
    raw = world.sign(alice.pays(bob, 7))
    header = world.block(raw).block.header
    ledger = Ledger(restored(header, list(chunks(world.store))), world.chain)
    with pytest.raises(Exception, match="already been included"):
        ledger.check_tx(raw, now=world.now)


def test_ids_that_expired_are_not_in_a_snapshot_and_both_forget_alike(
    monkeypatch: pytest.MonkeyPatch, busy: tuple[World, Header]
) -> None:
    """Though forgetting takes several blocks, and only one of the two has the ids that are forgotten."""
    world, _ = busy
    monkeypatch.setattr(envelope.forget_expired, "__kwdefaults__", {"limit": 2})
    header = world.block(after_ms=limits.TX_LIFE_MS + 20_000).block.header
    buckets = [key for key, _ in world.ledger.state().scan(envelope.USED_IDS, 99)]
    assert buckets, "some are still to be forgotten"
    pieces = list(chunks(world.store))
    assert not any(codec.decode(piece, SnapshotChunk).ids for piece in pieces)
    store = restored(header, pieces)
    other = Ledger(store, world.chain)
    for _ in range(10):
        block = world.block().block
        store.apply(other.finalize_block(block).writes)
        other.committed()
    assert other.state().scan(envelope.USED_IDS, 99) == []
    assert entries(store) == entries(world.store)


Spoil = Callable[[list[SnapshotChunk]], list[SnapshotChunk]]


def _edit(pieces: list[SnapshotChunk], index: int, **changes: object) -> list[SnapshotChunk]:
    return [*pieces[:index], replace(pieces[index], **changes), *pieces[index:][1:]]  # type: ignore[arg-type]


def _with_ids(pieces: list[SnapshotChunk]) -> int:
    return next(index for index, piece in enumerate(pieces) if len(piece.ids) > 1)


def swap_ids(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    index = _with_ids(pieces)
    ids = list(pieces[index].ids)
    place = next(at for at in range(len(ids) - 1) if ids[at].bucket == ids[at + 1].bucket)
    ids[place], ids[place + 1] = ids[place + 1], ids[place]
    return _edit(pieces, index, ids=tuple(ids))


def another_id(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    index = _with_ids(pieces)
    first, *rest = pieces[index].ids
    return _edit(pieces, index, ids=(replace(first, id=TxId(bytes(32))), *rest))


def no_ids(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    return [replace(piece, ids=()) for piece in pieces]


def last_id_twice(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    return _edit(pieces, -1, ids=(*pieces[-1].ids, pieces[-1].ids[-1]))


def a_bucket_again(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    index = _with_ids(pieces)
    return [*pieces, SnapshotChunk(records=(), ids=pieces[index].ids[:1])]


def a_bucket_nobody_counts(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    stray = SnapshotId(bucket=2**40, id=TxId(bytes(32)))
    return [*pieces, SnapshotChunk(records=(), ids=(stray,))]


def an_expired_id(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    stray = SnapshotId(bucket=3, id=TxId(bytes(32)))
    return [*pieces, SnapshotChunk(records=(), ids=(stray,))]


def a_record_more(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    first = SnapshotRecord(key=b"a", value=b"money")
    return [SnapshotChunk(records=(first,), ids=()), *pieces]


def a_record_less(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    return _edit(pieces, 0, records=pieces[0].records[1:])


def a_record_changed(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    first, *rest = pieces[0].records
    return _edit(pieces, 0, records=(replace(first, value=b"more"), *rest))


def records_swapped(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    first, second, *rest = pieces[0].records
    return _edit(pieces, 0, records=(second, first, *rest))


def a_record_twice(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    return _edit(pieces, 0, records=(pieces[0].records[0], *pieces[0].records))


def a_record_behind_ids(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    return [*pieces, SnapshotChunk(records=(SnapshotRecord(key=b"zz", value=b""),), ids=())]


def a_piece_less(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    return pieces[1:]


def pieces_swapped(pieces: list[SnapshotChunk]) -> list[SnapshotChunk]:
    """The last one, which holds ids, comes first."""
    return [pieces[-1], *pieces[:-1]]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (swap_ids, "snapshot.ids"),
        (another_id, "snapshot.ids"),
        (no_ids, "snapshot.ids"),
        (last_id_twice, "snapshot.ids"),
        (a_bucket_again, "snapshot.order"),
        (a_bucket_nobody_counts, "snapshot.ids"),
        (an_expired_id, "snapshot.order"),
        (a_record_more, "snapshot.root"),
        (a_record_less, "snapshot.root"),
        (a_record_changed, "snapshot.root"),
        (records_swapped, "snapshot.order"),
        (a_record_twice, "snapshot.order"),
        (a_record_behind_ids, "snapshot.order"),
        (a_piece_less, "snapshot.root"),
        (pieces_swapped, "snapshot.root"),
    ],
)
def test_what_is_not_the_state_is_refused(busy: tuple[World, Header], spoil: Spoil, code: str) -> None:
    world, header = busy
    good = [codec.decode(piece, SnapshotChunk) for piece in chunks(world.store)]
    assert restored(header, [codec.encode(piece) for piece in good])
    with pytest.raises(PeerFault) as caught:
        restored(header, [codec.encode(piece) for piece in spoil(good)])
    assert caught.value.code == code


def test_nothing_is_read_from_records_that_are_not_proven(busy: tuple[World, Header]) -> None:
    """Or whoever makes them up could say how many ids are still to be taken, or with what to fail."""
    world, header = busy
    bucket = next(
        entry.bucket for piece in chunks(world.store) for entry in codec.decode(piece, SnapshotChunk).ids
    )
    strange = SnapshotRecord(key=key_used_ids(bucket), value=b"\xc1")
    chunk = SnapshotChunk(records=(strange,), ids=(SnapshotId(bucket=bucket, id=TxId(bytes(32))),))
    with pytest.raises(PeerFault, match=r"snapshot\.root"):
        restored(header, [codec.encode(chunk)])


@pytest.mark.parametrize("stray", [a_bucket_nobody_counts, last_id_twice])
def test_ids_that_no_record_counts_are_refused_with_the_first(busy: tuple[World, Header], stray: Spoil) -> None:
    """Not when all are there: there might be no end of them."""
    world, header = busy
    good = [codec.decode(piece, SnapshotChunk) for piece in chunks(world.store)]
    *before, last = [codec.encode(piece) for piece in stray(good)]
    store = MemoryStore()
    restoration = Restoration(store, header)
    for piece in before:
        store.apply(restoration.take(piece))
    with pytest.raises(PeerFault, match=r"snapshot\.ids.*more"):
        restoration.take(last)


def test_a_state_without_ids_is_proven_at_the_end() -> None:
    world = World("alice")
    header = world.block().block.header
    pieces = list(chunks(world.store))
    assert entries(restored(header, pieces)) == entries(world.store)
    restoration = Restoration(MemoryStore(), header)
    with pytest.raises(PeerFault, match=r"snapshot\.root"):
        restoration.finish()


def test_a_snapshot_of_another_height_does_not_fit(busy: tuple[World, Header]) -> None:
    world, _ = busy
    pieces = list(chunks(world.store))
    alice, bob = world.actors("alice", "bob")
    other = world.block(alice.pays(bob, 1)).block.header
    with pytest.raises(PeerFault, match=r"snapshot\.root"):
        restored(other, pieces)


def test_every_id_is_stored_with_its_place(busy: tuple[World, Header]) -> None:
    world, _ = busy
    state = world.ledger.state()
    for key, raw in state.scan(envelope.USED_IDS, 99):
        record = codec.decode(raw, UsedIds)
        found = state.scan_aux(envelope.USED + key[len(envelope.USED_IDS) :], 99)
        digest = bytes(32)
        for identity, _ in sorted(found, key=lambda entry: entry[1]):
            digest = sha256(digest + identity[-32:])
        assert (len(found), digest) == (record.count, record.digest)


MANIFEST = SnapshotManifest(
    format=FORMAT,
    chain=ChainId("town"),
    height=Height(7),
    block=Hash(bytes(32)),
    chunks=(Hash(bytes(32)),),
)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"chain": "village"},
        {"chunks": ()},
        {"chunks": (Hash(bytes(32)),) * (limits.SNAPSHOT_CHUNKS + 1)},
    ],
    ids=["format", "chain", "none", "many"],
)
def test_a_manifest_that_no_honest_node_offers_is_a_fault(changes: dict[str, object]) -> None:
    check_manifest(MANIFEST, MANIFEST.chain)
    with pytest.raises(PeerFault, match=r"snapshot\.manifest"):
        check_manifest(replace(MANIFEST, **changes), MANIFEST.chain)  # type: ignore[arg-type]


def test_reading_goes_page_by_page(monkeypatch: pytest.MonkeyPatch, busy: tuple[World, Header]) -> None:
    world, _ = busy
    whole = list(chunks(world.store))
    monkeypatch.setattr(snapshot, "PAGE", 3)
    assert list(chunks(world.store)) == whole
    assert sum(key.startswith(RECORD) for key in entries(world.store)) > 3
