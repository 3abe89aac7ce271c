"""The chain on the disk: state records, blocks, certificates and validator sets in one SQLite file.

One file, because a block and what it did to the state must become durable in one transaction: after a crash the
store stands at the end of a whole block, never inside one.

WAL mode with `synchronous=FULL`. A block is told to tenants as final the moment it is committed here, and the
journal is replayed for one height only; with `NORMAL` a power cut at every validator at once could lose blocks
that others already hold proofs of. FULL costs one more sync a block (0.1 ms here), not one a record.

Calls are short and synchronous; they run in the trio thread. Any error after opening is fatal (`StorageFailed`).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlite_utils import Database

from fondaco.node.schema import SCHEMA, migrations
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Block, CommitCertificate, Header, SignedHeader
from fondaco.protocol.errors import FondacoError, Refused
from fondaco.protocol.scalars import Hash, Height

CACHE_KIB = 8 * 1024
READ_AT_ONCE = 200
"""Rows that one statement asks for."""


class StorageFailed(FondacoError):
    """The disk or the database refused: the process must stop before it says anything more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest block."""

    height: Height
    hash: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    """A block as it lies on the disk, undecoded: what sync sends on."""

    height: Height
    certificate: bytes
    """Canonical bytes of the `CommitCertificate` that made it final."""
    body: bytes
    """Canonical bytes of the `Block`."""


class ChainStore:
    """The ledger's `Store` and the node's blocks; made by `open`."""

    def __init__(self, path: Path, db: Any) -> None:
        self.path = path
        self._db = db
        self._execute = db.conn.execute

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or make the store, bringing an older one up to date.

        Raises `Refused` `storage.newer` if a newer program wrote it, `storage.corrupt` if it is no whole database.
        """
        db: Any = None
        try:
            db = Database(path, execute_plugins=False)
            _configure(db)
            _missing(path, db)
            migrations.apply(db)
            store = cls(path, db)
            store.head()
        except sqlite3.DatabaseError as error:
            if db is not None:
                db.close()
            raise _unopened(path, error) from None
        except Refused:
            db.close()
            raise
        return store

    @classmethod
    def view(cls, path: Path) -> Self:
        """Open a store to read it, be it a running node's or a copy; nothing is written.

        It may be used in another thread than this, if not in two at once.

        Raises `Refused` `storage.corrupt`, `storage.unusable`, `storage.newer`, or `storage.older` where its node
        must first bring it up to date.
        """
        # Without a log beside it nobody writes, and a database that is only looked at must not get one.
        still = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
        try:
            db = Database(
                sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro{still}", uri=True, check_same_thread=False)
            )
            missing = _missing(path, db)
            if missing:
                raise Refused(
                    "storage.older",
                    f"{path} was written by an older program (it lacks {', '.join(missing)})",
                    hint="start its node once with this program",
                )
            store = cls(path, db)
            store.head()
        except (sqlite3.DatabaseError, StorageFailed) as error:
            cause = error if isinstance(error, sqlite3.DatabaseError) else error.__cause__
            assert isinstance(cause, sqlite3.DatabaseError), "only SQLite fails here"
            raise _unopened(path, cause) from None
        except Refused:
            db.close()
            raise
        return store

    def close(self) -> None:
        self._db.close()

    # State records: the ledger's `Store` port

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        try:  # spelled out: executing a block reads thousands of records, and `with` costs a fifth of a read
            row = self._execute("SELECT value FROM records WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise _failed(error) from error
        return None if row is None else row[0]

    def get_all(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those of `keys` that there are."""
        found: dict[bytes, bytes] = {}
        ordered = sorted(keys)  # neighbours share pages
        try:
            for first in range(0, len(ordered), READ_AT_ONCE):
                asked = ordered[first : first + READ_AT_ONCE]
                found |= self._execute(_select(len(asked)), asked).fetchall()
        except sqlite3.Error as error:
            raise _failed(error) from error
        return found

    def scan(self, start: bytes, end: bytes, limit: int) -> Iterator[tuple[bytes, bytes]]:
        """Records with `start <= key < end` in key order, at most `limit`. A later commit does not disturb it."""
        limit = min(limit, limits.SCAN_RECORDS)
        with _fail_stop():
            rows = self._execute(
                "SELECT key, value FROM records WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
                (start, end, limit),
            ).fetchall()
        return iter(rows)

    def commit(self, batch: Mapping[bytes, bytes | None]) -> None:
        """Write records (None deletes) in one transaction, without a block: genesis and snapshots."""
        with _fail_stop(), self._db.atomic():
            self._write(batch)

    def commit_all(self, batches: Iterable[Mapping[bytes, bytes | None]]) -> None:
        """`commit` for more than memory should hold: a batch is written, and seen here, before the next is made.

        After a crash all of them are there or none.
        """
        with _fail_stop(), self._db.atomic():
            for batch in batches:
                self._write(batch)

    @contextlib.contextmanager
    def unchanging(self) -> Iterator[None]:
        """Everything read within is of one moment, whatever a running node commits meanwhile."""
        with _fail_stop():
            self._execute("BEGIN")
            self.head()  # SQLite takes its view with the first read
        try:
            yield
        finally:
            self._execute("ROLLBACK")

    # Blocks

    def commit_block(
        self,
        block: Block,
        certificate: CommitCertificate,
        records: Mapping[bytes, bytes | None],
        validator_sets: Mapping[Height, bytes] | None = None,
        events: bytes | None = None,
    ) -> None:
        """Make a decided block, what it did to the state, new validator sets and its events durable together."""
        header = block.header
        digest = header.hash()
        head = self.head()
        assert (certificate.height, certificate.value) == (header.height, digest), "its own certificate"
        assert head is None or header.height == head.height + 1, "blocks are stored in order"
        with _fail_stop(), self._db.atomic():
            self._execute(
                "INSERT INTO blocks VALUES (?, ?, ?, ?, ?)",
                (header.height, digest, codec.encode(header), codec.encode(certificate), codec.encode(block)),
            )
            if validator_sets:
                self._db.conn.executemany("REPLACE INTO validator_sets VALUES (?, ?)", validator_sets.items())
            if events is not None:
                self._execute("INSERT INTO events VALUES (?, ?)", (header.height, events))
            self._write(records)

    def head(self) -> Head | None:
        """The newest block; None before the first."""
        with _fail_stop():
            row = self._execute("SELECT height, hash FROM blocks ORDER BY height DESC LIMIT 1").fetchone()
        return None if row is None else Head(height=Height(row[0]), hash=Hash(row[1]))

    def first_height(self) -> Height | None:
        """The oldest block kept."""
        with _fail_stop():
            row = self._execute("SELECT height FROM blocks ORDER BY height LIMIT 1").fetchone()
        return None if row is None else Height(row[0])

    def block(self, height: Height) -> Block | None:
        """The block at `height`, if it is kept."""
        return self._block("height", height)

    def block_by_hash(self, digest: Hash) -> Block | None:
        """The block whose header has this hash, if it is kept."""
        return self._block("hash", digest)

    def certificate(self, height: Height) -> CommitCertificate | None:
        """What made the block at `height` final."""
        with _fail_stop():
            row = self._execute("SELECT certificate FROM blocks WHERE height = ?", (height,)).fetchone()
        return None if row is None else codec.decode(row[0], CommitCertificate)

    def signed_header(self, height: Height) -> SignedHeader | None:
        """What a light client asks for."""
        with _fail_stop():
            row = self._execute("SELECT header, certificate FROM blocks WHERE height = ?", (height,)).fetchone()
        if row is None:
            return None
        header = codec.decode(row[0], Header)
        return SignedHeader(header=header, certificate=codec.decode(row[1], CommitCertificate))

    def range(self, start: Height, end: Height, max_bytes: int) -> list[StoredBlock]:
        """Blocks from `start` up to but not with `end`, as many as fit in `max_bytes`, but at least one."""
        found: list[StoredBlock] = []
        size = 0
        with _fail_stop():
            rows = self._execute(
                "SELECT height, certificate, body FROM blocks"
                " WHERE height >= ? AND height < ? ORDER BY height LIMIT ?",
                (start, end, limits.RANGE_BLOCKS),
            )
            for height, certificate, body in rows:
                size += len(certificate) + len(body)
                if found and size > max_bytes:
                    break
                found.append(StoredBlock(height=height, certificate=certificate, body=body))
        return found

    def validator_set(self, height: Height) -> bytes | None:
        """The bytes stored for the set that decides `height`."""
        with _fail_stop():
            row = self._execute("SELECT value FROM validator_sets WHERE height = ?", (height,)).fetchone()
        return None if row is None else row[0]

    # Events

    def events(self, height: Height) -> bytes | None:
        """The events of the block at `height`, if they are kept here."""
        with _fail_stop():
            row = self._execute("SELECT value FROM events WHERE height = ?", (height,)).fetchone()
        return None if row is None else row[0]

    def first_events(self) -> Height | None:
        """The height from which on every block up to the newest has its events here; None if that has not."""
        with _fail_stop():
            row = self._execute(
                "SELECT height FROM events WHERE height > coalesce((SELECT height FROM blocks"
                " WHERE height NOT IN (SELECT height FROM events) ORDER BY height DESC LIMIT 1), -1)"
                " ORDER BY height LIMIT 1"
            ).fetchone()
        return None if row is None else Height(row[0])

    def forget_events(self, below: Height) -> None:
        """Delete the events of the blocks under `below`: they are durable elsewhere."""
        with _fail_stop(), self._db.atomic():
            self._execute("DELETE FROM events WHERE height < ?", (below,))

    def prune(self, below: Height, *, limit: int | None = None) -> int:
        """Delete blocks and validator sets under `below`, the oldest first, never the head; how many blocks."""
        head, oldest = self.head(), self.first_height()
        if head is None or oldest is None:
            return 0
        below = min(below, head.height)
        if limit is not None:
            below = Height(min(below, oldest + limit))
        with _fail_stop(), self._db.atomic():
            pruned: int = self._execute("DELETE FROM blocks WHERE height < ?", (below,)).rowcount
            self._execute("DELETE FROM validator_sets WHERE height < ?", (below,))
        return pruned

    def _block(self, column: str, value: int | bytes) -> Block | None:
        with _fail_stop():
            row = self._execute(f"SELECT body FROM blocks WHERE {column} = ?", (value,)).fetchone()
        return None if row is None else codec.decode(row[0], Block)

    def _write(self, batch: Mapping[bytes, bytes | None]) -> None:
        # In key order: neighbours share pages, and the file does not depend on the order of a dictionary.
        ordered = sorted(batch.items())
        gone = [(key,) for key, value in ordered if value is None]
        kept = [(key, value) for key, value in ordered if value is not None]
        self._db.conn.executemany("DELETE FROM records WHERE key = ?", gone)
        self._db.conn.executemany("REPLACE INTO records VALUES (?, ?)", kept)


def _select(count: int) -> str:
    # SQLite looks the keys up one by one, as `get` does, but without a step of Python for each.
    return f"SELECT key, value FROM records WHERE key IN ({','.join('?' * count)})"


def _missing(path: Path, db: Any) -> list[str]:
    """Steps the database has not taken. Raises `Refused` `storage.newer` if it has taken some we do not know."""
    applied, known = {one.name for one in migrations.applied(db)}, [step.__name__ for step in SCHEMA]
    unknown = applied - set(known)
    if unknown:
        raise Refused(
            "storage.newer",
            f"{path} was written by a newer program (it has {', '.join(sorted(unknown))})",
            hint="update fondaco, or choose another --home",
        )
    return [name for name in known if name not in applied]


def _configure(db: Any) -> None:
    db.enable_wal()
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


@contextlib.contextmanager
def _fail_stop() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _failed(error) from error


def _failed(error: sqlite3.Error) -> StorageFailed:
    return StorageFailed("storage.failed", str(error), hint="free or check the disk, then start again")


def _unopened(path: Path, error: sqlite3.DatabaseError) -> Refused:
    if error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Refused(
            "storage.corrupt",
            f"{path}: {error}",
            hint="check the disk, move the file away, and let the node fetch the chain again from its peers",
        )
    return Refused("storage.unusable", f"{path}: {error}", hint="check that the folder exists and can be written")
