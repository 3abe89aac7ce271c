"""How long choosing takes: one ranking of many bids, and a whole recorded market decided again.

The market is made up: its database is filled row by row, for it is reading and deciding that is measured. Every
order gets bids of twenty of two hundred providers, some of which are attested and some of which fail at times.
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from fondaco.node.bench import Figure, Result
from fondaco.node.market.backtest import Recording, replay
from fondaco.node.market.schema import TABLES
from fondaco.protocol import addresses, reasons
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.query import BIDS, parse
from fondaco.protocol.resources import Attribute, Group, Placement, Totals
from fondaco.protocol.scalars import Hash, MicroCredits, Millis, PublicKey
from fondaco.protocol.selection import STRATEGIES, Candidate, Knowledge, Offered, ProviderFacts, rank
from fondaco.protocol.signing import sha256

ORDERS = 100_000
BIDS_EACH = 20
PROVIDERS = 200
RANKED = 1_000
RUNS = 9
EVERY_MS = 1_000
WHERE = "gpu.model = h100 and price < 2.5 and region = us-* and not outages > 100"


def measure(orders: int = ORDERS, ranked: int = RANKED) -> Result:
    """By the strategy `balanced`, which looks at the most; the ranking with a careful tenant's query."""
    with tempfile.TemporaryDirectory(prefix="fondaco-bench-") as folder:
        path = Path(folder) / "market.db"
        with closing(sqlite3.connect(path)) as connection:
            fill(connection, orders)
            began = time.perf_counter()
            report = replay(Recording(connection), lambda now: STRATEGIES["balanced"])
            whole_s = time.perf_counter() - began
            began = time.perf_counter()
            rows = sum(1 for _ in connection.execute("SELECT * FROM bids"))
            reading_s = time.perf_counter() - began
    assert (report.placed, rows) == (orders, orders * BIDS_EACH), "every order is decided"
    return Result(
        bench="selection",
        parameters={"orders": orders, "bids_each": BIDS_EACH, "providers": PROVIDERS, "ranked": ranked},
        figures={
            "backtest_s": Figure(value=round(whole_s, 2), unit="s"),
            "backtest_us_per_order": Figure(value=round(whole_s * 1_000_000 / orders, 1), unit="us"),
            "rank_ms": Figure(value=round(_rank_ms(ranked), 2), unit="ms"),
        },
        limit={"reading_bids_s": Figure(value=round(reading_s, 2), unit="s")},
    )


def _rank_ms(count: int) -> float:
    chance = random.Random(1)
    query = parse(WHERE, BIDS)
    known = Knowledge(
        providers={
            _provider(number): ProviderFacts(
                attributes=(Attribute(key="region", value=chance.choice(("us-west", "us-east", "eu-north"))),),
                outages=chance.randrange(3),
            )
            for number in range(count)
        }
    )
    bids = [
        Candidate(
            id=Hash(sha256(b"bid" + number.to_bytes(4, "big"))),
            provider=_provider(number),
            price_per_hour=MicroCredits(chance.randrange(1_000_000, 3_000_000)),
            serial=0,
            reclamation_window_ms=Millis(0),
            expires_at=Millis(2),
            offered=Offered(
                totals=Totals(cpu_milli=1_000, memory_bytes=2**30, gpu_units=1, storage_bytes=2**30),
                models=(GpuModel(vendor="nvidia", model="h100"),),
            ),
        )
        for number in range(count)
    ]
    group = Group(
        name="one",
        units=(),
        placement=Placement(attributes=(), all_of=(), any_of=()),
        max_price_per_hour=MicroCredits(3_000_000),
    )
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        rank(group, bids, now=Millis(1), strategy=STRATEGIES["balanced"], known=known, where=query)
        taken.append((time.perf_counter() - began) * 1_000)
    return statistics.median(taken)


def _provider(number: int) -> PublicKey:
    return PublicKey(sha256(b"provider" + number.to_bytes(4, "big")))


def fill(connection: sqlite3.Connection, orders: int) -> None:
    """A market of so many orders, the same every time."""
    chance = random.Random(7)
    for name in ("providers", "attestations", "leases", "orders", "bids"):
        for statement in TABLES[name].create():
            connection.execute(statement)
    names = [addresses.encode(_provider(number)) for number in range(PROVIDERS)]
    regions = ("us-west", "us-east", "eu-north", "ap-south")
    _insert(
        connection,
        "providers",
        ((name, 0, 0, 0, json.dumps({"region": chance.choice(regions)}), "", "[]") for name in names),
    )
    _insert(connection, "attestations", ((name, names[0], "{}", None, "", 0, 0) for name in names[::3]))
    connection.executemany(
        "INSERT INTO leases (id, provider, state, closed_at, reason, paid) VALUES (?, ?, 'closed', ?, ?, 0)",
        (
            (f"{at:x}", chance.choice(names), at * EVERY_MS * 100, reasons.UNSTABLE)
            for at in range(1, orders // 100 + 1)
        ),
    )
    groups = json.dumps([{"name": "one", "max_price_per_hour": 3_000_000}])
    _insert(
        connection,
        "orders",
        (
            (f"{n:064x}", names[n % 50], groups, 0, 0, 0, 0, 0, 0, 0, 0, n * EVERY_MS, 0, b"")
            for n in range(orders)
        ),
    )
    _insert(connection, "bids", _bids(chance, names, orders))
    connection.commit()


def _bids(chance: random.Random, names: list[str], orders: int) -> Iterator[tuple[Any, ...]]:
    for order in range(orders):
        at, offered = order * EVERY_MS, (1_000, 2**30, 1, 2**30, "h100 80Gi sxm")
        for place, name in enumerate(chance.sample(names, BIDS_EACH)):
            price = chance.randrange(1_000_000, 3_000_000)
            identity = f"{order * BIDS_EACH + place:064x}"
            yield (identity, f"{order:064x}", 0, name, price, *offered, 0, 0, at + 60_000, at + place, 0, b"")


def _insert(connection: sqlite3.Connection, table: str, rows: Iterator[tuple[Any, ...]]) -> None:
    places = ", ".join("?" * len(TABLES[table].columns))
    connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
