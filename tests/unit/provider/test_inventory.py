"""The books: nothing promised twice, everything given back."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.support.workloads import attributes, gpu, key, unit, volume

from fondaco.protocol import codec
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.limits import GIB
from fondaco.protocol.market import Reason
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.resources import ResourceUnit
from fondaco.protocol.scalars import LeaseId, Millis
from fondaco.provider import snapshot
from fondaco.provider.capacity import Allocation, Load, Node
from fondaco.provider.inventory import Inventory

H100 = GpuModel(vendor="nvidia", model="h100", ram="80Gi", interface="sxm")
T4 = GpuModel(vendor="nvidia", model="t4")
ALICE, BOB = key(1), key(2)
LEASE = LeaseId(b"\x07" * 32)
LATER = Millis(1_000)


def node(
    name: str = "one", cpu: int = 8_000, memory: int = 16 * GIB, gpus: Mapping[GpuModel, int] | None = None
) -> Node:
    storage = {"": 100 * GIB, "beta2": 50 * GIB}
    return Node(
        name=name, capacity=Load(cpu_milli=cpu, memory_bytes=memory, gpus=gpus or {}, storage_bytes=storage)
    )


def plan(inventory: Inventory, *units: ResourceUnit) -> Allocation:
    allocation = inventory.plan(units, ALICE)
    assert isinstance(allocation, Allocation), allocation
    return allocation


def refusals(inventory: Inventory, *units: ResourceUnit) -> list[str]:
    reasons = inventory.plan(units, ALICE)
    assert not isinstance(reasons, Allocation)
    assert all(isinstance(reason, Reason) for reason in reasons)
    return [str(reason) for reason in reasons]


def reserve(inventory: Inventory, name: bytes, *units: ResourceUnit, until: Millis = LATER) -> None:
    inventory.reserve(name, tenant=ALICE, allocation=plan(inventory, *units), expires_at=until)


def test_planning_changes_nothing_and_reserving_takes() -> None:
    inventory = Inventory([node()])
    before = inventory.free()
    allocation = plan(inventory, unit(cpu=3_000, count=2))
    assert inventory.free() == before
    inventory.reserve(b"a", tenant=ALICE, allocation=allocation, expires_at=LATER)
    assert inventory.free()["one"].cpu_milli == 2_000
    assert inventory.free()["one"].storage_bytes[""] == 98 * GIB
    assert inventory.release(b"a")
    assert not inventory.release(b"a")
    assert inventory.free() == before


def test_a_replica_goes_where_it_fits_tightest() -> None:
    inventory = Inventory([node("big", cpu=32_000), node("small", cpu=4_000)])
    (share,) = plan(inventory, unit(cpu=3_000)).shares
    assert share.node == "small"


def test_the_hardest_unit_is_placed_first() -> None:
    inventory = Inventory([node("a", cpu=4_000), node("b", cpu=2_000)])
    allocation = plan(inventory, unit(1, cpu=2_000), unit(2, cpu=4_000))
    assert {share.unit: share.node for share in allocation.shares} == {2: "a", 1: "b"}
    assert [one.id for one in allocation.units] == [1, 2]


def test_what_lacks_is_told_with_its_numbers() -> None:
    inventory = Inventory([node(gpus={H100: 3})])
    wish = unit(
        cpu=9_000,
        memory=17 * GIB,
        gpus=8,
        models=gpu("h100"),
        volumes=(volume("data", 51 * GIB, kind="beta2"), volume(size=101 * GIB)),
    )
    assert refusals(inventory, wish) == [
        "cpu_milli: asked 9000, available 8000",
        f"memory_bytes: asked {17 * GIB}, available {16 * GIB}",
        f"storage ephemeral: asked {101 * GIB}, available {100 * GIB}",
        f"storage beta2: asked {51 * GIB}, available {50 * GIB}",
        "gpu h100: asked 8, available 3",
    ]
    assert refusals(inventory, unit(cpu=9_000, gpus=3, models=gpu("h100"))) == [
        "cpu_milli: asked 9000, available 8000"
    ]
    assert refusals(inventory, unit(volumes=(volume(kind="beta1"),))) == [
        f"storage beta1: asked {GIB}, available 0"
    ]


def test_enough_in_sum_but_not_in_one_place_is_told_apart() -> None:
    inventory = Inventory([node("a"), node("b")])
    (reason,) = refusals(inventory, unit(cpu=9_000))
    assert reason.startswith("one node for unit 1: asked 9000m cpu")
    assert refusals(Inventory([]), unit())[0] == "cpu_milli: asked 1000, available 0"


def test_all_replicas_of_a_unit_get_one_gpu_model() -> None:
    inventory = Inventory([node("a", gpus={H100: 1, T4: 1}), node("b", gpus={T4: 1})])
    allocation = plan(inventory, unit(count=2, gpus=1, models=gpu("h100", "t4")))
    assert [one.resources.gpu_attributes for one in allocation.units] == [gpu("t4")]
    assert refusals(inventory, unit(count=3, gpus=1, models=gpu("h100", "t4"))) == [
        "gpu h100 or t4: asked 3, available 2"
    ]


def test_a_model_that_is_not_there_is_told() -> None:
    inventory = Inventory([node(gpus={T4: 4})])
    assert refusals(inventory, unit(gpus=1, models=gpu("h100"))) == ["gpu h100: asked 1, available 0"]
    odd = unit(gpus=1, models=attributes(colour="red"))
    assert refusals(inventory, odd) == ["gpu of no known form: asked 1, available 0"]


def test_volumes_in_memory_count_as_memory() -> None:
    inventory = Inventory([node(memory=2 * GIB)])
    shm = volume("shm", GIB, kind="ram")
    assert plan(inventory, unit(memory=GIB, volumes=(shm,)))
    assert refusals(inventory, unit(memory=2 * GIB, volumes=(shm,)))


def test_a_stale_plan_is_refused() -> None:
    inventory = Inventory([node()])
    allocation = plan(inventory, unit(cpu=8_000))
    reserve(inventory, b"a", unit(cpu=1_000))
    with pytest.raises(Refused) as caught:
        inventory.reserve(b"b", tenant=BOB, allocation=allocation, expires_at=LATER)
    assert caught.value.code == "inventory.overcommit"
    with pytest.raises(Refused, match="no node 'one'"):
        Inventory([]).reserve(b"b", tenant=BOB, allocation=allocation, expires_at=LATER)


def test_reservations_lapse_and_leases_do_not() -> None:
    inventory = Inventory([node()])
    reserve(inventory, b"a", unit(), until=Millis(10))
    reserve(inventory, b"b", unit(), until=Millis(10))
    reserve(inventory, b"c", unit(), until=Millis(30))
    inventory.commit(b"b", LEASE)
    assert inventory.expire(Millis(9)) == ()
    assert inventory.expire(Millis(10)) == (b"a",)
    assert {one.id for one in inventory.reservations} == {b"b", b"c"}
    held = inventory.for_lease(LEASE)
    assert held is not None
    assert held.id == b"b"
    assert inventory.for_lease(LeaseId(bytes(32))) is None


def test_a_reservation_serves_one_lease() -> None:
    inventory = Inventory([node()])
    reserve(inventory, b"a", unit())
    assert inventory.commit(b"a", LEASE) == inventory.commit(b"a", LEASE) == inventory.get(b"a")
    for name, lease, code in (
        (b"a", LeaseId(bytes(32)), "inventory.committed"),
        (b"z", LEASE, "inventory.unknown"),
    ):
        with pytest.raises(Refused) as caught:
            inventory.commit(name, lease)
        assert caught.value.code == code


def test_a_reservation_can_be_held_longer_but_not_shorter() -> None:
    inventory = Inventory([node()])
    reserve(inventory, b"a", unit(), until=Millis(10))
    inventory.extend(b"a", Millis(20))
    inventory.extend(b"a", Millis(5))
    assert inventory.expire(Millis(19)) == ()
    assert inventory.expire(Millis(20)) == (b"a",)
    with pytest.raises(Refused):
        inventory.extend(b"a", Millis(30))


def test_one_tenant_cannot_hold_everything() -> None:
    inventory = Inventory([node()], per_tenant=2)
    reserve(inventory, b"a", unit())
    reserve(inventory, b"b", unit())
    assert refusals(inventory, unit()) == ["reservations for this tenant: asked 3, available at most 2"]
    allocation = inventory.plan((unit(),), BOB)
    assert isinstance(allocation, Allocation)
    for name, tenant, code in ((b"c", ALICE, "inventory.tenant_cap"), (b"a", BOB, "inventory.duplicate")):
        with pytest.raises(Refused) as caught:
            inventory.reserve(name, tenant=tenant, allocation=allocation, expires_at=LATER)
        assert caught.value.code == code
    inventory.commit(b"a", LEASE)
    assert plan(inventory, unit())


def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fondaco.protocol.limits.RESERVATIONS", 1)
    inventory = Inventory([node()])
    reserve(inventory, b"a", unit())
    with pytest.raises(Refused) as caught:
        reserve(inventory, b"b", unit())
    assert caught.value.code == "inventory.full"


def test_a_restart_takes_everything_over() -> None:
    before = Inventory([node(gpus={H100: 4})])
    reserve(before, b"a", unit(gpus=1, models=gpu("h100")))
    reserve(before, b"b", unit())
    before.commit(b"b", LEASE)
    packed = codec.pack(snapshot.to_plain(before.reservations))
    after = Inventory([node(gpus={H100: 4})])
    assert after.restore(snapshot.from_plain(codec.unpack(packed))) == ()
    assert after.free() == before.free()
    assert {one.id: one for one in after.reservations} == {one.id: one for one in before.reservations}
    assert after.restore(before.reservations) == ()


def test_a_shrunken_machine_keeps_its_leases_before_its_reservations() -> None:
    before = Inventory([node()])
    reserve(before, b"a", unit(cpu=4_000))
    reserve(before, b"b", unit(cpu=4_000))
    before.commit(b"b", LEASE)
    after = Inventory([node(cpu=4_000)])
    assert [one.id for one in after.restore(before.reservations)] == [b"a"]
    assert [one.id for one in after.reservations] == [b"b"]
    assert after.nodes == (node(cpu=4_000),)


@pytest.mark.parametrize("plain", [5, [[1]], [[b"", b"", None, 0, [], [["n", 1, [0, 0, [["x", 1]], []]]]]]])
def test_a_torn_snapshot_is_malformed(plain: object) -> None:
    with pytest.raises(Malformed):
        snapshot.from_plain(plain)


def test_leases_are_capped_by_tenant_and_in_all_with_promises_counted() -> None:
    inventory = Inventory([node()], leases_per_tenant=2, leases=3)
    reserve(inventory, b"a", unit())
    inventory.commit(b"a", LEASE)
    reserve(inventory, b"b", unit())
    assert refusals(inventory, unit()) == ["leases for this tenant: asked 3, available at most 2"]
    allocation = inventory.plan((unit(),), BOB)
    assert isinstance(allocation, Allocation)
    inventory.reserve(b"c", tenant=BOB, allocation=allocation, expires_at=LATER)
    assert refusals(inventory, unit(cpu=9_000)) == [
        "leases for this tenant: asked 3, available at most 2",
        "leases: asked 4, available at most 3",
        "cpu_milli: asked 9000, available 5000",
    ]
    with pytest.raises(Refused, match="leases: asked 4"):
        inventory.reserve(b"d", tenant=BOB, allocation=allocation, expires_at=LATER)


def test_utilisation_counts_promises_leases_and_what_is_looked_at() -> None:
    inventory = Inventory([node(gpus={H100: 3, T4: 1}), node("two")])
    reserve(inventory, b"a", unit(cpu=4_000, gpus=1, models=gpu("h100")))
    used = inventory.utilisation()
    assert used == {
        "cpu": 250,
        "memory": 1_000 // 32,
        "storage ephemeral": 5,
        "storage beta2": 0,
        "gpu h100": 333,
        "gpu t4": 0,
    }
    more = plan(inventory, unit(cpu=4_000, gpus=1, models=gpu("h100")))
    assert inventory.utilisation(more)["gpu h100"] == 666
    assert Inventory([]).utilisation() == {}


def test_a_unit_that_may_choose_its_gpus_leaves_those_that_another_needs() -> None:
    inventory = Inventory([node(gpus={H100: 2, T4: 1})])
    allocation = plan(
        inventory,
        unit(1, gpus=1, models=gpu("h100", "t4"), cpu=2_000),
        unit(2, gpus=2, models=gpu("h100"), cpu=10),
    )
    assert [one.resources.gpu_attributes for one in allocation.units] == [
        gpu("t4"),
        gpu("h100/ram/80Gi/interface/sxm"),
    ]
    either = gpu("h100", "t4")
    both = plan(inventory, unit(1, gpus=1, models=either, cpu=2_000), unit(2, gpus=1, models=gpu("h100"), count=2))
    assert both.units[0].resources.gpu_attributes == gpu("t4")
