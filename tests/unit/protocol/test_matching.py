"""Placement, GPUs, storage and offers: who qualifies, and what is told to whoever does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.workloads import HTTP, attributes, gpu, key, unit, volume

from fondaco.protocol import addresses
from fondaco.protocol.limits import GIB
from fondaco.protocol.matching import (
    attribute_matches,
    check_offer,
    gpu_model,
    gpu_models,
    gpu_will_do,
    match_capabilities,
    match_placement,
    storage_capabilities,
)
from fondaco.protocol.resources import Attribute, Placement, Resources
from fondaco.protocol.scalars import PublicKey

EU = attributes(region="eu", tier="datacenter")
A, B, C = key(1), key(2), key(3)


def placement(
    asked: tuple[Attribute, ...] = EU, all_of: tuple[Any, ...] = (), any_of: tuple[Any, ...] = ()
) -> Placement:
    return Placement(attributes=asked, all_of=all_of, any_of=any_of)


def test_without_auditors_the_providers_own_word_counts() -> None:
    assert match_placement(placement(), EU + attributes(zone="a"), {}) == ()
    (reason,) = match_placement(placement(), attributes(region="us", tier="datacenter"), {A: EU})
    assert str(reason) == "attribute region: asked eu, available us by its own word"


def test_every_auditor_of_all_of_must_have_attested_everything() -> None:
    asked = placement(all_of=(A, B))
    assert match_placement(asked, (), {A: EU, B: EU}) == ()
    assert [one.dimension for one in match_placement(asked, EU, {A: EU})] == ["signed_by all_of"]
    (reason,) = match_placement(asked, EU, {A: EU, B: EU[:1]})
    assert reason.dimension == "attribute tier"
    assert reason.available.startswith("none by auditor")


def test_one_auditor_of_any_of_is_enough_but_must_have_attested_everything() -> None:
    asked = placement(any_of=(A, B))
    assert match_placement(asked, (), {B: EU}) == ()
    (reason,) = match_placement(asked, EU, {A: EU[:1], B: EU[1:]})
    named = f"{addresses.encode(A)} or {addresses.encode(B)}"
    assert str(reason) == f"signed_by any_of: asked 2 attributes by {named}, available 2 attested, none all"
    crowd = tuple(PublicKey(bytes([number]) * 32) for number in range(5))
    (reason,) = match_placement(placement(any_of=crowd), EU, {})
    assert addresses.encode(crowd[2]) in reason.asked
    assert reason.asked.endswith("or one of 2 more")


def test_both_kinds_of_auditors_apply_together() -> None:
    asked = placement(all_of=(A,), any_of=(B, C))
    assert match_placement(asked, (), {A: EU, C: EU}) == ()
    assert len(match_placement(asked, (), {A: EU})) == 1
    assert len(match_placement(asked, (), {B: EU})) == 1


@pytest.mark.parametrize(
    ("asked", "own", "expected"),
    [
        ("feat/ssd", "feat/ssd", True),
        ("feat/*", "feat/ssd", True),
        ("*", "feat/ssd", True),
        ("feat/*", "other/ssd", False),
        ("f*t/ssd", "feat/ssd", False),
        ("feat/ssd", "feat/*", False),
    ],
)
def test_globs_work_only_at_the_end_of_an_asked_key(asked: str, own: str, expected: bool) -> None:
    assert attribute_matches(Attribute(key=asked, value="1"), Attribute(key=own, value="1")) is expected
    assert not attribute_matches(Attribute(key=asked, value="1"), Attribute(key=own, value="2"))


@pytest.mark.parametrize(
    ("asked", "has", "expected"),
    [
        (("h100",), "h100", True),
        (("h100",), "h100/ram/80Gi/interface/sxm", True),
        (("h100/ram/80Gi",), "h100/ram/80Gi/interface/pcie", True),
        (("h100/ram/80Gi",), "h100/ram/94Gi", False),
        (("h100/ram/80Gi",), "h100", False),
        (("h100/interface/sxm",), "h100/interface/sxm5", True),
        (("h100/interface/sxm",), "h100/interface/pcie", False),
        (("a100", "h100"), "h100", True),
        (("a100", "h100"), "h200", False),
        (("*",), "rtx4090", True),
        (("*/ram/24Gi",), "rtx4090/ram/24Gi", True),
        (("*/ram/24Gi",), "rtx4090/ram/48Gi", False),
    ],
)
def test_any_one_of_the_models_asked_will_do(asked: tuple[str, ...], has: str, expected: bool) -> None:
    model = gpu_model(f"vendor/nvidia/model/{has}")
    assert model is not None
    assert gpu_will_do(gpu(*asked), model) is expected


@pytest.mark.parametrize(
    "text", ["", "vendor/nvidia", "model/h100", "vendor/nvidia/model", "vendor/a/vendor/b/model/c"]
)
def test_what_names_no_gpu_model(text: str) -> None:
    assert gpu_model(text) is None
    assert gpu_model("vendor/nvidia/model/h100/colour/red") is None


def test_a_model_reads_back_from_its_key() -> None:
    for name in ("h100", "h100/ram/80Gi", "h100/interface/sxm", "h100/ram/80Gi/interface/pcie"):
        model = gpu_model(f"vendor/nvidia/model/{name}")
        assert model is not None
        assert gpu_model(model.key) == model
    assert gpu_models([Attribute(key="vendor/nvidia/model/h100", value="false")]) == ()


OWN = (
    Attribute(key="capabilities/gpu/vendor/nvidia/model/a100/ram/80Gi", value="true"),
    Attribute(key="capabilities/storage/1/class", value="beta2"),
    Attribute(key="capabilities/storage/1/persistent", value="true"),
    Attribute(key="capabilities/storage/2/class", value="ram"),
    Attribute(key="capabilities/storage/2/persistent", value="false"),
    Attribute(key="capabilities/storage/odd", value="x"),
    Attribute(key="region", value="eu"),
)


def test_all_attributes_of_a_volume_must_meet_in_one_class() -> None:
    assert len(storage_capabilities(OWN)) == 2
    good = unit(volumes=(volume(), volume("data", kind="beta2", persistent="true")))
    crossed = unit(volumes=(volume("data", kind="beta2", persistent="false"),))
    assert match_capabilities([good], OWN) == ()
    (reason,) = match_capabilities([crossed], OWN)
    assert str(reason) == "storage data: asked class=beta2 persistent=false, available 2 other classes"


def test_gpu_capabilities_must_hold_one_of_the_models() -> None:
    assert match_capabilities([unit(gpus=1, models=gpu("h100", "a100"))], OWN) == ()
    (reason,) = match_capabilities([unit(gpus=1, models=gpu("h100/ram/80Gi"))] * 2, OWN)
    assert str(reason) == "gpu model: asked h100 80Gi, available a100"
    (reason,) = match_capabilities([unit(gpus=1, models=gpu("*"))], ())
    assert reason.available == "none"


ASKED = unit(
    count=2,
    cpu=2_000,
    memory=GIB,
    gpus=2,
    models=gpu("h100", "a100"),
    volumes=(volume("data", kind="beta2"),),
)


def offer(count: int = 2, **changes: Any) -> Any:
    return replace(ASKED, count=count, resources=replace(ASKED.resources, **changes))


def test_an_offer_may_be_better() -> None:
    assert check_offer((ASKED,), (ASKED,)) == ()
    better = offer(
        cpu_milli=4_000,
        memory_bytes=2 * GIB,
        gpu_units=3,
        gpu_attributes=gpu("h100/ram/80Gi/interface/sxm"),
        volumes=(volume("data", 2 * GIB, kind="beta2"), volume("extra")),
        endpoints=(HTTP, HTTP),
    )
    assert check_offer((ASKED,), (better,)) == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"count": 1}, "unit 1 count: asked 2, available 1"),
        ({"count": 3}, "unit 1 count: asked 2, available 3"),
        ({"cpu_milli": 1_999}, "unit 1 cpu_milli: asked 2000, available 1999"),
        ({"memory_bytes": 1}, f"unit 1 memory_bytes: asked {GIB}, available 1"),
        ({"gpu_units": 1}, "unit 1 gpu: asked 2, available 1"),
        ({"gpu_attributes": gpu("t4")}, "unit 1 gpu model: asked a100 or h100, available t4"),
        ({"gpu_attributes": gpu("a100", "t4")}, "unit 1 gpu model: asked a100 or h100, available t4"),
        ({"gpu_attributes": ()}, "unit 1 gpu model: asked a100 or h100, available none named"),
        (
            {"gpu_attributes": attributes(colour="red")},
            "unit 1 gpu model: asked a100 or h100, available none named",
        ),
        ({"volumes": ()}, f"unit 1 volume data: asked {GIB}, available 0"),
        ({"volumes": (volume("data", 5, kind="beta2"),)}, f"unit 1 volume data: asked {GIB}, available 5"),
        (
            {"volumes": (volume("data", kind="beta1"),)},
            "unit 1 volume data class: asked beta2, available beta1",
        ),
        ({"endpoints": ()}, "unit 1 SHARED_HTTP: asked 1, available 0"),
    ],
)
def test_an_offer_is_never_smaller(changes: dict[str, Any], told: str) -> None:
    assert [str(reason) for reason in check_offer((ASKED,), (offer(**changes),))] == [told]


def test_asked_attributes_of_processor_and_memory_stay() -> None:
    def with_arch(resources: Resources) -> Resources:
        return replace(
            resources, cpu_attributes=attributes(arch="arm64"), memory_attributes=attributes(ecc="true")
        )

    asked = replace(ASKED, resources=with_arch(ASKED.resources))
    assert check_offer((asked,), (asked,)) == ()
    assert [reason.dimension for reason in check_offer((asked,), (ASKED,))] == [
        "unit 1 cpu arch",
        "unit 1 memory ecc",
    ]


def test_units_answer_one_by_one() -> None:
    (reason,) = check_offer((ASKED, replace(ASKED, id=2)), (ASKED,))
    assert str(reason) == "units: asked 1 2, available 1"
