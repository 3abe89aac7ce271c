"""Prices that keep to their limits, and books in which nothing is promised twice, whatever happens."""

from __future__ import annotations

import math
from contextlib import suppress
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.workloads import gpu, key, unit, volume

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import GIB
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.resources import ResourceUnit
from fondaco.protocol.scalars import LeaseId, Millis
from fondaco.provider.capacity import Allocation, Load, Node
from fondaco.provider.inventory import Inventory
from fondaco.provider.pricing import Bounded, LinearScale, Situation, UtilisationCurve

H100, T4 = GpuModel(vendor="nvidia", model="h100"), GpuModel(vendor="nvidia", model="t4")
RATES = st.integers(0, 10**7)
SCALES = st.builds(
    LinearScale,
    per_cpu=RATES,
    per_memory_gib=RATES,
    per_storage_gib=st.fixed_dictionaries({"": RATES, "beta2": RATES}),
    per_gpu=st.fixed_dictionaries({"h100": RATES, "*": RATES}),
    per_endpoint=RATES,
    minimum=st.integers(0, 10**6),
)
UNITS = st.builds(
    unit,
    st.just(1),
    count=st.integers(1, 5),
    cpu=st.integers(10, 4_000),
    memory=st.integers(GIB // 1_000, 4 * GIB),
    volumes=st.sampled_from([(), (volume(),), (volume(), volume("data", 3 * GIB, kind="beta2"))]),
)
GPU_UNITS = st.builds(
    lambda one, gpus, models: unit(1, count=one, gpus=gpus, models=models, volumes=()),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([gpu("h100"), gpu("t4"), gpu("h100", "t4"), gpu("*")]),
)
CURVES = st.dictionaries(st.integers(0, 1_000), st.integers(0, 5_000), min_size=1, max_size=6).map(
    lambda points: tuple(sorted(points.items()))
)


@given(scale=SCALES, cost=SCALES, asked=UNITS | GPU_UNITS, step=st.integers(1, 10_000), data=st.data())
def test_a_bounded_price_is_never_below_cost_and_never_above_the_ceiling_unless_cost_is(
    scale: LinearScale, cost: LinearScale, asked: ResourceUnit, step: int, data: st.DataObject
) -> None:
    curve = UtilisationCurve(base=scale, points=data.draw(CURVES))
    used = {"cpu": data.draw(st.integers(0, 1_000)), "memory": data.draw(st.integers(0, 1_000))}
    percent = data.draw(st.integers(1, 400))
    bounded = Bounded(strategy=curve, cost=cost, ceiling=scale, ceiling_percent=percent, step=step)
    price = bounded.quote((asked,), Situation(used_permille=used)).price_per_hour
    floor = bounded.floor((asked,))
    assert price >= floor >= cost.quote((asked,)).sum
    assert price % step == 0
    most = math.ceil(scale.quote((asked,)).sum * percent / 100)
    assert price < max(int(floor), most, 1) + step


@given(scale=SCALES, asked=UNITS, more=st.integers(1, 4))
def test_more_replicas_never_cost_less(scale: LinearScale, asked: ResourceUnit, more: int) -> None:
    twice = unit(1, count=asked.count + more, cpu=asked.resources.cpu_milli, memory=asked.resources.memory_bytes)
    once = unit(1, count=asked.count, cpu=asked.resources.cpu_milli, memory=asked.resources.memory_bytes)
    assert scale.quote((twice,)).price_per_hour >= scale.quote((once,)).price_per_hour


@given(points=CURVES, used=st.integers(0, 1_000))
def test_a_curve_stays_between_its_points(points: tuple[tuple[int, int], ...], used: int) -> None:
    prices = [price for _, price in points]
    factor = UtilisationCurve(base=LinearScale(per_cpu=1, per_memory_gib=1), points=points).factor(used)
    assert Fraction(min(prices), 1_000) <= factor <= Fraction(max(prices), 1_000)


class Books(RuleBasedStateMachine):
    """Reserve, commit, release, lapse and restart in any order, on three machines."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = (
            Node(name="a", capacity=Load(cpu_milli=8_000, memory_bytes=16 * GIB, gpus={H100: 2, T4: 1})),
            Node(name="b", capacity=Load(cpu_milli=4_000, memory_bytes=8 * GIB, gpus={T4: 3})),
            Node(
                name="c",
                capacity=Load(
                    cpu_milli=2_000, memory_bytes=4 * GIB, storage_bytes={"": 9 * GIB, "beta2": 6 * GIB}
                ),
            ),
        )
        self.inventory = self.empty()
        self.now, self.count = 0, 0
        self.stale: list[Allocation] = []

    def empty(self) -> Inventory:
        return Inventory(self.nodes, per_tenant=4, leases_per_tenant=6, leases=9)

    @rule(asked=UNITS | GPU_UNITS, tenant=st.integers(1, 3), life=st.integers(1, 5))
    def reserve(self, asked: ResourceUnit, tenant: int, life: int) -> None:
        found = self.inventory.plan((asked,), key(tenant))
        if isinstance(found, Allocation):
            self.stale.append(found)
            self.count += 1
            name = self.count.to_bytes(32, "big")
            self.inventory.reserve(name, tenant=key(tenant), allocation=found, expires_at=Millis(self.now + life))
            models = found.units[0].resources.gpu_attributes
            assert not asked.resources.gpu_units or len(models) == 1

    @precondition(lambda self: self.stale)
    @rule(which=st.randoms(use_true_random=False))
    def book_a_plan_of_before_again(self, which: Any) -> None:
        self.count += 1
        with suppress(Refused):  # or there is room for it still
            self.inventory.reserve(
                self.count.to_bytes(32, "big"),
                tenant=key(9),
                allocation=which.choice(self.stale),
                expires_at=Millis(self.now + 2),
            )

    @rule(which=st.randoms(use_true_random=False))
    def commit(self, which: Any) -> None:
        held = [one for one in self.inventory.reservations if one.lease is None]
        if held:
            one = which.choice(held)
            self.inventory.commit(one.id, LeaseId(one.id))

    @rule(which=st.randoms(use_true_random=False))
    def release(self, which: Any) -> None:
        if self.inventory.reservations:
            self.inventory.release(which.choice(self.inventory.reservations).id)

    @rule(ms=st.integers(0, 4))
    def lapse(self, ms: int) -> None:
        self.now += ms
        self.inventory.expire(Millis(self.now))

    @rule()
    def restart(self) -> None:
        again = self.empty()
        assert again.restore(self.inventory.reservations) == ()
        assert again.free() == self.inventory.free()
        self.inventory = again

    @invariant()
    def nothing_is_promised_twice(self) -> None:
        used = {node.name: Load() for node in self.nodes}
        for one in self.inventory.reservations:
            for share in one.allocation.shares:
                used[share.node] = used[share.node].plus(share.load)
        free = self.inventory.free()
        for node in self.nodes:
            assert used[node.name].fits(node.capacity)
            assert free[node.name] == node.capacity.minus(used[node.name])
            assert not free[node.name].is_negative()

    @invariant()
    def caps_hold(self) -> None:
        assert len(self.inventory.reservations) <= 9
        assert all(self.inventory.held_by(key(tenant)) <= 4 for tenant in (1, 2, 3, 9))

    @invariant()
    def utilisation_is_a_share(self) -> None:
        assert all(0 <= used <= 1_000 for used in self.inventory.utilisation().values())


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
