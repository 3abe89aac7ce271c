"""What people ask of a market, as SQL over `market.db`: for the command line, the API and Datasette alike.

"Now" is the time of the newest block. Where a question takes `days`, it looks so far back from there; 30 unless
told. Divisions are whole: prices are floored to a ucredit, shares to a thousandth.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ALIVE_MS = 1_200_000
"""A provider counts as up for so long after each transaction it sent, and it sends one every ten minutes."""
DAY_MS = 86_400_000
RESOURCES = ("cpu_milli", "memory_bytes", "gpu_units", "storage_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    title: str
    meaning: str
    sql: str
    params: tuple[str, ...] = ()
    """Names; each may be left empty."""


_NOW = "(SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'time_ms')"
_START = "(SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'start_ms')"
_DAYS = "CAST(coalesce(nullif(:days, ''), 30) AS INTEGER)"
_SINCE = f"({_NOW} - {_DAYS} * {DAY_MS})"

_PRICED = f"""
WITH priced AS (
  SELECT 'GPU' AS resource, g.model AS model, g.units AS quantity, l.price_per_hour / l.gpu_units AS price
    FROM lease_gpus g JOIN leases l ON l.id = g.lease WHERE l.opened_at >= {_SINCE}
  UNION ALL SELECT 'CPU', '', cpu_milli, price_per_hour * 1000 / cpu_milli
    FROM leases WHERE gpu_units = 0 AND cpu_milli > 0 AND opened_at >= {_SINCE}
  UNION ALL SELECT 'GiB of memory', '', memory_bytes >> 20, price_per_hour * 1024 / (memory_bytes >> 20)
    FROM leases WHERE gpu_units = 0 AND memory_bytes >= 1048576 AND opened_at >= {_SINCE}
  UNION ALL SELECT 'GiB of storage', '', storage_bytes >> 20, price_per_hour * 1024 / (storage_bytes >> 20)
    FROM leases WHERE gpu_units = 0 AND storage_bytes >= 1048576 AND opened_at >= {_SINCE}
),
ranked AS (
  SELECT *, row_number() OVER (PARTITION BY resource, model ORDER BY price) AS place,
    count(*) OVER (PARTITION BY resource, model) AS many
  FROM priced
)
"""
_PRICE_COLUMNS = """
  count(*) AS leases, min(price) AS min_price,
  CAST(avg(CASE WHEN place IN ((many + 1) / 2, (many + 2) / 2) THEN price END) AS INTEGER) AS median_price,
  sum(price * quantity) / sum(quantity) AS weighted_price
"""
_UPTIME = f"""
WITH spans(days) AS (VALUES (1), (7), (30)),
windows AS (
  SELECT address, days, {_NOW} AS until,
    max({_NOW} - days * {DAY_MS}, coalesce(registered_at, {_START})) AS since
  FROM providers, spans
),
signs AS (
  SELECT sender, time_ms AS at, lead(time_ms) OVER (PARTITION BY sender ORDER BY height, position) AS next_at
  FROM transactions
  WHERE sender IN (SELECT address FROM providers) AND time_ms >= {_NOW} - 30 * {DAY_MS} - {ALIVE_MS}
),
uptime AS (
  SELECT address, days, since, until, coalesce(sum(
    max(0, min(at + {ALIVE_MS}, coalesce(next_at, until), until) - max(at, since))), 0) AS up_ms
  FROM windows LEFT JOIN signs ON sender = address
  GROUP BY address, days
)
"""
_LEASED = " UNION ALL ".join(
    f"SELECT provider, '{name}' AS resource, {name} AS leased FROM newest" for name in RESOURCES
)

QUERIES = {
    "prices": Query(
        title="Prices by resource",
        meaning="Of leases opened in the last days: the whole price of a lease by the amount of one resource in"
        " it, in ucredit an hour; for those with GPUs by GPU, for the others by CPU, memory and storage.",
        sql=f"{_PRICED} SELECT resource, model, {_PRICE_COLUMNS} FROM ranked"
        " GROUP BY resource, model ORDER BY resource, model",
        params=("days",),
    ),
    "gpu": Query(
        title="GPUs by model",
        meaning="Prices by GPU and hour of leases opened in the last days, and how many are leased now.",
        sql=f"""{_PRICED},
