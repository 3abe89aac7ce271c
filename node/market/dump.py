"""Comparing two market databases by what is in them; bytes of a file say nothing, since SQLite lays rows as they
came.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fondaco.node.market.log import view
from fondaco.node.market.schema import LEDGER, TABLES
from fondaco.protocol.errors import Refused


def dump(connection: sqlite3.Connection, *, ledger_only: bool = False) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(table, row) in the order of tables and keys. With `ledger_only` what the blocks alone decide."""
    for table in TABLES.values():
        if ledger_only and (table.source != LEDGER or table.name == "meta"):
            continue
        columns = ", ".join(one.name for one in table.columns)
        for row in connection.execute(f"SELECT {columns} FROM {table.name} ORDER BY {', '.join(table.key)}"):
            yield table.name, row


def difference(one: Path, other: Path, *, ledger_only: bool = False) -> str:
    """The first place in which two databases differ, in words; empty where they are equal.

    Raises `Refused` `market.none` or `market.unreadable`.
    """
    first, second = open_database(one), open_database(other)
    try:
        ours, theirs = (dump(connection, ledger_only=ledger_only) for connection in (first, second))
        for left, right in zip_longest(ours, theirs):
            if left != right:
                return f"{one}: {_told(left)}; {other}: {_told(right)}"
        return ""
    finally:
        first.close()
        second.close()


def open_database(path: Path) -> sqlite3.Connection:
    """A market database to be read. Raises `Refused` `market.none` or `market.unreadable`."""
    try:
        connection = view(path)
        connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    except sqlite3.Error as error:
        raise Refused("market.unreadable", f"{path}: {error}", hint="fondaco market rebuild") from None
    return connection


def _told(found: tuple[str, tuple[Any, ...]] | None) -> str:
    if found is None:
        return "no further row"
    table, row = found
    return f"{table} has {', '.join(str(value) for value in row)}"[:300]
