"""Offers as rows: what is in them, what they cost, which a query holds of, and in what order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fondaco.protocol.offers import Offer, Offered, OfferLine
from fondaco.protocol.query import OFFERS, parse
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey
from fondaco.protocol.selection import ProviderFacts
from fondaco.protocol.selection.stock import GIB, NOTHING, Stock, look, rows

ALICE, BOB = PublicKey(b"a" * 32), PublicKey(b"b" * 32)
EU = ProviderFacts(attributes=(Attribute(key="region", value="eu-west"),), audited_by=frozenset({"Acme"}))


def line(kind: Offered, free: int, price: int | None, model: str = "") -> OfferLine:
    cost = None if price is None else MicroCredits(price)
    return OfferLine(resource=kind, model=model, total=free, free=free, price_per_hour=cost)


def offer(*lines: OfferLine, provider: PublicKey = ALICE) -> Offer:
    return Offer(provider=provider, lines=lines, attributes=(), policy=(), serial=1, expires_at=Millis(2))


CPUS, MEMORY = line(Offered.CPU_MILLI, 4_000, 3_000), line(Offered.MEMORY_BYTES, 8 * GIB, 500)
SLOW, FAST = line(Offered.STORAGE_BYTES, 90 * GIB, 10, "hdd"), line(Offered.STORAGE_BYTES, 5 * GIB, 40, "nvme")
H100 = line(Offered.GPU_UNITS, 2, 2_000_000, "h100 80Gi sxm")
T4 = line(Offered.GPU_UNITS, 1, None, "t4")
FULL = offer(CPUS, MEMORY, SLOW, FAST, H100, T4)


def found(query: str, *stocks: Stock, by: str = "price", descending: bool = False) -> list[str]:
    parsed = parse(query, OFFERS) if query else None
    return [one.gpu for one in look(stocks, parsed, by=by, descending=descending)]


def test_there_is_a_row_for_the_processors_and_one_for_each_model_of_gpu() -> None:
    cpus, h100, t4 = rows(FULL, EU)
    assert (cpus.gpu, cpus.free.cpu_milli, cpus.free.gpu_units, cpus.price_per_hour) == ("", 4_000, 0, 3_000)
    assert (cpus.free.memory_bytes, cpus.free.storage_bytes) == (8 * GIB, 95 * GIB)
    assert (h100.gpu, h100.free.gpu_units, h100.price_per_hour) == ("h100 80Gi sxm", 2, 2_000_000)
    assert (t4.price_per_hour, t4.get("price")) == (None, None), "nothing is made up where no price is listed"


@pytest.mark.parametrize(
    ("wanted", "rows_and_prices"),
    [
        ({"cpu_milli": 1_500}, [("", 4_500)]),
        ({"cpu_milli": 1}, [("", 3)]),
        ({"cpu_milli": 2_000, "memory_bytes": GIB // 2}, [("", 6_250)]),
        ({"storage_bytes": 2 * GIB}, [("", 20)]),
        ({"storage_bytes": 92 * GIB}, [("", None)]),
        ({"memory_bytes": 9 * GIB}, []),
        ({"cpu_milli": 1_000, "gpu_units": 2}, [("h100 80Gi sxm", 4_003_000)]),
        ({"gpu_units": 1}, [("h100 80Gi sxm", 2_000_000), ("t4", None)]),
        ({"gpu_units": 3}, []),
    ],
)
def test_what_is_looked_for_is_priced_and_rows_without_room_are_left_out(
    wanted: dict[str, int], rows_and_prices: list[tuple[str, int | None]]
) -> None:
    assert [(one.gpu, one.price_per_hour) for one in rows(FULL, EU, replace(NOTHING, **wanted))] == rows_and_prices


@pytest.mark.parametrize(
    ("query", "gpus"),
    [
        ("", ["", "h100 80Gi sxm", "t4"]),
        ("gpu.model in [h100, h200]", ["h100 80Gi sxm"]),
        ("gpu.ram in 24GB..80GB", ["h100 80Gi sxm"]),
        ("gpu.interface = sxm", ["h100 80Gi sxm"]),
        ("gpu.model = t4 and gpu.units >= 1", ["t4"]),
        ("gpu.vendor = nvidia", []),
        ("price < 2.5", ["", "h100 80Gi sxm"]),
        (
            "price < 1/day",
            [
                "",
            ],
        ),
        ("cpu >= 4 memory >= 8GiB storage > 90GiB gpu.units = 0", [""]),
        ("region = eu-* and audited by Acme gpu.units > 0", ["h100 80Gi sxm", "t4"]),
        ("region = us-*", []),
    ],
)
def test_a_query_looks_at_rows(query: str, gpus: list[str]) -> None:
    assert found(query, *rows(FULL, EU)) == gpus


def test_rows_are_sorted_by_any_field_and_what_is_not_known_comes_last() -> None:
    bob = offer(replace(CPUS, price_per_hour=MicroCredits(1)), provider=BOB)
    stocks = [*rows(FULL, EU), *rows(bob, ProviderFacts())]
    assert [(one.provider, one.gpu) for one in look(stocks, None, by="price")] == [
        (BOB, ""),
        (ALICE, ""),
        (ALICE, "h100 80Gi sxm"),
        (ALICE, "t4"),
    ]
    dearest = look(stocks, None, by="price", descending=True)
    assert [one.gpu for one in dearest] == ["h100 80Gi sxm", "", "", "t4"]
    assert [one.gpu for one in look(stocks, None, by="gpu.model")] == ["h100 80Gi sxm", "t4", "", ""]
    assert look(stocks, None, by="region")[-1].provider == BOB
    assert look(stocks, None, by="audited")[-1].provider == BOB
