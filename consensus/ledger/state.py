"""Records over a store, with an overlay that can be kept or dropped.

The store is one ordered key space. Records under the root are at `r/<key>`, the tree's pages at `m/<place>`,
and what is derived and not proven (transaction ids in use) at `a/<key>`.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from fondaco.consensus import merkle
from fondaco.consensus.ledger.memo import Records
from fondaco.protocol.errors import Malformed
from fondaco.protocol.scalars import Hash

RECORD, NODE, AUX = b"r/", b"m/", b"a/"
T = TypeVar("T")
Writes = Mapping[bytes, bytes | None]
"""What a block changes in the store; None removes the key."""


class Readable(Protocol):
    """An ordered key space to look into."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, end: bytes, limit: int) -> Iterator[tuple[bytes, bytes]]:
        """At most `limit` entries with start <= key < end, in key order."""
        ...


class Store(Readable, Protocol):
    """The port the node implements on its database."""

    def get_all(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Those of `keys` that there are, with their values: as many `get`s, at half the price."""
        ...


class Seen:
    """A store that is asked for each key once. It grows with what is read, so it lives for one block."""

    def __init__(self, below: Store) -> None:
        self._below = below
        self._known: dict[bytes, bytes | None] = {}
        self.scan = below.scan

    def get(self, key: bytes) -> bytes | None:
        known = self._known
        if key not in known:
            known[key] = self._below.get(key)
        return known[key]

    def prefetch(self, keys: Iterable[bytes]) -> None:
        """Read what will be asked for, all at once."""
        missing = [key for key in keys if key not in self._known]
        if missing:
            self._known |= dict.fromkeys(missing)
            self._known |= self._below.get_all(missing)


class Overlay:
    """Changes on top of what was read of a store (or of another overlay), visible through it, written nowhere."""

    def __init__(self, below: Readable) -> None:
        self.below = below
        self.changes: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.changes[key] if key in self.changes else self.below.get(key)

    def scan(self, start: bytes, end: bytes, limit: int) -> Iterator[tuple[bytes, bytes]]:
        ours = {key: value for key, value in self.changes.items() if start <= key < end}
        # Each of our removals may hide one entry below, so that many more are asked for.
        below = self.below.scan(start, end, limit + len(ours))
        merged: dict[bytes, bytes | None] = {**dict(below), **ours}
        alive = ((key, value) for key, value in merged.items() if value is not None)
        yield from heapq.nsmallest(limit, alive)

    def put(self, key: bytes, value: bytes | None) -> None:
        self.changes[key] = value

    def fold(self) -> None:
        """Pass the changes on to the overlay below."""
        assert isinstance(self.below, Overlay)
        self.below.changes.update(self.changes)


class State:
    """Typed access to the ledger's records through an overlay.

    States over one store may share what is decoded: each reads many of the same records. What is put is
    encoded when its bytes are asked for: most records of a block change several times in it, and of what a check
    tries out no byte is ever needed.
    """

    def __init__(self, store: Store, records: Records | None = None, *, around: State | None = None) -> None:
        self._seen: Seen = Seen(store) if around is None else around._seen
        self.overlay: Overlay = Overlay(self._seen if around is None else around.overlay)
        self._store = store
        self._records = Records() if records is None else records
        self._around = around
        self._fresh: dict[bytes, object | None] = {}
        """Put here and not encoded yet, None for a removal; newer than what the overlay has."""

    def get(self, key: bytes, kind: type[T]) -> T | None:
        state: State | None = self
        while state is not None:
            if key in state._fresh:
                record = state._fresh[key]
                assert record is None or isinstance(record, kind), f"{key!r} is not a {kind.__name__}"
                return record
            state = state._around
        raw = self.overlay.get(RECORD + key)
        if raw is None:
            return None
        try:
            return self._records.decode(raw, kind)
        except Malformed as fault:
            # Never a peer's fault: blocks hold transactions, and records are what we made of them.
            raise AssertionError(f"the record at {key!r} is not a {kind.__name__}: {fault}") from fault

    def require(self, key: bytes, kind: type[T]) -> T:
        """A record that the ledger's own rules say must be there."""
        record = self.get(key, kind)
        assert record is not None, f"the ledger lost the record at {key!r}"
        return record

    def put(self, key: bytes, record: object | None) -> None:
        self._fresh[key] = record

    def scan(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The first records whose key starts with `prefix`, as (key, bytes)."""
        return self._scan(prefix, _after(prefix), limit)

    def scan_before(self, prefix: bytes, number: int, limit: int) -> list[tuple[bytes, bytes]]:
        """Like `scan`, for keys that go on with eight bytes of a number: those with a smaller one."""
        return self._scan(prefix, prefix + number.to_bytes(8, "big"), limit)

    def scan_from(self, prefix: bytes, number: int, limit: int) -> list[tuple[bytes, bytes]]:
        """Like `scan_before`, for those with this number or a greater one."""
        return self._scan(prefix + number.to_bytes(8, "big"), _after(prefix), limit)

    def has_aux(self, key: bytes) -> bool:
        return self.overlay.get(AUX + key) is not None

    def put_aux(self, key: bytes, value: bytes | None) -> None:
        self.overlay.put(AUX + key, value)

    def scan_aux(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """As `scan`, for what is not proven."""
        start = AUX + prefix
        return [(key[len(AUX) :], value) for key, value in self.overlay.scan(start, _after(start), limit)]

    def prefetch(self, keys: Iterable[bytes], *, aux: Iterable[bytes] = ()) -> None:
        """Read these records, and what is not proven, at once: they are about to be asked for."""
        self._seen.prefetch([*(RECORD + key for key in keys), *(AUX + key for key in aux)])

    def attempt(self, action: Callable[[State], T]) -> T:
        """Run `action` on a state of its own and keep what it changed only if it does not raise."""
        trial = State(self._store, self._records, around=self)
        result = action(trial)
        trial.overlay.fold()
        self._fresh.update(trial._fresh)
        return result

    def seal(self) -> Hash:
        """Bring the tree up to date with the records and return its root."""
        self._write()
        changed = {
            key[len(RECORD) :]: value for key, value in self.overlay.changes.items() if key.startswith(RECORD)
        }
        writes = merkle.update(self._read_page, changed, self._prefetch_pages)
        for place, page in writes.items():
            self.overlay.put(NODE + place, page)
        return merkle.root_of(self._read_page)

    def prove(self, key: bytes) -> tuple[bytes | None, merkle.Proof]:
        """A record's bytes (None: there is none) and the proof of it against the sealed root."""
        self._write()
        return self.overlay.get(RECORD + key), merkle.prove(self._read_page, key)

    @property
    def writes(self) -> Writes:
        self._write()
        return self.overlay.changes

    def _scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        self._write(start, end)
        found = self.overlay.scan(RECORD + start, RECORD + end, limit)
        return [(key[len(RECORD) :], value) for key, value in found]

    def _write(self, start: bytes = b"", end: bytes = b"\xff") -> None:
        """Encode what is fresh from `start` up to `end`, from the outside in: what an inner state has is newer."""
        if self._around is not None:
            self._around._write(start, end)
        for key in [key for key in self._fresh if start <= key < end]:
            record = self._fresh.pop(key)
            self.overlay.put(RECORD + key, None if record is None else self._records.encode(record))

    def _read_page(self, place: bytes) -> bytes | None:
        return self.overlay.get(NODE + place)

    def _prefetch_pages(self, places: list[bytes]) -> None:
        self._seen.prefetch([NODE + place for place in places])


def _after(prefix: bytes) -> bytes:
    """The first key behind all that start with `prefix`, which begins with a letter."""
    return (int.from_bytes(prefix, "big") + 1).to_bytes(len(prefix), "big")


class MemoryStore:
    """A store in memory: for genesis, the simulator and tests."""

    def __init__(self, entries: Mapping[bytes, bytes] | None = None) -> None:
        self._entries = dict(entries or {})
        self._keys = sorted(self._entries)

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def get_all(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        return {key: self._entries[key] for key in keys if key in self._entries}

    def scan(self, start: bytes, end: bytes, limit: int) -> Iterator[tuple[bytes, bytes]]:
        first = bisect_left(self._keys, start)
        last = bisect_left(self._keys, end, first)
        for key in self._keys[first : min(last, first + limit)]:
            yield key, self._entries[key]

    def apply(self, writes: Writes) -> None:
        for key, value in writes.items():
            known = key in self._entries
            if value is None:
                if known:
                    del self._entries[key], self._keys[bisect_left(self._keys, key)]
                continue
            if not known:
                insort(self._keys, key)
            self._entries[key] = value
