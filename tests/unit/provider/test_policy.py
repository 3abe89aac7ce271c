"""Whom a provider serves: every rule that an order fails is named, with its number."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.workloads import attributes, group, key, unit

from fondaco.protocol import addresses
from fondaco.protocol.limits import GIB
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import MicroCredits
from fondaco.provider.policy import EVERYBODY, Policy


def against(asked: Group, **rules: Any) -> list[str]:
    return [str(reason) for reason in Policy(**rules).against_group(asked)]


def test_the_default_serves_everybody_with_anything() -> None:
    assert EVERYBODY.against_tenant(key(1)) is None
    assert list(EVERYBODY.against_group(group(asked=attributes(region="eu")))) == []
    assert list(EVERYBODY.against_deposit(MicroCredits(0), 10**9)) == []
    assert EVERYBODY.summary() == ()


def test_who_is_denied_or_not_on_the_list_is_told_so() -> None:
    policy = Policy(allow=frozenset({key(1), key(2)}), deny=frozenset({key(2)}))
    assert policy.against_tenant(key(1)) is None
    assert (
        str(policy.against_tenant(key(2))) == f"tenant: asked {addresses.encode(key(2))}, available not this one"
    )
    assert "only the 2 that it names" in str(policy.against_tenant(key(3)))


def test_every_amount_out_of_bounds_is_told() -> None:
    asked = group(unit(cpu=500, count=3), unit(2, cpu=100, memory=2 * GIB))
    rules = {
        "least": (("cpu_milli", 2_000), ("gpu_units", 1)),
        "most": (("memory_bytes", GIB), ("cpu_milli", 1_600)),
    }
    assert against(asked, **rules) == [
        "policy cpu_milli: asked 1600, available >= 2000",
        "policy gpu_units: asked 0, available >= 1",
        f"policy memory_bytes: asked {5 * GIB}, available <= {GIB}",
    ]


@pytest.mark.parametrize(
    ("region", "told"), [("eu", []), ("us", ["policy region: asked us, available asia eu"]), (None, [])]
)
def test_a_region_that_is_named_must_be_one_that_is_served(region: str | None, told: list[str]) -> None:
    asked = group(asked=attributes(region=region, tier="gold") if region else attributes(tier="gold"))
    assert against(asked, regions=frozenset({"eu", "asia"})) == told


def test_deposit_and_runway_have_a_least() -> None:
    policy = Policy(min_deposit=1_000_000, min_runway_ms=7_200_000)
    told = [str(reason) for reason in policy.against_deposit(MicroCredits(900_000), 600_000)]
    assert told == [
        "policy deposit: asked 0.90, available >= 1.00",
        "policy runway: asked 5400000 ms, available >= 7200000 ms",
    ]
    assert list(policy.against_deposit(MicroCredits(1_200_000), 600_000)) == []
    assert list(policy.against_deposit(None, 600_000)) == [], "the escrow of what runs already pays"


def test_the_summary_names_rules_but_no_tenants() -> None:
    policy = Policy(
        allow=frozenset({key(1)}),
        deny=frozenset({key(2)}),
        least=(("gpu_units", 1),),
        most=(("cpu_milli", 9),),
        regions=frozenset({"eu", "asia"}),
        min_deposit=5,
        min_runway_ms=6,
    )
    assert policy.summary() == (
        ("least/gpu_units", "1"),
        ("min_deposit", "5"),
        ("min_runway_ms", "6"),
        ("most/cpu_milli", "9"),
        ("regions", "asia eu"),
        ("tenants", "named only"),
    )
