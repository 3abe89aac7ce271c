"""The address book and the bans on the disk, in `data/peers.db`: a node that starts again knows whom to ask.

Losing it costs little: a node then begins with the peers of its configuration. So it is written behind, a few
seconds late, with no sync of its own; a file that is torn, or is none of ours, is put aside and a new one begun;
and a disk that refuses is no reason to stop. Bans are written at once, or a crash would let in who caused it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from pathlib import Path
from typing import Any, Self

from sqlite_utils import Database

from fondaco.node.network.address_book import AddressBook
from fondaco.node.network.bans import Bans, Subject
from fondaco.node.network.known_peers import Entry
from fondaco.node.network.peers import Address, PeerId, peer_of
from fondaco.protocol import limits
from fondaco.protocol.errors import FondacoError, Refused

log = logging.getLogger("fondaco.discovery")

VERSION = 1
REASON_CHARACTERS = 200
TABLES = (
    "CREATE TABLE peers (peer TEXT PRIMARY KEY NOT NULL, addresses TEXT NOT NULL, record BLOB NOT NULL,"
    " seq INTEGER NOT NULL, share TEXT NOT NULL, heard_ms INTEGER NOT NULL, tried INTEGER NOT NULL,"
    " success_ms INTEGER NOT NULL, attempt_ms INTEGER NOT NULL, failures INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE bans (subject TEXT PRIMARY KEY NOT NULL, until_ms INTEGER NOT NULL, reason TEXT NOT NULL)"
    " STRICT, WITHOUT ROWID",
    "CREATE TABLE own (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
)
COLUMNS = "peer, addresses, record, seq, share, heard_ms, tried, success_ms, attempt_ms, failures"


class PeerStore:
    """See the module; made by `open`. Times are milliseconds since 1970."""

    def __init__(self, path: Path, db: Any) -> None:
        self.path = path
        self._db = db
        self._failing = False

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or make the file; one that cannot be read is kept beside it as `peers.db.broken`."""
        try:
            return cls(path, _opened(path))
        except sqlite3.DatabaseError as error:
            aside = _put_aside(path)
            log.warning("the address book %s cannot be read (%s): begun anew, kept as %s", path, error, aside.name)
        return cls(path, _opened(path))

    def close(self) -> None:
        self._db.close()

    def next_seq(self, now: int) -> int:
        """A sequence number for our own record: above all before, also where the clock was set back."""
        row = self._db.execute("SELECT value FROM own WHERE name = 'seq'").fetchone()
        seq = max(now, row[0] + 1 if row else 0)
        with self._writing():
            self._db.execute("REPLACE INTO own VALUES ('seq', ?)", (seq,))
        return seq

    # The book

    def load(self, book: AddressBook) -> int:
        """Fill `book`, those that worked first and the newest of each first; how many found room."""
        count = 0
        rows = self._db.execute(f"SELECT {COLUMNS} FROM peers ORDER BY tried DESC, success_ms DESC, heard_ms DESC")
        for row in rows.fetchall():
            try:
                count += book.restore(_entry(row))
            except (ValueError, FondacoError) as error:
                log.warning("a peer in %s cannot be read: %s", self.path, error)
                book.gone[PeerId(row[0])] = None
        for entry in book:
            book.changed.pop(entry.peer, None)
        return count

    def save(self, book: AddressBook) -> None:
        """Write what changed since it was last written."""
        if not book.changed and not book.gone:
            return
        entries = [entry for entry in map(book.get, book.changed) if entry is not None]
        with self._writing():
            conn = self._db.conn
            conn.executemany("DELETE FROM peers WHERE peer = ?", [(peer,) for peer in book.gone])
            conn.executemany(f"REPLACE INTO peers ({COLUMNS}) VALUES ({', '.join('?' * 10)})", map(_row, entries))
            book.changed.clear()
            book.gone.clear()

    # Bans

    def load_bans(self, bans: Bans, clock_s: float, now: int) -> None:
        """Put bans that still hold into `bans`, in seconds of its clock."""
        self.trim_bans(now)
        newest = "SELECT subject, until_ms, reason FROM bans ORDER BY until_ms DESC LIMIT ?"
        for subject, until_ms, reason in reversed(self._db.execute(newest, (limits.BANS,)).fetchall()):
            bans.ban(subject, clock_s, reason, life_ms=until_ms - now)

    def save_ban(self, subject: Subject, until_ms: int, reason: str) -> None:
        """Note a ban, or with a moment that has passed its end."""
        with self._writing():
            self._db.execute("REPLACE INTO bans VALUES (?, ?, ?)", (subject, until_ms, reason[:REASON_CHARACTERS]))

    def trim_bans(self, now: int) -> None:
        """Delete bans that are over, and what is beyond as many as are kept."""
        with self._writing():
            self._db.execute("DELETE FROM bans WHERE until_ms <= ?", (now,))
            self._db.execute(
                "DELETE FROM bans WHERE subject NOT IN (SELECT subject FROM bans ORDER BY until_ms DESC LIMIT ?)",
                (limits.BANS,),
            )

    @contextlib.contextmanager
    def _writing(self) -> Any:
        """One transaction; a disk that refuses is said once, and tried again with what comes next."""
        try:
            with self._db.conn:
                yield
        except sqlite3.Error as error:
            if not self._failing:
                log.warning("the address book %s cannot be written: %s", self.path, error)
            self._failing = True
        else:
            self._failing = False


def _opened(path: Path) -> Any:
    """Raises `sqlite3.DatabaseError` for a file that is no whole address book."""
    db = Database(path, execute_plugins=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        (checked,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if checked != "ok":
            raise sqlite3.DatabaseError(checked)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with db.conn:
                for table in TABLES:
                    db.execute(table)
                db.execute(f"PRAGMA user_version={VERSION}")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"it is of version {version}, not {VERSION}")
        for table in ("peers", "bans", "own"):
            db.execute(f"SELECT count(*) FROM {table}").fetchone()
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _put_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.broken")
    path.replace(aside)
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    return aside


def _row(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.peer,
        json.dumps(entry.addresses),
        entry.record,
        entry.seq,
        entry.share,
        entry.heard_ms,
        int(entry.tried),
        entry.success_ms,
        entry.attempt_ms,
        entry.failures,
    )


def _entry(row: tuple[Any, ...]) -> Entry:
    """Raises `ValueError` or `Refused`."""
    peer, addresses, record, seq, share, heard_ms, tried, success_ms, attempt_ms, failures = row
    listed = json.loads(addresses)
    if type(listed) is not list or not listed or not all(type(one) is str for one in listed):
        raise ValueError(f"{addresses[:100]!r} are no addresses")
    if any(peer_of(Address(one)) != peer for one in listed):
        raise Refused("network.address", f"an address of {peer} names another peer")
    return Entry(
        peer=PeerId(peer),
        addresses=tuple(map(Address, listed)),
        record=record,
        seq=seq,
        share=share,
        heard_ms=heard_ms,
        tried=bool(tried),
        success_ms=success_ms,
        attempt_ms=attempt_ms,
        failures=failures,
    )
