"""Changes in the words of a file: what to write, where, and that it then asks for what was meant."""

from __future__ import annotations

from fractions import Fraction

import pytest
from tests.support.edited import edited
from tests.support.workloads import SDL

from fondaco.protocol import sdl
from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import GIB, MIB
from fondaco.protocol.market import Change
from fondaco.protocol.resources import Group
from fondaco.protocol.sdl.edits import Edit, Source, show_amount, show_duration, show_size
from fondaco.protocol.selection.solver import Move

POOLED = """\
version: "2.1"
reclamation: {min_window: 2h}
services:
  api:
    image: api:1
    expose: [{port: 80, to: [{global: true}]}]
  web:
    image: web:1
    expose: [{port: 80, to: [{global: true}]}]
  work:
    image: work:1
    params: {storage: {data: {mount: /data}}}
profiles:
  compute:
    big:
      resources:
        cpu: {units: 2}
        memory: {size: 1Gi}
        storage:
          - {size: 1Gi}
          - {name: data, size: 100Gi, attributes: {class: beta2, persistent: true}}
        gpu:
          units: 1
          attributes:
            vendor:
              nvidia: [{model: h100, ram: 80Gi, interface: sxm}]
    small:
      resources: {cpu: {units: 1}, memory: {size: 1Gi}, storage: {size: 5Gi}}
  placement:
    east:
      pricing:
        small: {denom: uact, amount: 7}
    west:
      pricing:
        big: {denom: uact, amount: 100000, per: hour}
        small: {denom: uact, amount: 50}
deployment:
  api: {west: {profile: small, count: 5}}
  web: {west: {profile: small, count: 2}, east: {profile: small, count: 1}}
  work: {west: {profile: big, count: 3}}
"""
SMALL, BIG = 1, 2


def move(change: Change, value: int, *, unit: int = 0, subject: str = "") -> Move:
    return Move(change=change, unit=unit, subject=subject, before=1, value=value)


def asked(text: str, name: str = "west") -> Group:
    (found,) = (one for one in sdl.parse(text).groups({}) if one.name == name)
    return found


def changed(text: str, *moves: Move) -> tuple[list[str], Group]:
    edits = Source(text).edits("west", moves)
    return [f"{edit.line}: {edit}" for edit in edits], asked(edited(text, edits))


@pytest.mark.parametrize("text", [SDL, POOLED])
def test_units_and_what_they_may_cost_are_those_that_are_ordered(text: str) -> None:
    source, group = Source(text), asked(text)
    rates = source.rates("west")
    assert [(unit.id, unit.count) for unit in source.units("west")] == [
        (unit.id, unit.count) for unit in group.units
    ]
    assert int(sum(rates[unit.id] * unit.count for unit in group.units)) == group.max_price_per_hour
    assert Source(POOLED).rates("east") == {1: Fraction(4_200)}


def test_a_price_is_raised_where_it_stands_for_one_replica_and_six_seconds() -> None:
    edits = Source(SDL).edits("west", (move(Change.PRICE, 1_300_000),))
    assert edits == (
        Edit(
            path="profiles.placement.west.pricing.small.amount", line=24, column=19, found="1000", wanted="1083.34"
        ),
    )
    group = asked(edited(SDL, edits))
    assert 1_300_000 <= group.max_price_per_hour <= 1_300_010


def test_the_price_that_makes_up_most_is_raised_by_all_that_lacks() -> None:
    most = asked(POOLED).max_price_per_hour
    said, group = changed(POOLED, move(Change.PRICE, most + 30_000))
    assert said == ["35: profiles.placement.west.pricing.big.amount: 100000 -> 110000"]
    assert group.max_price_per_hour == most + 30_000


def test_services_that_share_a_unit_give_up_replicas_in_turn_and_each_keeps_one() -> None:
    said, group = changed(POOLED, move(Change.REPLICAS, 3, unit=SMALL), move(Change.PRICE, 600_000))
    assert said == [
        "36: profiles.placement.west.pricing.small.amount: 50 -> 166.667",
        "38: deployment.api.west.count: 5 -> 1",
    ]
    assert [unit.count for unit in group.units] == [3, 3]
    assert 600_000 <= group.max_price_per_hour < 600_100
    with pytest.raises(Refused) as error:
        Source(POOLED).edits("west", (move(Change.REPLICAS, 1, unit=SMALL),))
    assert error.value.code == "edit.replicas"
    said, group = changed(POOLED, move(Change.REPLICAS, 1, unit=BIG))
    assert said == ["40: deployment.work.west.count: 3 -> 1"]


def test_volumes_by_name_and_the_only_one() -> None:
    said, group = changed(
        POOLED,
        move(Change.VOLUME, 20 * GIB, unit=BIG, subject="data"),
        move(Change.VOLUME, GIB, unit=SMALL, subject="default"),
    )
    assert said == [
        "21: profiles.compute.big.resources.storage[1].size: 100Gi -> 20Gi",
        "28: profiles.compute.small.resources.storage.size: 5Gi -> 1Gi",
    ]
    assert {one.name: one.size_bytes for one in group.units[1].resources.volumes} == {
        "default": GIB,
        "data": 20 * GIB,
    }


def test_a_model_is_added_to_the_list() -> None:
    models = ("vendor/nvidia/model/t4", "vendor/nvidia/model/a100/ram/80Gi/interface/pcie")
    said, group = changed(POOLED, *(move(Change.GPU_MODEL, 1, unit=BIG, subject=one) for one in models))
    h100 = "{model: h100, ram: 80Gi, interface: sxm}"
    assert said == [
        f"26: profiles.compute.big.resources.gpu.attributes.vendor.nvidia: [{h100}] -> "
        f"[{h100}, {{model: t4}}, {{model: a100, ram: 80Gi, interface: pcie}}]"
    ]
    assert {one.key for one in group.units[1].resources.gpu_attributes} > set(models)
    for strange in ("vendor/amd/model/mi300", "vendor/nvidia/model/t4/interface/nvlink"):
        with pytest.raises(Refused) as error:
            Source(POOLED).edits("west", (move(Change.GPU_MODEL, 1, unit=BIG, subject=strange),))
        assert error.value.code == "edit.gpu"


def test_a_notice_is_shortened_or_left_out_where_none_is_short_enough() -> None:
    said, _ = changed(POOLED, move(Change.WINDOW, 5_400_000))
    assert said == ["2: reclamation.min_window: 2h -> 90m"]
    edits = Source(POOLED).edits("west", (move(Change.WINDOW, 1_000),))
    assert str(edits[0]) == "reclamation: min_window: 2h -> nothing: leave it out"
    assert sdl.parse(edited(POOLED, edits)).reclamation_ms == 0


def test_amounts_are_said_as_files_say_them() -> None:
    assert [show_size(one) for one in (5 * MIB, 10 * GIB, 1_500, 1_536)] == ["5Mi", "10Gi", "1500", "1536"]
    assert [show_duration(one) for one in (3_600_000, 5_400_000, 90_000, 1)] == ["1h", "90m", "90s", "1ms"]
    one = 10**18
    assert [show_amount(amount) for amount in (one, one * 100 + 1, one // 3, one * 1_234_567 // 10)] == [
        "1",
        "100.001",
        "0.333334",
        "123457",
    ]
