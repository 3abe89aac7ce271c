"""What recent leases cost, for a provider that follows the market: read from `market.db` now and then."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import trio

from fondaco.node.market.log import view
from fondaco.protocol.errors import Refused
from fondaco.provider.ports import Deal
from fondaco.provider.pricing import LinearScale
from fondaco.provider.pricing.market import levels

log = logging.getLogger("fondaco.provider")
REFRESH_S = 60
DEALS = 5_000
"""The newest leases that are looked at."""
DAY_MS = 86_400_000
_NEWEST = """
SELECT id, price_per_hour, coalesce(cpu_milli, 0), coalesce(memory_bytes, 0), coalesce(storage_bytes, 0)
FROM leases
WHERE price_per_hour IS NOT NULL AND opened_at >=
  (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'time_ms') - ?
ORDER BY opened_at DESC, id LIMIT ?
"""


def recent(connection: sqlite3.Connection, days: int) -> list[Deal]:
    """The leases opened in the last days, before the newest block."""
    rows = connection.execute(_NEWEST, (days * DAY_MS, DEALS)).fetchall()
    gpus: dict[str, list[tuple[str, int]]] = {}
    chosen = (
        "SELECT lease, model, units FROM lease_gpus WHERE lease IN (SELECT id FROM ("
        + _NEWEST
        + ")) ORDER BY model"
    )
    for lease, model, units in connection.execute(chosen, (days * DAY_MS, DEALS)):
        gpus.setdefault(lease, []).append((model, units))
    return [
        Deal(
            price_per_hour=price,
            cpu_milli=cpu,
            memory_bytes=memory,
            storage_bytes=storage,
            gpus=tuple(gpus.get(lease, ())),
        )
        for lease, price, cpu, memory, storage in rows
    ]


class MarketHistory:
    """`provider.ports.PriceHistory` over a market database; `run` it in a nursery."""

    def __init__(self, database: Path, scale: LinearScale, days: int) -> None:
        self._database = database
        self._scale = scale
        self._days = days
        self._levels: Mapping[str, tuple[int, ...]] = {}

    def levels(self) -> Mapping[str, tuple[int, ...]]:
        return self._levels

    async def run(self) -> None:
        """Until cancelled. What cannot be read is told, and the list's prices stand meanwhile."""
        while True:
            await trio.to_thread.run_sync(self.refresh)
            await trio.sleep(REFRESH_S)

    def refresh(self) -> None:
        """Read it now."""
        try:
            connection = view(self._database)
        except Refused as refusal:  # the node has not made it yet
            log.info("no price history: %s", refusal)
            return
        try:
            self._levels = levels(recent(connection, self._days), self._scale)
        except sqlite3.Error as error:
            log.warning("the price history cannot be read: %s", error)
        finally:
            connection.close()
