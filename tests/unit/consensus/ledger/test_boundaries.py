"""The ledger takes no lease beyond a limit of the market, and none that serves less than was asked.

Whoever signs an order or a bid may have read none of our code: each rule is tried with messages that break it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support.ledger import COMMITMENT, FREE, UNIT, World, a_group, codes
from tests.support.workloads import gpu, volume

from fondaco.protocol import limits
from fondaco.protocol.limits import GIB, MIB
from fondaco.protocol.resources import Attribute, Group, ResourceUnit, Volume
from fondaco.protocol.scalars import Millis

HOUR = 3_600_000
CAPABILITIES = (
    ("capabilities/gpu/vendor/nvidia/model/a100", "true"),
    ("capabilities/gpu/vendor/nvidia/model/h100/ram/80Gi/interface/sxm", "true"),
    ("capabilities/storage/1/class", "beta2"),
    ("capabilities/storage/1/persistent", "true"),
    ("capabilities/storage/2/class", "ram"),
    ("capabilities/storage/2/persistent", "false"),
)


class Court:
    """A tenant, a provider of fast machines, and one lease after the other that they ask the ledger for."""

    def __init__(self) -> None:
        self.world = World("tenant", "provider", **FREE)
        self.world.judged = False
        self.tenant, self.provider = self.world.actors("tenant", "provider")
        self.world.block(self.provider.registers(attributes=CAPABILITIES))

    def verdict(self, *groups: Group, offered: tuple[ResourceUnit, ...] | None = None, **order: Any) -> str:
        """How the ledger takes a lease of these groups, offered as asked or, the first of them, otherwise."""
        signed = self.tenant.order(*groups, **order)
        window = signed.order.reclamation_window_ms
        bids = [
            self.provider.bid(
                signed,
                1,
                place,
                reclamation_window_ms=window,
                **({} if offered is None or place else {"units": offered}),
            )
            for place in range(len(groups))
        ]
        (code,) = codes(self.world.block(self.tenant.opens(signed, *bids, deposit=1_000)).events)
        return code


@pytest.fixture(scope="module")
def court() -> Court:
    return Court()


def unit(identity: int = 1, count: int = 1, **resources: Any) -> ResourceUnit:
    return replace(UNIT, id=identity, count=count, resources=replace(UNIT.resources, **resources))


def of(*units: ResourceUnit) -> Group:
    return a_group(units=units)


def gpus(number: int) -> dict[str, Any]:
    return {"gpu_units": number, "gpu_attributes": gpu("a100") if number else ()}


def volumes(*sizes: int) -> tuple[Volume, ...]:
    return tuple(volume(f"v{place}", size) for place, size in enumerate(sizes))


# Limits


@pytest.mark.parametrize(
    ("resources", "bounds"),
    [
        (lambda amount: {"cpu_milli": amount}, (10, 384_000)),
        (lambda amount: {"memory_bytes": amount}, (MIB, 2 * limits.TIB)),
        (gpus, (0, 24)),
        (lambda amount: {"volumes": volumes(amount)}, (5 * MIB, 32 * limits.TIB)),
        (lambda amount: {"volumes": volumes(*[5 * MIB] * amount)}, (0, 4)),
    ],
    ids=["cpu", "memory", "gpu", "volume", "volumes a service"],
)
def test_resources_of_a_unit_keep_the_markets_limits(
    court: Court, resources: Callable[[int], dict[str, Any]], bounds: tuple[int, int]
) -> None:
    low, high = bounds
    for amount in (low, high):
        assert court.verdict(of(unit(**resources(amount)))) == ""
    for amount in (low - 1, high + 1):
        if amount >= 0:
            assert court.verdict(of(unit(**resources(amount)))) == "resources.limit"


@pytest.mark.parametrize(
    "resources",
    [
        {"cpu_milli": 384_000},
        {"memory_bytes": 2 * limits.TIB},
        gpus(24),
        {"volumes": volumes(32 * limits.TIB)},
    ],
    ids=["cpu", "memory", "gpu", "storage"],
)
def test_a_group_is_worth_fifty_of_the_largest_units(court: Court, resources: dict[str, Any]) -> None:
    assert court.verdict(of(unit(1, 25, **resources), unit(2, 25, **resources))) == ""
    assert court.verdict(of(unit(1, 25, **resources), unit(2, 26, **resources))) == "resources.limit"


def test_several_volumes_of_a_unit_are_counted_together(court: Court) -> None:
    both = volumes(32 * limits.TIB, 32 * limits.TIB)
    assert court.verdict(of(unit(count=25, volumes=both))) == ""
    assert court.verdict(of(unit(count=26, volumes=both))) == "resources.limit"


def test_replicas_units_and_groups_are_counted(court: Court) -> None:
    assert court.verdict(of(unit(count=50))) == ""
    assert court.verdict(of(unit(count=51))) == "resources.limit"
    assert court.verdict(of(unit(count=0))) == "resources.limit"
    assert court.verdict(of(*(unit(place) for place in range(20)))) == ""
    assert court.verdict(of(*(unit(place) for place in range(21)))) == "resources.limit"
    groups = [a_group(f"g{place}") for place in range(21)]
    assert court.verdict(*groups[:20]) == ""
    assert court.verdict(*groups) == "order.groups"
    assert court.verdict(commitments=(COMMITMENT,)) == "order.groups"


def test_a_reclamation_window_is_an_hour_to_thirty_days_or_none(court: Court) -> None:
    low, high = HOUR, 720 * HOUR
    for window in (0, low, high):
        assert court.verdict(a_group(), reclamation_window_ms=Millis(window)) == ""
    for window in (1, low - 1, high + 1):
        assert court.verdict(a_group(), reclamation_window_ms=Millis(window)) == "order.reclamation"


def test_an_offer_keeps_the_limits_too(court: Court) -> None:
    for offered in (
        unit(cpu_milli=384_001),
        unit(memory_bytes=2 * limits.TIB + 1),
        unit(**gpus(25)),
        unit(volumes=volumes(32 * limits.TIB + 1)),
        unit(volumes=volumes(*[5 * MIB] * 5)),
    ):
        assert court.verdict(of(unit()), offered=(offered,)) == "resources.limit"


# Offers


ASKED = unit(
    cpu_milli=2_000, memory_bytes=GIB, volumes=(volume("data", GIB, "beta2", "true"),), **gpus(2), count=3
)


def offer(**changes: Any) -> ResourceUnit:
    return replace(ASKED, resources=replace(ASKED.resources, **changes))


def test_an_offer_may_be_better(court: Court) -> None:
    better = offer(
        cpu_milli=4_000, memory_bytes=2 * GIB, gpu_units=3, volumes=(volume("data", 2 * GIB, "beta2", "true"),)
    )
    assert court.verdict(of(ASKED), offered=(better,)) == ""


@pytest.mark.parametrize(
    "offered",
    [
        (),
        (ASKED, replace(UNIT, id=2)),
        (replace(ASKED, id=2),),
        (replace(ASKED, count=2),),
        (replace(ASKED, count=4),),
        (offer(cpu_milli=1_999),),
        (offer(memory_bytes=GIB - 1),),
        (offer(gpu_units=1),),
        (offer(gpu_units=0, gpu_attributes=()),),
        (offer(gpu_attributes=gpu("h100")),),
        (offer(volumes=()),),
        (offer(volumes=(volume("data", GIB - 1, "beta2", "true"),)),),
        (offer(volumes=(volume("other", GIB, "beta2", "true"),)),),
        (offer(volumes=(volume("data", GIB, "beta3", "true"),)),),
        (offer(volumes=(volume("data", GIB, "beta2", "false"),)),),
        (offer(volumes=(volume("data", GIB, "beta2"), volume("more", GIB, "", "true"))),),
    ],
)
def test_an_offer_is_never_smaller(court: Court, offered: tuple[ResourceUnit, ...]) -> None:
    assert court.verdict(of(ASKED), offered=offered) in ("offer.smaller", "bid.units")


def test_more_of_one_unit_does_not_make_up_for_less_of_another(court: Court) -> None:
    one, two = unit(1, cpu_milli=1_000), unit(2, cpu_milli=1_000)
    less, more = unit(1, cpu_milli=500), unit(2, cpu_milli=2_000)
    assert court.verdict(of(one, two), offered=(less, more)) == "offer.smaller"


@pytest.mark.parametrize(
    ("asked", "offered", "code"),
    [
        (("a100", "h100"), ("a100",), ""),
        (("a100", "h100"), ("h100",), ""),
        (("a100",), ("h100",), "offer.smaller"),
        (("*",), ("h100/ram/80Gi/interface/sxm",), ""),
        (("h100",), ("h100/ram/80Gi/interface/sxm",), ""),
        (("h100/ram/80Gi",), ("h100/ram/80Gi/interface/pcie",), ""),
        (("h100/ram/80Gi",), ("h100/ram/40Gi",), "offer.smaller"),
        (("h100/ram/80Gi",), ("h100",), "offer.smaller"),
        (("h100/interface/sxm",), ("h100/interface/sxm5",), ""),
        (("h100/interface/sxm5",), ("h100/interface/sxm",), ""),
        (("h100/interface/sxm",), ("h100/interface/pcie",), "offer.smaller"),
        (("a100", "h100"), ("a100", "h100"), "offer.smaller"),
        (("*",), ("*",), "offer.smaller"),
    ],
)
def test_one_of_the_models_asked_is_offered_and_the_same_for_all_replicas(
    court: Court, asked: tuple[str, ...], offered: tuple[str, ...], code: str
) -> None:
    wanted, given = (unit(count=2, gpu_units=1, gpu_attributes=gpu(*models)) for models in (asked, offered))
    assert court.verdict(of(wanted), offered=(given,)) == code


# What the provider says it has


def test_all_attributes_of_a_volume_meet_in_one_class_of_the_provider(court: Court) -> None:
    for kind, persistent, code in (
        ("beta2", "true", ""),
        ("ram", "false", ""),
        ("ram", "true", "placement.unmet"),
        ("beta2", "false", "placement.unmet"),
        ("beta3", "true", "placement.unmet"),
    ):
        assert court.verdict(of(unit(volumes=(volume("data", GIB, kind, persistent),)))) == code


def test_a_provider_that_states_none_of_the_models_does_not_serve_them(court: Court) -> None:
    for model, code in (
        ("a100", ""),
        ("h100/interface/sxm4", ""),
        ("h100/ram/40Gi", "placement.unmet"),
        ("t4", "placement.unmet"),
    ):
        assert court.verdict(of(unit(gpu_units=1, gpu_attributes=gpu(model)))) == code


def test_a_group_asks_for_attributes_by_value_and_by_the_beginning_of_a_key(court: Court) -> None:
    for key, value, code in (
        ("capabilities/storage/1/class", "beta2", ""),
        ("capabilities/storage/1/class", "ram", "placement.unmet"),
        ("capabilities/storage/*", "ram", ""),
        ("capabilities/*/class", "ram", "placement.unmet"),
    ):
        placement = replace(a_group().placement, attributes=(Attribute(key=key, value=value),))
        assert court.verdict(a_group(placement=placement)) == code
