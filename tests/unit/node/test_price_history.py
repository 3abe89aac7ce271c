"""What recent leases cost, as a provider reads it from the market database."""

from __future__ import annotations

from pathlib import Path

from fondaco.node.market.index import Index
from fondaco.node.price_history import DAY_MS, MarketHistory, recent
from fondaco.protocol.limits import GIB
from fondaco.protocol.scalars import ChainId
from fondaco.provider.ports import Deal
from fondaco.provider.pricing import LinearScale

SCALE = LinearScale(per_cpu=1_000, per_memory_gib=0, per_storage_gib={"": 0}, per_gpu={"h100/80Gi": 100_000})
NOW = 100 * DAY_MS


def database(folder: Path) -> Path:
    """Three leases: an old one, a plain one, one with GPUs; and one that this node knows nothing about."""
    index = Index.open(folder / "market.db", ChainId("test"))
    assert index is not None
    with index._db.atomic():
        index._set("time_ms", NOW)
        known = {"state": "active", "paid": 0, "memory_bytes": GIB, "storage_bytes": 0}
        rows = (("old", 9, 40, 0), ("plain", 1_500, 1, 0), ("gpus", 210_000, 2, 2))
        for name, price, days, gpus in rows:
            opened = NOW - days * DAY_MS
            index._rows.put(
                "leases", id=name, price_per_hour=price, opened_at=opened, cpu_milli=1_000, gpu_units=gpus, **known
            )
        index._rows.put("lease_gpus", lease="gpus", model="h100 80Gi", units=2)
        index._rows.put("leases", id="unknown", state="closed", paid=0)
    index.close()
    return folder / "market.db"


def test_leases_of_the_last_days_are_read_the_newest_first(tmp_path: Path) -> None:
    history = MarketHistory(database(tmp_path), SCALE, 14)
    history.refresh()
    assert history.levels() == {"cpu": (1_500_000,), "gpu h100": (210_000 * 1_000_000 // 201_000,)}


def test_their_gpus_come_with_them(tmp_path: Path) -> None:
    index = Index.open(database(tmp_path), ChainId("test"))
    assert index is not None
    found = recent(index._db.conn, 100)
    index.close()
    assert [one.price_per_hour for one in found] == [1_500, 210_000, 9]
    gpus = (("h100 80Gi", 2),)
    assert found[1] == Deal(price_per_hour=210_000, cpu_milli=1_000, memory_bytes=GIB, storage_bytes=0, gpus=gpus)


def test_where_there_is_no_database_or_none_worth_the_name_nothing_is_known(tmp_path: Path) -> None:
    history = MarketHistory(tmp_path / "market.db", SCALE, 14)
    history.refresh()
    assert history.levels() == {}
    (tmp_path / "market.db").write_bytes(b"no database at all" * 100)
    history.refresh()
    assert history.levels() == {}