prices AS (SELECT model, {_PRICE_COLUMNS} FROM ranked WHERE resource = 'GPU' GROUP BY model),
held AS (SELECT g.model AS model, sum(g.units) AS units FROM lease_gpus g JOIN leases l ON l.id = g.lease
  WHERE l.state != 'closed' GROUP BY g.model)
SELECT model, leases, min_price, median_price, weighted_price,
  coalesce((SELECT units FROM held WHERE held.model = prices.model), 0) AS leased_now
FROM prices ORDER BY model""",
        params=("days",),
    ),
    "gpu_revenue": Query(
        title="Revenue by GPU and day",
        meaning="What was paid for GPUs each day, by model and by GPU; a lease with several models counts in"
        " proportion.",
        sql=f"""
WITH paid AS (SELECT time_ms / {DAY_MS} AS day, lease, sum(amount) AS amount FROM payments
  WHERE kind = 'payment' AND time_ms >= {_SINCE} GROUP BY day, lease)
SELECT day, date(day * 86400, 'unixepoch') AS date, model, sum(amount * units / gpu_units) AS revenue,
  sum(units) AS gpus, sum(amount * units / gpu_units) / sum(units) AS revenue_per_gpu
FROM paid JOIN leases l ON l.id = paid.lease JOIN lease_gpus g ON g.lease = l.id
GROUP BY day, model ORDER BY day, model""",
        params=("days",),
    ),
    "capacity": Query(
        title="Capacity by provider",
        meaning="What is leased now, and, of providers whose offers were heard, all they have and what is free.",
        sql=f"""
WITH newest AS (SELECT * FROM utilisation u WHERE NOT EXISTS (SELECT 1 FROM utilisation v
    WHERE v.provider = u.provider AND (v.height, v.position) > (u.height, u.position))),
leased AS ({_LEASED}),
offered AS (SELECT provider, resource, sum(total) AS total, sum(free) AS free FROM offers
  WHERE expires_at > {_NOW} GROUP BY provider, resource),
known AS (SELECT provider, resource FROM leased UNION SELECT provider, resource FROM offered)
SELECT known.provider AS provider, known.resource AS resource, coalesce(leased, 0) AS leased, total, free,
  coalesce(leased, 0) * 1000 / nullif(total, 0) AS leased_permille
FROM known LEFT JOIN leased USING (provider, resource) LEFT JOIN offered USING (provider, resource)
ORDER BY provider, resource""",
    ),
    "availability": Query(
        title="What is free",
        meaning="Over all offers that stand: by resource and model or class, all there is and what is free.",
        sql=f"""
SELECT resource, model, count(DISTINCT provider) AS providers, sum(total) AS total, sum(free) AS free,
  min(price_per_hour) AS min_price
FROM offers WHERE expires_at > {_NOW} GROUP BY resource, model ORDER BY resource, model""",
    ),
    "utilisation": Query(
        title="Leased on average",
        meaning="What of a provider was leased on average over the last days, weighted by time.",
        sql=f"""
WITH steps AS (SELECT *, lead(time_ms) OVER (PARTITION BY provider ORDER BY height, position) AS next_ms
  FROM utilisation),
