"""What a provider asks, to the micro-credit."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from tests.support.workloads import HTTP, attributes, gpu, unit, volume

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import GIB
from fondaco.protocol.resources import Endpoint, EndpointKind
from fondaco.provider.ports import Deal
from fondaco.provider.pricing import Bounded, LinearScale, MarketFollowing, Program, Situation, UtilisationCurve
from fondaco.provider.pricing.market import LEVEL, FixedHistory, levels
from fondaco.provider.pricing.program import answer, question

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


# --- Following the market

LIST = LinearScale(per_cpu=1_000, per_memory_gib=100, per_storage_gib={"": 10}, per_gpu={"h100": 100_000})


def deal(price: int, *, cpu: int = 1_000, gpus: tuple[tuple[str, int], ...] = ()) -> Deal:
    return Deal(price_per_hour=price, cpu_milli=cpu, memory_bytes=GIB, storage_bytes=0, gpus=gpus)


def following(*deals: Deal, **changes: Any) -> MarketFollowing:
    return MarketFollowing(scale=LIST, history=FixedHistory(seen=levels(deals, LIST)), **{"least": 3, **changes})


def test_a_lease_speaks_for_what_the_list_charges_most_for() -> None:
    found = levels([deal(2_200), deal(550), deal(101_100, gpus=(("h100 80Gi sxm", 1),))], LIST)
    assert found == {"cpu": (500_000, 2_000_000), "gpu h100": (1_000_000,)}


def test_what_the_list_does_not_know_or_price_says_nothing() -> None:
    free = replace(LIST, per_cpu=0, per_memory_gib=0)
    assert levels([deal(5, gpus=(("t4", 1),))], LIST) == {}
    assert levels([deal(5)], free) == {}


@pytest.mark.parametrize(("percent", "expected"), [(1, 500), (50, 500), (75, 1_000), (100, 2_000)])
def test_the_price_of_a_resource_is_that_which_a_percentage_of_leases_did_not_exceed(
    percent: int, expected: int
) -> None:
    quote = following(deal(550), deal(550), deal(1_100), deal(2_200), percent=percent).quote((unit(),))
    assert dict(quote.parts)["cpu"] == expected
    assert dict(quote.parts)["memory"] == 100
    assert any("memory: 0 leases known" in note for note in quote.notes)


def test_where_few_leases_are_known_the_list_stands() -> None:
    market = following(deal(5_500), deal(5_500))
    assert market.quote((unit(),)).price_per_hour == LIST.quote((unit(),)).price_per_hour


def test_classes_of_storage_and_memory_follow_what_leases_tell_of_them() -> None:
    seen = {"memory": (2 * LEVEL,) * 3, "storage ephemeral": (3 * LEVEL,) * 3}
    scale = replace(LIST, per_storage_gib={"": 10, "beta2": 20})
    market = MarketFollowing(scale=scale, history=FixedHistory(seen=seen), least=3)
    volumes = (volume(), volume("data", kind="beta2"), volume("shm", kind="ram"))
    parts = dict(market.quote((unit(volumes=volumes),)).parts)
    assert {name: int(amount) for name, amount in parts.items()} == {
        "cpu": 1_000,
        "memory": 200,
        "storage ephemeral": 30,
        "storage beta2": 60,
        "storage ram": 200,
    }


# --- By utilisation

CURVE = ((0, 800), (500, 1_000), (1_000, 2_000))


@pytest.mark.parametrize(
    ("used", "permille"), [(0, 800), (250, 900), (500, 1_000), (750, 1_500), (1_000, 2_000), (501, 1_002)]
)
def test_between_its_points_a_curve_is_straight(used: int, permille: int) -> None:
    assert UtilisationCurve(base=LIST, points=CURVE).factor(used) == Fraction(permille, 1_000)


def test_outside_its_points_a_curve_is_level() -> None:
    curve = UtilisationCurve(base=LIST, points=((400, 900), (600, 1_100)))
    assert [curve.factor(used) for used in (0, 399, 601, 1_000)] == [Fraction(9, 10)] * 2 + [Fraction(11, 10)] * 2


def test_each_resource_follows_its_own_utilisation_and_addresses_the_scarcest() -> None:
    curve = UtilisationCurve(base=replace(LIST, per_endpoint=100), points=CURVE)
    parts = dict(curve.quote((unit(volumes=()),), Situation(used_permille={"cpu": 0, "memory": 1_000})).parts)
    assert parts == {"cpu": 800, "memory": 200, "endpoints": 200}


def test_a_minimum_is_one_on_a_curve_too() -> None:
    curve = UtilisationCurve(base=replace(LIST, minimum=50_000), points=CURVE)
    assert curve.quote((unit(),), Situation(used_permille={"cpu": 0})).price_per_hour == 50_000


@pytest.mark.parametrize(
    "points", [(), ((500, 1), (500, 2)), ((600, 1), (500, 2)), ((-1, 1),), ((1_001, 1),), ((0, -1),)]
)
def test_a_curve_rises_in_utilisation_and_has_no_negative_price(points: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(Refused) as caught:
        UtilisationCurve(base=LIST, points=points)
    assert caught.value.code == "pricing.curve"


# --- Within limits


def test_no_resource_is_asked_for_less_than_it_costs_whatever_the_others_bring_in() -> None:
    cheap = replace(LIST, per_memory_gib=0)
    cost = LinearScale(per_cpu=0, per_memory_gib=70, per_storage_gib={"": 0})
    quote = Bounded(strategy=replace(cheap, per_endpoint=0), cost=cost).quote((unit(volumes=()),))
    assert quote.price_per_hour == 1_070
    quote = Bounded(strategy=replace(LIST, per_memory_gib=50), cost=cost).quote((unit(volumes=()),))
    assert quote.price_per_hour == 1_070
    assert "memory: raised to its cost" in quote.notes


def test_a_ceiling_caps_the_price_but_never_below_cost() -> None:
    dear = replace(LIST, per_cpu=9_000)
    within = Bounded(strategy=dear, ceiling=LIST, ceiling_percent=150)
    assert within.quote((unit(volumes=()),)).price_per_hour == 1_650
    cost = replace(LIST, per_cpu=2_000)
    quote = replace(within, cost=cost).quote((unit(volumes=()),))
    assert quote.price_per_hour == 2_100
    assert len(quote.notes) == 2


def test_rounding_up_comes_last() -> None:
    quote = Bounded(strategy=LIST, cost=LIST, step=1_000)
    assert quote.quote((unit(volumes=()),)).price_per_hour == 2_000
    assert quote.floor((unit(volumes=()),)) == 2_000
    assert Bounded(strategy=LIST).floor((unit(),)) == 1


# --- By a program


def test_a_program_is_asked_as_akash_asks_its_own() -> None:
    leased = Endpoint(kind=EndpointKind.LEASED_IP, sequence_number=1)
    one = unit(
        count=2,
        gpus=1,
        models=gpu("h100/ram/80Gi"),
        volumes=(volume(), volume("d", kind="beta2")),
        endpoints=(HTTP, leased),
    )
    asked = json.loads(question((one,), 1_000))
    assert asked == {
        "resources": [
            {
                "memory": GIB,
                "cpu": 1_000,
                "gpu": {"units": 1, "attributes": {"vendor": {"nvidia": {"model": "h100", "ram": "80Gi"}}}},
                "storage": [{"class": "ephemeral", "size": GIB}, {"class": "beta2", "size": GIB}],
                "count": 2,
                "endpoint_quantity": 2,
                "ip_lease_quantity": 1,
            }
        ],
        "price": {"denom": "uact", "amount": "1.666666666666666666"},
        "price_precision": 18,
    }
    assert json.loads(question((unit(),), 600))["resources"][0]["gpu"] == {"units": 0, "attributes": {}}


@pytest.mark.parametrize(("printed", "expected"), [(b"1\n", 600), (b" 0.0025 ", Fraction(3, 2)), (b"1.50", 900)])
def test_what_a_program_prints_is_for_six_seconds(printed: bytes, expected: Fraction) -> None:
    assert answer(printed) == expected


@pytest.mark.parametrize("printed", [b"", b"0.0", b"-1", b"1e3", b"1 2", b"NaN", b"\xff", b"9" * 21, b"9" * 20])
def test_what_is_no_price_is_refused(printed: bytes) -> None:
    with pytest.raises(Refused) as caught:
        answer(printed)
    assert caught.value.code == "pricing.program"


def test_a_program_that_said_nothing_has_no_price() -> None:
    assert Program().quote((unit(),), Situation(said=Fraction(3, 2))).price_per_hour == 2
    with pytest.raises(Refused, match="not asked"):
        Program().quote((unit(),))
    floor = Bounded(strategy=Program(), cost=LIST)
    assert floor.quote((unit(volumes=()),), Situation(said=Fraction(5))).price_per_hour == 1_100
