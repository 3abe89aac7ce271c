"""`market.db`, made of the event log: the same entries in the same order give the same rows, live or anew."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from sqlite_utils import Database

from fondaco.node.market.heard_rows import HeardRows
from fondaco.node.market.ledger_rows import LedgerRows
from fondaco.node.market.log import Entry, EventLog, Happened
from fondaco.node.market.metadata import write_metadata
from fondaco.node.market.schema import TABLES, VERSION
from fondaco.protocol.scalars import ChainId, Height

MAKING = ".making"
BATCH = 64
"""Entries applied in one transaction."""
Tick = Callable[[], object]


class Rows:
    """Writing rows by the names of their columns."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.execute = connection.execute
        self._statements: dict[tuple[str, tuple[str, ...]], str] = {}

    def put(self, table: str, **values: Any) -> bool:
        """Add a row; whether there was none with its key yet."""
        names = tuple(values)
        statement = self._statements.get((table, names))
        if statement is None:
            places = ", ".join(f":{name}" for name in names)
            statement = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({places})"
            self._statements[table, names] = statement
        return self.execute(statement, values).rowcount > 0

    def one(self, question: str, *values: Any) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self.execute(question, values).fetchone()
        return found


class Index:
    """The database, open to be written; made by `open`."""

    def __init__(self, path: Path, db: Any, chain: ChainId) -> None:
        self.path = path
        self._db = db
        self._rows = Rows(db.conn)
        self._ledger = LedgerRows(self._rows, chain)
        self._heard = HeardRows(self._rows, chain)
        self.number = int(self._meta("number"))
        """Of the last entry that is in it."""

    @classmethod
    def open(cls, path: Path, chain: ChainId) -> Self | None:
        """Open one that is of this chain and these tables, or make a new one; None for any other.

        Raises `sqlite3.DatabaseError`.
        """
        fresh = not path.exists()
        db = Database(sqlite3.connect(path, check_same_thread=False), execute_plugins=False)
        db.enable_wal()
        db.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes is made again of the log
        if fresh:
            with db.atomic():
                for table in TABLES.values():
                    for statement in table.create():
                        db.execute(statement)
                meta = {"chain": chain, "schema": VERSION, "number": "0"}
                db.conn.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        found = _read_meta(db.conn)
        if (found.get("chain"), found.get("schema")) != (chain, VERSION):
            db.close()
            return None
        return cls(path, db, chain)

    def close(self) -> None:
        self._db.close()

    def start(self) -> Height | None:
        """The first block it knows."""
        found = self._meta("start_height")
        return Height(int(found)) if found else None

    def follows(self, log: EventLog) -> bool:
        """Whether it is what the log's entries up to `number` come to."""
        heights, start = log.heights(), self.start()
        if self.number > log.last():
            return False
        return start is None or (heights is not None and heights[0] == start)

    def catch_up(self, log: EventLog, tick: Tick = lambda: None) -> None:
        """Apply what the log has more; `tick` is called in between and may raise to give up."""
        batch: list[Entry] = []
        for entry in log.read(self.number):
            batch.append(entry)
            if len(batch) == BATCH:
                self.apply(batch)
                batch = []
                tick()
        self.apply(batch)

    def apply(self, entries: Iterable[Entry]) -> None:
        """Put in what these entries come to: all of it, or nothing."""
        number = self.number
        with self._db.atomic():
            for entry in entries:
                number = entry.number
                if isinstance(entry, Happened):
                    self._ledger.take(entry)
                    header = entry.block.header
                    self._rows.put("meta", key="start_height", value=str(header.height))
                    self._rows.put("meta", key="start_ms", value=str(header.time))
                    self._set("height", header.height)
                    self._set("time_ms", header.time)
                else:
                    self._heard.take(entry)
            self._set("number", number)
        self.number = number

    def _set(self, key: str, value: int) -> None:
        self._rows.execute("REPLACE INTO meta VALUES (?, ?)", (key, str(value)))

    def _meta(self, key: str) -> str:
        return _read_meta(self._db.conn).get(key, "")


def _read_meta(connection: sqlite3.Connection) -> dict[str, str]:
    try:
        return dict(connection.execute("SELECT key, value FROM meta").fetchall())
    except sqlite3.OperationalError:  # there is no such table
        return {}


def rebuild(log: EventLog, path: Path, tick: Tick = lambda: None) -> None:
    """Make the database anew of the whole log, beside, and put it in its place, with the metadata next to it."""
    making = path.with_name(path.name + MAKING)
    _remove(making)
    index = Index.open(making, log.chain)
    assert index is not None, "it is new"
    try:
        index.catch_up(log, tick)
        index._db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        index.close()
    _remove(path)
    os.replace(making, path)
    write_metadata(path)


def open_index(log: EventLog, path: Path, tick: Tick = lambda: None) -> Index:
    """The database as far as the log goes: the one that is there, or one made anew where it is not of this log."""
    index = None
    try:
        index = Index.open(path, log.chain)
    except sqlite3.DatabaseError:  # no whole database: it can be made again
        _remove(path)
    if index is not None and index.follows(log):
        index.catch_up(log, tick)
        write_metadata(path)
        return index
    if index is not None:
        index.close()
    rebuild(log, path, tick)
    index = Index.open(path, log.chain)
    assert index is not None, "it was just made"
    return index


def _remove(path: Path) -> None:
    """A database and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
