"""Lists over the market database: filters, order, and pages that stay put while rows are added.

A cursor says where the last page ended, by the value it was sorted by and the key of its row, not by a number
of rows: what is added meanwhile neither shifts nor repeats anything.
"""

from __future__ import annotations

import base64
import binascii
import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fondaco.node.market.dump import open_database
from fondaco.node.market.schema import TABLES, Table
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused

STATES = {
    ("leases", "state"): ("awaiting", "active", "reclaiming", "closed"),
    ("deployments", "state"): ("open", "grace", "closed"),
    ("payments", "kind"): ("deposit", "payment", "refund", "handoff_fee"),
}
"""Columns with few values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One list: the table it shows, and what may be asked of it."""

    table: Table
    sorts: tuple[str, ...]
    """Columns to sort by; the first unless another is asked for."""
    equals: tuple[str, ...] = ()
    """Columns that can be held to a value."""
    time: str | None = None
    """The column that `since_ms` and `until_ms` bound."""
    price: str | None = None
    """The column that `min_price` and `max_price` bound."""
    mentions: bool = False
    """Whether rows can be chosen by an id they mention."""

    def column(self, name: str) -> str:
        """A column to sort by; what is not known comes first."""
        (found,) = (one for one in self.table.columns if one.name == name)
        return f"coalesce({name}, {'-1' if found.kind == 'INTEGER' else repr('')})" if found.nullable else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody wants of a list."""

    sort: str
    descending: bool
    limit: int
    cursor: str | None
    equals: Mapping[str, str]
    bounds: Mapping[str, int]
    """since_ms, until_ms, min_price, max_price."""
    mentions: str | None


LISTS = {
    one.table.name: one
    for one in (
        Listing(table=TABLES["blocks"], sorts=("height", "time_ms"), equals=("proposer", "hash"), time="time_ms"),
        Listing(
            table=TABLES["transactions"], sorts=("time_ms", "fee"), equals=("sender", "code", "id"), time="time_ms"
        ),
        Listing(
            table=TABLES["events"],
            sorts=("height",),
            equals=("kind", "transaction_id"),
            time="time_ms",
            mentions=True,
        ),
        Listing(
            table=TABLES["deployments"],
            sorts=("opened_at", "deposited", "paid"),
            equals=("state", "tenant", "id"),
            time="opened_at",
        ),
        Listing(
            table=TABLES["leases"],
            sorts=("opened_at", "price_per_hour", "paid", "closed_at"),
            equals=("state", "tenant", "provider", "deployment", "gpu_model", "id"),
            time="opened_at",
            price="price_per_hour",
        ),
        Listing(
            table=TABLES["payments"],
            sorts=("height", "amount"),
            equals=("kind", "account", "lease", "deployment"),
            time="time_ms",
        ),
        Listing(table=TABLES["providers"], sorts=("address", "bond", "registered_at"), equals=("address",)),
        Listing(table=TABLES["attestations"], sorts=("provider", "time_ms"), equals=("provider", "auditor")),
        Listing(table=TABLES["utilisation"], sorts=("height",), equals=("provider",), time="time_ms"),
        Listing(
            table=TABLES["orders"],
            sorts=("seen_at", "max_price_per_hour"),
            equals=("tenant", "id"),
            time="seen_at",
            price="max_price_per_hour",
        ),
        Listing(
            table=TABLES["bids"],
            sorts=("seen_at", "price_per_hour"),
            equals=("order_id", "provider", "gpu_model", "id"),
            time="seen_at",
            price="price_per_hour",
        ),
        Listing(
            table=TABLES["declines"],
            sorts=("seen_at",),
            equals=("order_id", "provider", "id"),
            time="seen_at",
        ),
        Listing(
            table=TABLES["offers"],
            sorts=("provider", "price_per_hour", "free"),
            equals=("provider", "resource", "model"),
            time="seen_at",
            price="price_per_hour",
        ),
    )
}
BOUNDS = {"since_ms": ">=", "until_ms": "<", "min_price": ">=", "max_price": "<="}


def page(connection: sqlite3.Connection, listing: Listing, asked: Asked) -> dict[str, Any]:
    """Rows, and the cursor for what follows. Raises `Refused` `api.cursor`."""
    where, values = _filters(listing, asked)
    order = [listing.column(asked.sort), *(key for key in listing.table.key if key != asked.sort)]
    if asked.cursor is not None:
        place = _read_cursor(asked, len(order))
        where.append(f"({', '.join(order)}) {'<' if asked.descending else '>'} ({', '.join('?' * len(order))})")
        values += place
    columns = [one for one in listing.table.columns if one.kind != "BLOB"]
    way = " DESC" if asked.descending else ""
    question = (
        f"SELECT {', '.join(one.name for one in columns)}, {', '.join(order)} FROM {listing.table.name}"
        f"{' WHERE ' + ' AND '.join(where) if where else ''}"
        f" ORDER BY {', '.join(one + way for one in order)} LIMIT ?"
    )
    rows = connection.execute(question, (*values, asked.limit + 1)).fetchall()
    items = [
        {
            one.name: json.loads(value) if one.kind == "JSON" and value else value
            for one, value in zip(columns, row[: len(columns)], strict=True)
        }
        for row in rows[: asked.limit]
    ]
    more = len(rows) > asked.limit
    return {"items": items, "next": _cursor(asked, rows[asked.limit - 1][len(columns) :]) if more else None}


def _filters(listing: Listing, asked: Asked) -> tuple[list[str], list[Any]]:
    where, values = list[str](), list[Any]()
    for name, value in asked.equals.items():
        where.append(f"{name} = ?")
        values.append(value)
    for name, bound in asked.bounds.items():
        where.append(f"{listing.time if name.endswith('_ms') else listing.price} {BOUNDS[name]} ?")
        values.append(bound)
    if asked.mentions is not None:
        key = ", ".join(listing.table.key)
        where.append(f"({key}) IN (SELECT {key} FROM mentions WHERE id = ?)")
        values.append(asked.mentions)
    return where, values


def _cursor(asked: Asked, place: tuple[Any, ...]) -> str:
    raw = json.dumps([asked.sort, asked.descending, *place], separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def _read_cursor(asked: Asked, length: int) -> list[Any]:
    text = asked.cursor or ""
    try:
        found = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        found = None
    if (
        type(found) is not list
        or found[:2] != [asked.sort, asked.descending]
        or len(found) != 2 + length
        or not all(type(one) is str or (type(one) is int and abs(one) < 2**63) for one in found[2:])
    ):
        raise Refused("api.cursor", "this cursor is not of such a list", hint="ask for the first page again")
    return found[2:]


def bounded(path: Path) -> sqlite3.Connection:
    """The database, for one question that may not take for ever: it then ends with `OperationalError`.

    Raises `Refused` `market.none` while there is no database yet.
    """
    connection = open_database(path)
    until = time.monotonic() + limits.MARKET_QUERY_MS / 1_000
    connection.set_progress_handler(lambda: time.monotonic() > until, 10_000)
    return connection