weighted AS (SELECT *, max(0, coalesce(next_ms, {_NOW}) - max(time_ms, {_SINCE}, {_START})) AS span FROM steps)
SELECT provider, {", ".join(f"sum({name} * span) / span_ms AS {name}" for name in ("leases", *RESOURCES))}
FROM weighted, (SELECT nullif({_NOW} - max({_SINCE}, {_START}), 0) AS span_ms)
GROUP BY provider ORDER BY provider""",
        params=("days",),
    ),
    "uptime": Query(
        title="Uptime of providers",
        meaning="Thousandths of the last 1, 7 and 30 days, or of the time since it is known, in which a provider"
        " was up: twenty minutes after each transaction it sent.",
        sql=f"""{_UPTIME}
SELECT address, max(CASE WHEN days = 1 THEN up_ms * 1000 / nullif(until - since, 0) END) AS day_1_permille,
  max(CASE WHEN days = 7 THEN up_ms * 1000 / nullif(until - since, 0) END) AS day_7_permille,
  max(CASE WHEN days = 30 THEN up_ms * 1000 / nullif(until - since, 0) END) AS day_30_permille
FROM uptime GROUP BY address ORDER BY address""",
    ),
    "providers": Query(
        title="Providers",
        meaning="What each serves and earned, how it answers orders, and its uptime over seven days.",
        sql=f"""{_UPTIME}
SELECT address, attributes, bond,
  (SELECT count(*) FROM leases WHERE provider = address AND state != 'closed') AS open_leases,
  (SELECT count(*) FROM leases WHERE provider = address) AS leases,
  (SELECT coalesce(sum(amount), 0) FROM payments WHERE account = address AND kind = 'payment') AS earned,
  (SELECT count(DISTINCT order_id) FROM bids WHERE provider = address) AS orders_bid,
  (SELECT count(DISTINCT order_id) FROM declines WHERE provider = address) AS orders_declined,
  (SELECT up_ms * 1000 / nullif(until - since, 0) FROM uptime u
    WHERE u.address = providers.address AND days = 7) AS day_7_permille
FROM providers ORDER BY earned DESC, address""",
    ),
    "order_times": Query(
        title="From order to running",
        meaning="Milliseconds from the moment an order was heard to its first bid, to its lease and until all of"
        " it ran; the newest hundred. A bid is timed by this node's clock (0 where it overtook its order),"
        " lease and hand-off by block time.",
        sql="""
SELECT o.id AS order_id, o.seen_at AS seen_at,
  max(0, (SELECT min(seen_at) FROM bids b WHERE b.order_id = o.id) - o.seen_at) AS to_bid_ms,
  (SELECT min(opened_at) FROM leases l WHERE l.order_id = o.id) - o.seen_at AS to_lease_ms,
  (SELECT CASE WHEN count(*) = count(activated_at) THEN max(activated_at) END
    FROM leases l WHERE l.order_id = o.id) - o.seen_at AS to_running_ms
FROM orders o ORDER BY o.seen_at DESC, o.id LIMIT 100""",
    ),
    "declines": Query(
        title="Why providers decline",
        meaning="How often each dimension failed in the declines of the last days.",
        sql=f"""
SELECT json_extract(reason.value, '$.dimension') AS dimension, count(*) AS declines,
  count(DISTINCT provider) AS providers, count(DISTINCT order_id) AS orders
FROM declines, json_each(declines.reasons) AS reason WHERE seen_at >= {_SINCE}
GROUP BY dimension ORDER BY declines DESC, dimension""",
        params=("days",),
    ),
    "closings": Query(
        title="Why leases end",
        meaning="Leases that ended in the last days, by reason: below 10000 the tenant's, below 20000 the"
        " provider's, from there the network's own.",
        sql=f"""
SELECT reason, count(*) AS leases, sum(paid) AS paid FROM leases
WHERE state = 'closed' AND closed_at >= {_SINCE} GROUP BY reason ORDER BY leases DESC, reason""",
        params=("days",),
    ),
}


def ask(
    connection: sqlite3.Connection, name: str, values: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The rows of a canned query; values not given are left to it."""
    query = QUERIES[name]
    given = {param: (values or {}).get(param, "") for param in query.params}
    found = connection.execute(query.sql, given)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
