"""Records over a store, with an overlay that can be kept or dropped.

The store is one ordered key space. Records under the root are at `r/<key>`, the tree's nodes at `m/<path>`,
and what is derived and not proven (transaction ids in use) at `a/<key>`.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

from fondaco.consensus import merkle
from fondaco.consensus.ledger.memo import Records
from fondaco.protocol.errors import Malformed
from fondaco.protocol.scalars import Hash

RECORD, NODE, AUX = b"r/", b"m/", b"a/"
T = TypeVar("T")
Writes = Mapping[bytes, bytes | None]
"""What a block changes in the store; None removes the key."""


class Store(Protocol):
    """The port the node implements on its database."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, end: bytes, limit: int) -> Iterator[tuple[bytes, bytes]]:
        """At most `limit` entries with start <= key < end, in key order."""
        ...


class Overlay:
    """Changes on top of a store (or of another overlay), visible through it, written nowhere."""

    def __init__(self, below: Store) -> None:
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
        self.overlay = Overlay(store)
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
        self._write()
        start = RECORD + prefix
        return [(key[len(RECORD) :], value) for key, value in self.overlay.scan(start, _after(start), limit)]

    def scan_before(self, prefix: bytes, number: int, limit: int) -> list[tuple[bytes, bytes]]:
        """Like `scan`, for keys that go on with eight bytes of a number: those with a smaller one."""
        self._write()
        start = RECORD + prefix
        found = self.overlay.scan(start, start + number.to_bytes(8, "big"), limit)
        return [(key[len(RECORD) :], value) for key, value in found]

    def has_aux(self, key: bytes) -> bool:
        return self.overlay.get(AUX + key) is not None

    def put_aux(self, key: bytes, value: bytes | None) -> None:
        self.overlay.put(AUX + key, value)

    def scan_aux(self, start: bytes, end: bytes, limit: int) -> list[bytes]:
        return [key[len(AUX) :] for key, _ in self.overlay.scan(AUX + start, AUX + end, limit)]

    def attempt(self, action: Callable[[State], T]) -> T:
        """Run `action` on a state of its own and keep what it changed only if it does not raise."""
        trial = State(self.overlay, self._records, around=self)
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
        writes = merkle.update(self._read_node, changed)
        for path, node in writes.items():
            self.overlay.put(NODE + path, node)
        return merkle.root_of(self._read_node)

    def prove(self, key: bytes) -> tuple[bytes | None, merkle.Proof]:
        """A record's bytes (None: there is none) and the proof of it against the sealed root."""
        self._write()
        return self.overlay.get(RECORD + key), merkle.prove(self._read_node, key)

    @property
    def writes(self) -> Writes:
        self._write()
        return self.overlay.changes

    def _write(self) -> None:
        """Encode what is fresh, from the outside in: what an inner state has is newer."""
        if self._around is not None:
            self._around._write()
        for key, record in self._fresh.items():
            self.overlay.put(RECORD + key, None if record is None else self._records.encode(record))
        self._fresh.clear()

    def _read_node(self, path: bytes) -> bytes | None:
        return self.overlay.get(NODE + path)


def _after(prefix: bytes) -> bytes:
    """The first key behind all that start with `prefix`; ours never end in 0xff."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


class MemoryStore:
    """A store in memory: for genesis, the simulator and tests."""

    def __init__(self, entries: Mapping[bytes, bytes] | None = None) -> None:
        self._entries = dict(entries or {})
        self._keys = sorted(self._entries)

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

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
