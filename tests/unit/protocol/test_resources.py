from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.resources import (
    Attribute,
    Endpoint,
    EndpointKind,
    Group,
    Placement,
    Resources,
    ResourceUnit,
    Totals,
    Volume,
    check_group,
    totals,
)
from fondaco.protocol.scalars import MicroCredits

GPU = (Attribute(key="vendor/nvidia/model/h100", value="true"),)
RESOURCES = Resources(
    cpu_milli=500,
    cpu_attributes=(),
    memory_bytes=512 * limits.MIB,
    memory_attributes=(),
    gpu_units=0,
    gpu_attributes=(),
    volumes=(Volume(name="data", size_bytes=limits.GIB, attributes=(Attribute(key="class", value="beta3"),)),),
    endpoints=(Endpoint(kind=EndpointKind.SHARED_HTTP, sequence_number=0),),
)
GROUP = Group(
    name="west",
    units=(ResourceUnit(id=1, resources=RESOURCES, count=2), ResourceUnit(id=2, resources=RESOURCES, count=1)),
    placement=Placement(attributes=(Attribute(key="region", value="us-west"),), all_of=(), any_of=()),
    max_price_per_hour=MicroCredits(1_000_000),
)


def with_unit(*, count: int = 1, **resources: Any) -> Group:
    return replace(GROUP, units=(ResourceUnit(id=1, resources=replace(RESOURCES, **resources), count=count),))


def volumes(*sizes: int) -> tuple[Volume, ...]:
    return tuple(Volume(name=f"v{place}", size_bytes=size, attributes=()) for place, size in enumerate(sizes))


def code_of(group: Group) -> str:
    with pytest.raises(Refused, match="west") as caught:
        check_group(group)
    return caught.value.code


def test_demand_is_summed_over_replicas() -> None:
    assert totals(GROUP.units) == Totals(
        cpu_milli=1_500, memory_bytes=3 * 512 * limits.MIB, gpu_units=0, storage_bytes=3 * limits.GIB
    )
    assert totals(()) == Totals(cpu_milli=0, memory_bytes=0, gpu_units=0, storage_bytes=0)


def test_a_group_within_the_limits_is_accepted() -> None:
    check_group(GROUP)
    check_group(with_unit(gpu_units=8, gpu_attributes=GPU))
    check_group(with_unit(volumes=()))


@pytest.mark.parametrize(
    ("field", "bounds"),
    [("cpu_milli", limits.CPU_MILLI), ("memory_bytes", limits.MEMORY_BYTES)],
)
def test_limits_are_inclusive(field: str, bounds: tuple[int, int]) -> None:
    for amount in bounds:
        check_group(with_unit(**{field: amount}))
    for amount in (bounds[0] - 1, bounds[1] + 1):
        assert code_of(with_unit(**{field: amount})) == "resources.limit"


def test_gpus_volumes_and_replicas_have_limits() -> None:
    check_group(with_unit(gpu_units=limits.GPU_UNITS[1], gpu_attributes=GPU))
    assert code_of(with_unit(gpu_units=limits.GPU_UNITS[1] + 1, gpu_attributes=GPU)) == "resources.limit"
    check_group(with_unit(volumes=volumes(*limits.VOLUME_BYTES)))
    for size in (limits.VOLUME_BYTES[0] - 1, limits.VOLUME_BYTES[1] + 1):
        assert code_of(with_unit(volumes=volumes(size))) == "resources.limit"
    too_many = volumes(*[limits.GIB] * (limits.VOLUMES_PER_SERVICE + 1))
    assert code_of(with_unit(volumes=too_many)) == "resources.limit"
    check_group(with_unit(count=limits.REPLICAS))
    for count in (0, limits.REPLICAS + 1):
        assert code_of(with_unit(count=count)) == "resources.limit"


def test_a_group_has_units_but_not_too_many() -> None:
    assert code_of(replace(GROUP, units=())) == "resources.limit"
    many = tuple(
        ResourceUnit(id=place, resources=RESOURCES, count=1) for place in range(limits.UNITS_PER_GROUP + 1)
    )
    check_group(replace(GROUP, units=many[:-1]))
    assert code_of(replace(GROUP, units=many)) == "resources.limit"


def test_a_whole_group_is_worth_at_most_fifty_units() -> None:
    largest = replace(RESOURCES, cpu_milli=limits.CPU_MILLI[1])
    unit = ResourceUnit(id=1, resources=largest, count=limits.REPLICAS)
    check_group(replace(GROUP, units=(unit,)))
    more = ResourceUnit(id=2, resources=RESOURCES, count=1)
    assert code_of(replace(GROUP, units=(unit, more))) == "resources.limit"


def test_a_price_is_positive() -> None:
    assert code_of(replace(GROUP, max_price_per_hour=MicroCredits(0))) == "price.too_small"


def test_gpu_units_and_models_go_together() -> None:
    assert code_of(with_unit(gpu_units=1)) == "gpu.attributes"
    assert code_of(with_unit(gpu_attributes=GPU)) == "gpu.attributes"


def test_names_that_tie_things_together_are_unique() -> None:
    assert code_of(replace(GROUP, units=GROUP.units[:1] * 2)) == "resources.duplicate"
    assert code_of(with_unit(volumes=volumes(limits.GIB) * 2)) == "resources.duplicate"


@pytest.mark.parametrize("keys", [("b", "a"), ("a", "a")])
@pytest.mark.parametrize("place", ["placement", "cpu", "memory", "volume"])
def test_attributes_are_sorted_and_unique_everywhere(keys: tuple[str, ...], place: str) -> None:
    wrong = tuple(Attribute(key=key, value="x") for key in keys)
    group = {
        "placement": replace(GROUP, placement=replace(GROUP.placement, attributes=wrong)),
        "cpu": with_unit(cpu_attributes=wrong),
        "memory": with_unit(memory_attributes=wrong),
        "volume": with_unit(volumes=(Volume(name="v", size_bytes=limits.GIB, attributes=wrong),)),
    }[place]
    assert code_of(group) == "attributes.order"


def test_attributes_have_a_largest_number() -> None:
    many = tuple(Attribute(key=f"{place:04d}", value="x") for place in range(limits.ATTRIBUTES + 1))
    check_group(with_unit(cpu_attributes=many[:-1]))
    assert code_of(with_unit(cpu_attributes=many)) == "resources.limit"
