"""The event log, `log.db`: every block with its events, and what this node heard by gossip, in one order.

A node that has `market = true` keeps events in `chain.db`, in the transaction that makes their block durable.
From there they are copied here, with the block, and forgotten there once they are durable here: whenever the
process dies, nothing is missing and nothing is there twice. What was heard is put between the blocks it was
heard between; of that, a crash loses the last moments.

The log begins with the first block whose events this node has: after a snapshot, or after the market was
switched on, not at genesis. It ends nowhere, so it is bounded from its beginning (`cut`).
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlite_utils import Database

from fondaco.protocol import codec
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.events import Event
from fondaco.protocol.offers import GossipItem
from fondaco.protocol.scalars import ChainId, Height, Millis

LENGTH = struct.Struct("<I")
BATCH = 32
"""Entries read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """A block, why it is final, and what came of it."""

    number: int
    height: Height
    certificate: CommitCertificate
    block: Block
    events: tuple[Event, ...]
    signed_power: int
    total_power: int
    size: int
    """Bytes of the block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What gossip brought and the book took in."""

    number: int
    height: Height
    """Of the newest block then."""
    time: Millis
    """By this node's clock."""
    raw: bytes
    item: GossipItem


Entry = Happened | Heard


@dataclass(frozen=True, slots=True, kw_only=True)
class RawBlock:
    """A block to be logged, as it lies in the chain's database."""

    height: Height
    time: Millis
    certificate: bytes
    body: bytes
    events: bytes
    """As `pack_events` makes them."""
    signed_power: int
    total_power: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RawHeard:
    """Something heard, to be logged."""

    height: Height
    time: Millis
    raw: bytes


def pack_events(events: Iterable[Event]) -> bytes:
    """Events one after the other, each behind its length: a block may have more than one message may hold."""
    return b"".join(LENGTH.pack(len(raw)) + raw for raw in map(codec.encode, events))


