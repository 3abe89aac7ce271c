"""Every canned query, on histories small enough to reckon by hand."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.chains import decline_by
from tests.support.ledger import HOUR, MINUTE, UNIT, a_group
from tests.support.markets import GPUS, Marketplace, gpu_unit, marketplace, story

from fondaco.node.market.dump import open_database
from fondaco.node.market.metadata import metadata_path
from fondaco.node.market.queries import QUERIES, ask
from fondaco.node.market.shown import address
from fondaco.protocol.market import order_id
from fondaco.protocol.scalars import MicroCredits

NAMES = ("alice", "bob", "paul", "petra")
DAY = 24 * HOUR


@contextmanager
def reading(place: Marketplace) -> Iterator[sqlite3.Connection]:
    connection = open_database(place.database)
    try:
        yield connection
    finally:
        connection.close()


def asked(place: Marketplace, name: str, **values: Any) -> list[dict[str, Any]]:
    with reading(place) as connection:
        return ask(connection, name, values)


def test_prices_by_resource_and_by_gpu_model(tmp_path: Path) -> None:
    with marketplace(tmp_path, *NAMES) as place:
        alice, _, paul, petra = place.town.actors(*NAMES)
        place.grow(paul.registers(attributes=GPUS), petra.registers(attributes=GPUS))
        for price, units in ((1_000, 1), (6_000, 4), (9_000, 3)):  # by GPU: 1,000, 1,500, 3,000
            place.lease(alice, (paul, price), deposit=10_000, units=(gpu_unit("h100", units=units),))
        place.lease(alice, (petra, 500), deposit=10_000, units=(gpu_unit("a100", units=2),))
        place.lease(alice, (petra, 100), (petra, 300), deposit=10_000)  # each 100 milli-CPU, 1 MiB
        rows = {(row.pop("resource"), row.pop("model")): tuple(row.values()) for row in asked(place, "prices")}
        # leases, least, median, weighted
        assert rows == {
            ("GPU", "h100"): (3, 1_000, 1_500, (1_000 + 6_000 + 9_000) // 8),
            ("GPU", "a100"): (1, 250, 250, 250),
            ("CPU", ""): (2, 1_000, 2_000, 2_000),
            ("GiB of memory", ""): (2, 102_400, 204_800, 204_800),
        }
        (a100, h100) = asked(place, "gpu")
        assert (h100["model"], h100["median_price"], h100["leased_now"]) == ("h100", 1_500, 8)
        assert (a100["model"], a100["leased_now"]) == ("a100", 2)
        place.grow(after_ms=2 * DAY)  # none was handed over: all have lapsed
        assert [row["leased_now"] for row in asked(place, "gpu")] == [0, 0]
        assert asked(place, "prices", days=1) == []
        assert len(asked(place, "prices", days="3")) == 4


def test_revenue_by_gpu_and_day(tmp_path: Path) -> None:
    with marketplace(tmp_path, *NAMES) as place:
        alice, _, paul, petra = place.town.actors(*NAMES)
        midnight = (place.town.now // DAY + 1) * DAY
        place.grow(
            paul.registers(attributes=GPUS),
            petra.registers(attributes=GPUS),
            after_ms=midnight - place.chain.head.time,
        )
        both = (gpu_unit("h100", units=3), gpu_unit("a100", identity=2))
        mixed = place.lease(alice, (paul, 4_000), deposit=10**6, units=both)
        plain = place.lease(alice, (petra, 1_000), deposit=10**6, units=(gpu_unit("h100", units=1),))
        place.grow(paul.activates(mixed.lease, receipt_of=alice), petra.activates(plain.lease, receipt_of=alice))
        place.grow(paul.withdraws(mixed.lease), petra.withdraws(plain.lease), after_ms=2 * HOUR)
        place.grow(petra.withdraws(plain.lease), after_ms=DAY)
        rows = [tuple(row.values())[2:] for row in asked(place, "gpu_revenue")]
        # 8,000 for 3 h100 and an a100, and 2,000 for an h100; the next day 24,000 for that one
        assert rows == [
            ("a100", 2_000, 1, 2_000),
            ("h100", 8_000, 4, 2_000),
            ("h100", 24_000, 1, 24_000),
        ]
        assert asked(place, "gpu_revenue")[0]["day"] == midnight // DAY


def test_what_is_leased_now_and_was_on_average(tmp_path: Path) -> None:
    with marketplace(tmp_path, "alice", "paul") as place:
        alice, paul = place.town.actors("alice", "paul")
        place.grow(paul.registers(attributes=GPUS))
        place.grow(after_ms=HOUR - 1_000)
        draft = place.lease(alice, (paul, 1_000), deposit=10**6, units=(gpu_unit("h100", units=4),))
        place.grow(paul.activates(draft.lease, receipt_of=alice))
        place.grow(alice.closes(draft.lease), after_ms=HOUR - 1_000)
        place.grow(after_ms=HOUR)
        place.grow(after_ms=HOUR - 1_000)  # 4 GPUs for one of the four hours since the first block
        (row,) = asked(place, "utilisation")
        assert (row["provider"], row["leases"], row["gpu_units"], row["cpu_milli"]) == (
            address(paul.key),
            0,
            1,
            25,
        )
        place.lease(alice, (paul, 1_000), deposit=10**6, units=(UNIT,))
        rows = {row["resource"]: row for row in asked(place, "capacity")}
        assert (rows["cpu_milli"]["leased"], rows["gpu_units"]["leased"]) == (100, 0)
        assert (rows["cpu_milli"]["total"], rows["cpu_milli"]["leased_permille"]) == (None, None)


def test_what_is_offered_and_what_of_it_is_free(tmp_path: Path) -> None:
    with marketplace(tmp_path, "alice", "paul", "petra") as place:
        alice, paul, _ = place.town.actors("alice", "paul", "petra")
        place.grow(paul.registers(attributes=GPUS))
        place.lease(alice, (paul, 1_000), deposit=10**6, units=(gpu_unit("h100", units=3),))
        until = place.chain.head.time + MINUTE
        offers = [
            (address(paul.key), "gpu_units", "h100", 8, 5, 2_000, until),
            ("fond1other", "gpu_units", "h100", 4, 4, 1_500, until),
            ("fond1late", "gpu_units", "h100", 9, 9, 100, until - MINUTE),
        ]
        with sqlite3.connect(place.database) as connection:
            for offer in offers:
                connection.execute("INSERT INTO offers VALUES (?, ?, ?, ?, ?, ?, 1, ?, 0)", offer)
        connection.close()
        assert asked(place, "availability") == [
            {"resource": "gpu_units", "model": "h100", "providers": 2, "total": 12, "free": 9, "min_price": 1_500}
        ]
        rows = {
            row["provider"]: tuple(row.values())[2:]
            for row in asked(place, "capacity")
            if row["resource"] == "gpu_units"
        }
        assert rows == {address(paul.key): (3, 8, 5, 375), "fond1other": (0, 4, 4, 0)}


def test_uptime_counts_twenty_minutes_after_each_sign(tmp_path: Path) -> None:
    with marketplace(tmp_path, "paul") as place:
        (paul,) = place.town.actors("paul")
        place.grow(paul.registers(attributes=GPUS))
        place.grow(paul.pays(paul, 1), after_ms=10 * MINUTE)  # up from 0 to 30 minutes
        place.grow(paul.pays(paul, 1), after_ms=50 * MINUTE)  # and from 60 to 80
        place.grow(after_ms=40 * MINUTE)
        (row,) = asked(place, "uptime")
        assert row == {
            "address": address(paul.key),
            "day_1_permille": 500,
            "day_7_permille": 500,
            "day_30_permille": 500,
        }
        place.grow(after_ms=2 * DAY - 100 * MINUTE)
        (row,) = asked(place, "uptime")
        assert row["day_1_permille"] == 0
        assert row["day_7_permille"] == row["day_30_permille"] == 50 * 1_000 // 2_880
        (provider,) = asked(place, "providers")
        assert provider["day_7_permille"] == row["day_7_permille"]


def test_times_from_an_order_to_its_bids_lease_and_hand_off(tmp_path: Path) -> None:
    with marketplace(tmp_path, "alice", "paul") as place:
        alice, paul = place.town.actors("alice", "paul")
        place.grow(paul.registers(attributes=GPUS))
        heard_at = place.chain.head.time + 10
        draft = place.lease(alice, (paul, 1_000), (paul, 900), deposit=10**6)
        one, two = draft.leases
        place.grow(paul.activates(one, receipt_of=alice))
        (row,) = asked(place, "order_times")
        assert row == {
            "order_id": draft.deployment.hex(),
            "seen_at": heard_at,
            "to_bid_ms": 10,
            "to_lease_ms": 990,
            "to_running_ms": None,
        }
        place.grow(paul.activates(two, receipt_of=alice))
        assert asked(place, "order_times")[0]["to_running_ms"] == 990 + 2_000


def test_declines_and_closings_are_counted_by_reason(tmp_path: Path) -> None:
    with marketplace(tmp_path, *NAMES) as place:
        alice, bob, paul, petra = place.town.actors(*NAMES)
        story(place)
        for order in (
            alice.order(a_group(), deposit=MicroCredits(1)),
            bob.order(a_group(), deposit=MicroCredits(2)),
        ):
            place.hear(decline_by(paul, order_id(place.town.chain, order.order)))
        place.grow()
        assert asked(place, "declines") == [{"dimension": "cpu", "declines": 3, "providers": 2, "orders": 3}]
        closings = {row["reason"]: row["leases"] for row in asked(place, "closings")}
        assert closings == {0: 1, 7: 1, 20_001: 1}
        rows = {row["address"]: row for row in asked(place, "providers")}
        assert rows[address(paul.key)]["leases"] == 2
        assert rows[address(petra.key)]["orders_bid"] == rows[address(petra.key)]["orders_declined"] == 1
        assert (
            sum(row["earned"] for row in rows.values()) == place.row("SELECT sum(paid) AS sum FROM leases")["sum"]
        )


@pytest.mark.parametrize("name", QUERIES)
def test_a_canned_query_answers_over_any_history_even_none(tmp_path: Path, name: str) -> None:
    with marketplace(tmp_path, *NAMES) as place:
        asked(place, name)
        story(place)
        asked(place, name, **dict.fromkeys(QUERIES[name].params, "7"))


def test_datasette_opens_it_and_runs_every_canned_query(tmp_path: Path) -> None:
    with marketplace(tmp_path, *NAMES) as place:
        story(place)
        metadata = metadata_path(place.database)
        document = json.loads(metadata.read_text(encoding="utf-8"))
        assert document["databases"]["market"]["queries"].keys() == QUERIES.keys()
        for path in ("/market/leases.json?_shape=array", "/market/gpu.json?_shape=array&days=3"):
            assert isinstance(json.loads(datasette(place.database, metadata, path)), list)
        page = datasette(place.database, metadata, "/market")
        assert all(query.title in page for query in QUERIES.values())


def datasette(database: Path, metadata: Path, path: str) -> str:
    command = [sys.executable, "-m", "datasette", str(database), "-m", str(metadata), "--get", path]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
