"""What a provider asks, to the micro-credit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.workloads import HTTP, attributes, gpu, unit, volume

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import GIB
from fondaco.protocol.resources import Endpoint, EndpointKind
from fondaco.provider.pricing import LinearScale

SCALE = LinearScale(
    per_cpu=10_000,
    per_memory_gib=2_000,
    per_storage_gib={"": 100, "beta2": 300},
    per_gpu={"h100": 2_000_000, "h100/80Gi": 2_500_000, "h100/80Gi/sxm": 3_000_000, "*": 500_000},
    per_endpoint=50,
    per_ip=7_000,
)


def test_each_resource_has_its_price() -> None:
    leased = Endpoint(kind=EndpointKind.LEASED_IP, sequence_number=1)
    one = unit(
        count=2,
        cpu=1_500,
        memory=2 * GIB,
        volumes=(volume(), volume("data", 10 * GIB, kind="beta2"), volume("shm", kind="ram")),
        endpoints=(HTTP, leased),
    )
    quote = SCALE.quote((one,))
    assert {what: int(amount) for what, amount in quote.parts} == {
        "cpu": 30_000,
        "memory": 8_000,
        "storage ephemeral": 200,
        "storage beta2": 6_000,
        "storage ram": 4_000,
        "endpoints": 50,
        "ip": 7_000,
    }
    assert quote.price_per_hour == 55_250


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("h100", 2_000_000),
        ("h100/ram/80Gi", 2_500_000),
        ("h100/ram/80Gi/interface/sxm5", 3_000_000),
        ("h100/ram/80Gi/interface/pcie", 2_500_000),
        ("t4", 500_000),
    ],
)
def test_the_most_specific_price_of_a_gpu_counts(model: str, expected: int) -> None:
    parts = dict(SCALE.quote((unit(gpus=1, models=gpu(model)),)).parts)
    assert parts[f"gpu {model.split('/')[0]}"] == expected


def test_where_two_models_would_do_the_dearer_is_asked() -> None:
    parts = dict(SCALE.quote((unit(gpus=2, models=gpu("t4", "h100")),)).parts)
    assert parts["gpu h100"] == 4_000_000


def test_nothing_is_given_away_for_want_of_a_price() -> None:
    bare = replace(SCALE, per_gpu={"h100": 1}, per_storage_gib={"": 1})
    for wrong in (
        unit(gpus=1, models=gpu("t4")),
        unit(gpus=1, models=attributes(colour="red")),
        unit(volumes=(volume("data", kind="beta3"),)),
    ):
        with pytest.raises(Refused) as caught:
            bare.quote((wrong,))
        assert caught.value.code == "pricing.unpriced"


def test_a_price_is_rounded_up_once_and_never_zero() -> None:
    tiny = LinearScale(per_cpu=1, per_memory_gib=0, per_storage_gib={"": 0})
    assert tiny.quote((unit(cpu=10),)).price_per_hour == 1
    assert tiny.quote((unit(cpu=10, count=50), unit(2, cpu=501))).price_per_hour == 2
    assert replace(tiny, minimum=9).quote((unit(cpu=10),)).price_per_hour == 9
    assert replace(tiny, per_cpu=0, minimum=0).quote((unit(),)).price_per_hour == 1