def unpack_events(data: bytes) -> tuple[Event, ...]:
    found, at = [], 0
    while at < len(data):
        (size,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        found.append(codec.decode_union(data[at : at + size], Event))
        at += size
    return tuple(found)


class EventLog:
    """The log of one node; made by `open`, or by `view` to read it beside a node that runs."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self._execute = db.conn.execute

    @classmethod
    def open(cls, path: Path, chain: ChainId) -> Self:
        """Open or make it. Raises `Refused` `chain.other`, or `sqlite3.DatabaseError`."""
        db = Database(sqlite3.connect(path, check_same_thread=False), execute_plugins=False)
        db.enable_wal()
        db.execute("PRAGMA synchronous = FULL")  # events are forgotten elsewhere once they are here
        with db.atomic():
            db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
            db.execute(
                "CREATE TABLE IF NOT EXISTS blocks (number INTEGER PRIMARY KEY, height INTEGER NOT NULL UNIQUE,"
                " time_ms INTEGER NOT NULL, signed_power INTEGER NOT NULL, total_power INTEGER NOT NULL,"
                " certificate BLOB NOT NULL, events BLOB NOT NULL, body BLOB NOT NULL)"
            )
            db.execute(
                "CREATE TABLE IF NOT EXISTS heard (number INTEGER PRIMARY KEY, height INTEGER NOT NULL,"
                " time_ms INTEGER NOT NULL, value BLOB NOT NULL)"
            )
            db.execute("INSERT OR IGNORE INTO meta VALUES ('chain', ?)", (chain,))
        log = cls(db)
        if (other := log.chain) != chain:
            db.close()
            raise Refused("chain.other", f"{path} is of chain {other}, not {chain}", hint="move it away")
        return log

    @classmethod
    def view(cls, path: Path) -> Self:
        """Open it to read, be its node running or not. Raises `Refused` `market.none` or `market.unreadable`."""
        try:
            log = cls(Database(view(path)))
            log.last()
        except sqlite3.Error as error:
            raise Refused("market.unreadable", f"{path}: {error}") from None
        return log

    def close(self) -> None:
        self._db.close()

    @property
    def chain(self) -> ChainId:
        return ChainId(self._execute("SELECT value FROM meta WHERE key = 'chain'").fetchone()[0])

    def last(self) -> int:
        """The number of the newest entry; 0 where there is none."""
        rows = "SELECT max(number) FROM blocks UNION ALL SELECT max(number) FROM heard"
        return max((row[0] or 0 for row in self._execute(rows)), default=0)

    def heights(self) -> tuple[Height, Height] | None:
        """The first and the newest block logged; every block between is there."""
        first, last = self._execute("SELECT min(height), max(height) FROM blocks").fetchone()
        return None if first is None else (Height(first), Height(last))

    def size(self) -> int:
        """Bytes in use; what was deleted does not count."""
        pages, free, size = (
            self._execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        used: int = (pages - free) * size
        return used

    def append(self, entries: Iterable[RawBlock | RawHeard]) -> None:
        """Put entries at the end, all of them durable on return, or none."""
        first = self.last() + 1
        with self._db.atomic():
            for number, entry in enumerate(entries, start=first):
                if isinstance(entry, RawHeard):
                    values: tuple[Any, ...] = (number, entry.height, entry.time, entry.raw)
                    self._execute("INSERT INTO heard VALUES (?, ?, ?, ?)", values)
                    continue
                values = (number, entry.height, entry.time, entry.signed_power, entry.total_power)
                values += (entry.certificate, entry.events, entry.body)
                self._execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def read(self, after: int = 0) -> Iterator[Entry]:
        """Entries with a higher number, in order, to the end as it is when it is reached."""
        while True:
            batch, last = self._batch(after)
            if last == after:
                return
            yield from batch
            after = last

    def block(self, height: Height) -> Happened | None:
        """The block at `height`, if it is in the log."""
        row = self._execute(f"{_BLOCKS} WHERE height = ?", (height,)).fetchone()
        return None if row is None else _happened(row)

    def cut(self, below: Height) -> None:
        """Forget the blocks under `below`, and what was heard before the first that is left."""
        with self._db.atomic():
            self._execute("DELETE FROM blocks WHERE height < ?", (below,))
            self._execute("DELETE FROM heard WHERE number < (SELECT min(number) FROM blocks)")

    def clear(self) -> None:
        """Forget everything: the chain went on without this log, so it begins anew."""
        with self._db.atomic():
            self._execute("DELETE FROM blocks")
            self._execute("DELETE FROM heard")

    def time_of(self, height: Height) -> Millis:
        """Block time of a block that is in the log."""
        return Millis(self._execute("SELECT time_ms FROM blocks WHERE height = ?", (height,)).fetchone()[0])

    def height_at(self, time: Millis) -> Height | None:
        """The first block that is not older than `time`."""
        row = self._execute("SELECT min(height) FROM blocks WHERE time_ms >= ?", (time,)).fetchone()
        return None if row[0] is None else Height(row[0])

    def _batch(self, after: int) -> tuple[list[Entry], int]:
        """The next entries, and the number of the last one looked at.

        What an older program heard may be of a form that is no more; it is passed over, since nothing rests on it.
        """
        span = (after, self.last(), BATCH)  # up to one moment: a writer may put entries between two reads
        within = "WHERE number > ? AND number <= ? ORDER BY number LIMIT ?"
        heard = self._execute(f"SELECT number, height, time_ms, value FROM heard {within}", span).fetchall()
        blocks = self._execute(f"{_BLOCKS} {within}", span).fetchall()
        rows: list[tuple[int, Callable[[tuple[Any, ...]], Entry], tuple[Any, ...]]] = []
        rows += [(row[0], _heard, row) for row in heard]
        rows += [(row[0], _happened, row) for row in blocks]
        rows.sort(key=lambda one: one[0])
        found = list[Entry]()
        for _, read, row in rows[:BATCH]:
            try:
                found.append(read(row))
            except Malformed:
                if read is not _heard:
                    raise
        return found, rows[:BATCH][-1][0] if rows else after


_BLOCKS = "SELECT number, height, signed_power, total_power, certificate, events, body FROM blocks"


def _happened(row: tuple[Any, ...]) -> Happened:
    number, height, signed, total, certificate, events, body = row
    return Happened(
        number=number,
        height=Height(height),
        certificate=codec.decode(certificate, CommitCertificate),
        block=codec.decode(body, Block),
        events=unpack_events(events),
        signed_power=signed,
        total_power=total,
        size=len(body),
    )


def _heard(row: tuple[Any, ...]) -> Heard:
    number, height, time, raw = row
    item = codec.decode_union(raw, GossipItem)
    return Heard(number=number, height=Height(height), time=Millis(time), raw=raw, item=item)


def view(path: Path) -> sqlite3.Connection:
    """A database that is only looked at, in any one thread. Raises `Refused` `market.none` where there is none."""
    if not path.exists():
        raise Refused(
            "market.none", f"there is no {path}", hint="set market = true in node.toml and start the node"
        )
    # Without a log beside it nobody writes, and a database that is only looked at must not get one.
    still = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro{still}", uri=True, check_same_thread=False)
