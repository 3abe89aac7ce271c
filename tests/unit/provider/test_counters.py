"""What a provider would serve instead: one change, tried like any other order, at its price."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.workloads import attributes, gpu, group, key, unit, volume

from fondaco.protocol import limits
from fondaco.protocol.limits import GIB, MIB
from fondaco.protocol.market import Change, CounterOffer
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.resources import Attribute, Group
from fondaco.protocol.scalars import Millis
from fondaco.provider.bidding import DeclinePlan, MarketContext, consider
from fondaco.provider.capacity import Load, Node
from fondaco.provider.counters import counter_offers
from fondaco.provider.eligibility import Profile
from fondaco.provider.inventory import Inventory
from fondaco.provider.policy import Policy
from fondaco.provider.pricing import LinearScale

H100, T4 = GpuModel(vendor="nvidia", model="h100"), GpuModel(vendor="nvidia", model="t4")
OWN = tuple(
    Attribute(key=f"capabilities/gpu/vendor/nvidia/model/{model}", value="true") for model in ("h100", "t4")
) + attributes(region="eu")
HOUR = Millis(3_600_000)


def context(**changes: Any) -> MarketContext:
    nodes = [
        Node(
            name=name,
            capacity=Load(cpu_milli=4_000, memory_bytes=8 * GIB, gpus={T4: 2}, storage_bytes={"": 10 * GIB}),
        )
        for name in ("a", "b")
    ]
    base = MarketContext(
        provider=key(1),
        tenant=key(2),
        now=Millis(0),
        order_expires_at=Millis(1_000),
        profile=Profile(attributes=OWN),
        pricing=LinearScale(
            per_cpu=100_000, per_memory_gib=0, per_storage_gib={"": 0}, per_gpu={"t4": 200_000, "h100": 900_000}
        ),
        inventory=Inventory(nodes),
    )
    return replace(base, **changes)


def instead(asked: Group, **changes: Any) -> list[CounterOffer]:
    market = context(**changes)
    before = market.inventory.free()
    plan = consider(asked, market)
    assert isinstance(plan, DeclinePlan)
    found = counter_offers(asked, market, plan)
    assert market.inventory.free() == before
    return list(found)


def told(asked: Group, **changes: Any) -> list[str]:
    return [str(one) for one in instead(asked, **changes)]


def test_a_price_below_ours_gets_ours() -> None:
    (offer,) = instead(group(unit(cpu=2_000), price=1))
    assert (offer.change, offer.value, offer.price_per_hour) == (Change.PRICE, 200_000, 200_000)


def test_fewer_replicas_where_not_all_find_place() -> None:
    (offer,) = instead(group(unit(cpu=3_000, count=5, volumes=())))
    assert (offer.change, offer.unit, offer.value) == (Change.REPLICAS, 1, 2)
    assert offer.price_per_hour == 600_000


def test_fewer_still_where_the_other_units_take_some() -> None:
    found = told(group(unit(1, cpu=4_000, volumes=()), unit(2, cpu=1_000, count=8, volumes=())))
    assert found == ["unit 2 with 4 replicas, at 800000 ucredit/h"]


def test_a_smaller_volume_where_that_is_what_lacks() -> None:
    volumes = (volume(size=2 * GIB), volume("data", 9 * GIB))
    found = told(group(unit(count=2, volumes=volumes)))
    assert "unit 1 with 8192 MiB of data, at 200000 ucredit/h" in found
    assert "unit 1 with 1024 MiB of default, at 200000 ucredit/h" in found


def test_no_volume_smaller_than_one_may_be_and_none_in_memory() -> None:
    full = Inventory(
        [Node(name="a", capacity=Load(cpu_milli=4_000, memory_bytes=GIB, storage_bytes={"": 4 * MIB}))]
    )
    volumes = (volume(size=GIB), volume("shm", 2 * GIB, kind="ram"))
    assert told(group(unit(volumes=volumes)), inventory=full) == []


def test_another_gpu_model_where_the_one_asked_for_is_not_there() -> None:
    found = told(group(unit(gpus=2, models=gpu("h100"))))
    assert found == ["unit 1 on vendor/nvidia/model/t4, at 500000 ucredit/h"]
    assert told(group(unit(gpus=5, models=gpu("h100")))) == []


def test_a_notice_that_we_do_not_grant_is_offered_as_long_as_we_grant_it() -> None:
    asked = group(unit())
    (offer,) = instead(asked, reclamation_window_ms=Millis(2 * HOUR), offered_reclamation_ms=HOUR)
    assert (offer.change, offer.value, offer.unit) == (Change.WINDOW, HOUR, 0)
    assert told(asked, reclamation_window_ms=HOUR) == ["without notice, at 100000 ucredit/h"]


def test_nothing_is_offered_where_two_things_stand_against_it() -> None:
    assert told(group(unit(cpu=3_000, count=5), asked=attributes(region="us"))) == []
    assert told(group(unit(cpu=3_000, count=5), price=1)) == []
    assert told(group(unit()), policy=Policy(deny=frozenset({key(2)}))) == []


def test_so_many_are_given_and_no_more() -> None:
    units = [unit(number, cpu=10, volumes=(volume(size=11 * GIB),)) for number in range(1, 9)]
    assert len(told(group(*units))) <= limits.DECLINE_COUNTER_OFFERS
    volumes = tuple(volume(f"v{n}", 3 * GIB) for n in range(4))
    asked = group(unit(1, cpu=10, volumes=volumes, count=2), unit(2, cpu=10, volumes=()))
    assert len(told(asked)) == limits.DECLINE_COUNTER_OFFERS
