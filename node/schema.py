"""The database's tables, and how an older file comes to have them: one step after the other.

A step once released never changes. Each runs in a transaction of its own, with the note that it was taken: after a
crash a step was taken whole, or is taken again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from sqlite_utils import Migrations

from fondaco.consensus import merkle
from fondaco.protocol.errors import Refused
from fondaco.protocol.signing import sha256

log = logging.getLogger("fondaco.storage")

BATCH_RECORDS = 5_000
"""Records of which the tree is made at once: what the step takes in memory."""


def first(db: Any) -> None:
    """Records, blocks and validator sets. Keys and values of records are small: the tree is the table."""
    db.execute("CREATE TABLE records (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID")
    # The body comes last: reading a header then never walks the pages of a large block.
    db.execute(
        "CREATE TABLE blocks (height INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, header BLOB NOT NULL,"
        " certificate BLOB NOT NULL, body BLOB NOT NULL)"
    )
    db.execute("CREATE TABLE validator_sets (height INTEGER PRIMARY KEY, value BLOB NOT NULL)")


def tree_pages(db: Any) -> None:
    """The state tree in pages of four levels; until now each of its nodes was a row at `m/<depth><path>`.

    The root must come out as it was. Raises `Refused` `storage.corrupt` where it does not.
    """
    root = db.execute("SELECT value FROM records WHERE key = ?", (b"m/" + bytes(2),)).fetchone()
    if root is None:
        return
    log.warning("the state tree is put into another form, once: a minute for each million records")
    db.execute("DELETE FROM records WHERE key >= ? AND key < ?", (b"m/", b"m0"))
    for batch in _by_path(db):
        pages = merkle.update(lambda place: _value(db, b"m/" + place), batch)
        gone = [(b"m/" + place,) for place, page in pages.items() if page is None]
        kept = [(b"m/" + place, page) for place, page in sorted(pages.items()) if page is not None]
        db.conn.executemany("DELETE FROM records WHERE key = ?", gone)
        db.conn.executemany("REPLACE INTO records VALUES (?, ?)", kept)
    if merkle.root_of(lambda place: _value(db, b"m/" + place)) != sha256(root[0]):
        raise Refused(
            "storage.corrupt",
            "the records are not those of the stored state root",
            hint="move the file away, and let the node fetch the chain again from its peers",
        )


def _by_path(db: Any) -> Iterator[dict[bytes, bytes | None]]:
    """All records in batches, ordered by where they lie in the tree: each batch then meets few of its pages."""
    db.execute("CREATE TEMP TABLE paths (path BLOB PRIMARY KEY, key BLOB NOT NULL) WITHOUT ROWID")
    keys = db.execute("SELECT key FROM records WHERE key >= ? AND key < ?", (b"r/", b"r0"))
    db.conn.executemany("INSERT INTO paths VALUES (?, ?)", ((sha256(key[2:]), key) for (key,) in keys))
    last = b""
    while rows := db.execute(
        "SELECT path, key FROM paths WHERE path > ? ORDER BY path LIMIT ?", (last, BATCH_RECORDS)
    ).fetchall():
        yield {key[2:]: _value(db, key) for _, key in rows}
        last = rows[-1][0]
    db.execute("DROP TABLE paths")


def _value(db: Any, key: bytes) -> bytes | None:
    row = db.execute("SELECT value FROM records WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def events(db: Any) -> None:
    """What blocks did, kept until the market's log has it."""
    db.execute("CREATE TABLE events (height INTEGER PRIMARY KEY, value BLOB NOT NULL)")


SCHEMA = (first, tree_pages, events)
"""Every step from an empty file to the present schema, in order."""
migrations = Migrations("chain")
for _step in SCHEMA:
    migrations()(_step)
