"""What a provider's offer tells, and when it is told anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from tests.support.providers import CHAIN, Site, inline_threads, make_order, open_site
from tests.support.workloads import attributes, gpu, key, unit

from fondaco.protocol.book import bounds
from fondaco.protocol.limits import GIB
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.offers import Offered, check_offer
from fondaco.protocol.scalars import Millis
from fondaco.provider.capacity import Allocation, Load, Node
from fondaco.provider.eligibility import Profile
from fondaco.provider.inventory import Inventory
from fondaco.provider.offering import offer_of
from fondaco.provider.policy import Policy
from fondaco.provider.pricing import LinearScale

H100 = GpuModel(vendor="nvidia", model="h100", ram="80Gi")
T4 = GpuModel(vendor="nvidia", model="t4")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


def test_an_offer_sums_over_machines_and_tells_list_prices_and_the_policy() -> None:
    load = Load(
        cpu_milli=4_000, memory_bytes=8 * GIB, gpus={H100: 2, T4: 1}, storage_bytes={"": GIB, "beta3": GIB}
    )
    inventory = Inventory([Node(name="a", capacity=load), Node(name="b", capacity=load)])
    found = inventory.plan((unit(gpus=1, models=gpu("h100")),), key(2))
    assert isinstance(found, Allocation)
    inventory.reserve(b"r", tenant=key(2), allocation=found, expires_at=Millis(9))
    scale = LinearScale(per_cpu=10, per_memory_gib=20, per_storage_gib={"": 1}, per_gpu={"h100": 500})
    told = {
        "profile": Profile(attributes=attributes(region="eu")),
        "policy": Policy(min_deposit=5),
        "now": Millis(7),
    }
    offer = offer_of(key(1), inventory, listed=scale, **told)  # type: ignore[arg-type]
    assert [(one.resource, one.model, one.total, one.free, one.price_per_hour) for one in offer.lines] == [
        (Offered.CPU_MILLI, "", 8_000, 7_000, 10),
        (Offered.MEMORY_BYTES, "", 16 * GIB, 15 * GIB, 20),
        (Offered.STORAGE_BYTES, "", 2 * GIB, GIB, 1),
        (Offered.STORAGE_BYTES, "beta3", 2 * GIB, 2 * GIB, None),
        (Offered.GPU_UNITS, "h100 80Gi", 4, 3, 500),
        (Offered.GPU_UNITS, "t4", 2, 2, None),
    ]
    assert offer.policy == attributes(min_deposit="5") or offer.policy[0].value == "5"
    assert (offer.serial, offer.expires_at) == (7, 7 + bounds.OFFER_LIFE_MS)
    without = offer_of(key(1), inventory, listed=None, **told)  # type: ignore[arg-type]
    assert {one.price_per_hour for one in without.lines} == {None}


async def test_it_is_told_at_once_when_something_changed_and_before_it_expires(
    site: Site, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    inline_threads(monkeypatch)
    async with site.running():
        await trio.sleep(1)
        assert len(site.market.offers) == 1
        check_offer(CHAIN, site.market.offers[0])
        site.chain.block(ms=30_000)
        await trio.sleep(60)
        assert len(site.market.offers) == 1, "nothing has changed"
        site.market.place(make_order())
        await trio.sleep(60)
        assert len(site.market.offers) == 2
        free = [one.offer.lines[0].free for one in site.market.offers]
        assert free == [4_000, 3_900]
        site.chain.block(ms=400_000)
        await trio.sleep(60)
        assert len(site.market.offers) == 3
        site.chain.retires = True
        site.chain.block(ms=400_000)
        await trio.sleep(60)
        assert len(site.market.offers) == 3, "who retires offers nothing"
