"""Laws of manifests, matching and the inventory, over whatever can be drawn."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.support.messages import values
from tests.support.workloads import attributes, gpu, key, unit, volume

from fondaco.protocol import codec, manifest
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.limits import GIB
from fondaco.protocol.manifest import Expose, HttpOptions, ManifestGroup, Permissions, Service, ServiceParams
from fondaco.protocol.matching import GpuModel, check_offer, gpu_model, match_placement
from fondaco.protocol.resources import (
    Attribute,
    Endpoint,
    EndpointKind,
    Placement,
    Resources,
    ResourceUnit,
    Volume,
)
from fondaco.protocol.scalars import BlindingSalt, LeaseId, Millis
from fondaco.provider import snapshot
from fondaco.provider.capacity import Allocation, Load, Node, total
from fondaco.provider.inventory import Inventory

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(0, 2**32 - 1)


def lists(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=3).map(tuple)


attribute_lists = lists(st.builds(Attribute, key=texts, value=texts))
endpoints = st.builds(Endpoint, kind=st.sampled_from(EndpointKind), sequence_number=numbers)
resources = st.builds(
    Resources,
    cpu_attributes=attribute_lists,
    memory_attributes=attribute_lists,
    gpu_attributes=attribute_lists,
    cpu_milli=numbers,
    memory_bytes=numbers,
    gpu_units=numbers,
    volumes=lists(st.builds(Volume, name=texts, size_bytes=numbers, attributes=attribute_lists)),
    endpoints=lists(endpoints),
)
exposes = st.builds(
    Expose,
    port=numbers,
    external_port=numbers,
    proto=texts,
    service=texts,
    is_global=st.booleans(),
    hosts=st.none() | lists(texts),
    http_options=st.builds(
        HttpOptions,
        max_body_size=numbers,
        read_timeout=numbers,
        send_timeout=numbers,
        next_tries=numbers,
        next_timeout=numbers,
        next_cases=lists(texts),
        proxy_buffer_size=numbers,
    ),
    ip=texts,
    endpoint_sequence_number=numbers,
)
services = st.builds(
    Service,
    name=texts,
    image=texts,
    command=st.none() | lists(texts),
    args=st.none() | lists(texts),
    env=st.none() | lists(texts),
    resource_id=numbers,
    resources=resources,
    count=numbers,
    expose=lists(exposes),
    params=st.none()
    | st.builds(
        ServiceParams,
        storage=st.none() | lists(values(manifest.VolumeMount)),
        permissions=st.none() | st.builds(Permissions, read=lists(texts)),
        tee=st.none() | values(manifest.Tee),
    ),
    credentials=st.none() | values(manifest.Credentials),
)
groups = st.builds(ManifestGroup, name=texts, services=lists(services))


@given(group=groups)
def test_a_manifest_reads_back_as_it_was_written(group: ManifestGroup) -> None:
    data = manifest.group_to_json(group)
    assert manifest.group_to_json(manifest.parse_group(data)) == data
    assert manifest.parse(manifest.to_json((group,))) == (manifest.parse_group(data),)


@given(one=groups, other=groups, salt=st.binary(min_size=32, max_size=32))
def test_equal_commitments_mean_equal_manifests(one: ManifestGroup, other: ManifestGroup, salt: bytes) -> None:
    same = manifest.group_to_json(one) == manifest.group_to_json(other)
    committed = [manifest.commitment(BlindingSalt(salt), group) for group in (one, other)]
    assert (committed[0] == committed[1]) == same


@given(group=groups, data=st.data())
def test_mangled_bytes_are_refused_and_nothing_worse(group: ManifestGroup, data: st.DataObject) -> None:
    honest = manifest.group_to_json(group)
    start = data.draw(st.integers(0, len(honest)))
    end = data.draw(st.integers(start, len(honest)))
    mangled = honest[:start] + data.draw(st.binary(max_size=8)) + honest[end:]
    try:
        assert manifest.group_to_json(manifest.parse_group(mangled)) == mangled
    except Malformed:
        return


@given(group=groups)
def test_any_manifest_is_judged_without_a_crash(group: ManifestGroup) -> None:
    try:
        manifest.check_group_manifest(group)
    except Refused:
        return


units = st.builds(
    unit,
    st.integers(1, 5),
    count=st.integers(1, 4),
    cpu=st.integers(10, 6_000),
    memory=st.integers(1, 8 * GIB),
    gpus=st.integers(0, 2),
    models=st.sampled_from((gpu("h100"), gpu("t4"), gpu("*"), gpu("h100", "t4"))),
    volumes=st.lists(
        st.builds(volume, st.sampled_from(("a", "b")), st.integers(1, 20 * GIB)),
        max_size=2,
        unique_by=lambda v: v.name,
    ).map(tuple),
)


@given(asked=st.lists(units, max_size=4, unique_by=lambda one: one.id).map(tuple))
def test_what_is_asked_is_an_offer_good_enough(asked: tuple[ResourceUnit, ...]) -> None:
    assert check_offer(asked, asked) == ()


@given(own=st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy")), auditors=st.sets(st.integers(1, 3)))
def test_a_provider_qualifies_for_what_everybody_says_of_it(own: dict[str, str], auditors: set[int]) -> None:
    said = attributes(**own)
    keys = tuple(key(number) for number in sorted(auditors))
    placement = Placement(attributes=said, all_of=keys, any_of=keys)
    assert match_placement(placement, said, dict.fromkeys(keys, said)) == ()


gpu_parts = st.sampled_from(("vendor", "model", "ram", "interface", "x", ""))


@given(text=st.text(max_size=40) | st.lists(gpu_parts).map("/".join))
def test_gpu_names_read_back(text: str) -> None:
    model = gpu_model(text)
    if model is not None and "" not in text.split("/"):
        assert gpu_model(model.key) == model
        assert model.satisfies(model)


H100 = GpuModel(vendor="nvidia", model="h100")
T4 = GpuModel(vendor="nvidia", model="t4")
NODES = tuple(
    Node(
        name=name,
        capacity=Load(cpu_milli=8_000, memory_bytes=16 * GIB, gpus={model: 3}, storage_bytes={"": 50 * GIB}),
    )
    for name, model in (("a", H100), ("b", T4), ("c", T4))
)


wishes = st.lists(units, min_size=1, max_size=2, unique_by=lambda one: one.id)


class Books(RuleBasedStateMachine):
    """Reserve, commit, release, expire and restart in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.inventory = Inventory(NODES, per_tenant=6)
        self.now = 0
        self.names = 0

    @rule(wish=wishes, tenant=st.integers(1, 2), life=st.integers(1, 5))
    def reserve(self, wish: list[ResourceUnit], tenant: int, life: int) -> None:
        planned = self.inventory.plan(tuple(wish), key(tenant))
        if not isinstance(planned, Allocation):
            assert planned, "a refusal without a reason"
            return
        assert check_offer(tuple(wish), planned.units) == ()
        assert len(planned.shares) == sum(one.count for one in wish)
        self.names += 1
        self.inventory.reserve(
            bytes([self.names % 256]) * 2 + self.names.to_bytes(2, "big"),
            tenant=key(tenant),
            allocation=planned,
            expires_at=Millis(self.now + life),
        )

    @rule(pick=st.integers(0, 30))
    def commit(self, pick: int) -> None:
        held = self.inventory.reservations
        if held:
            one = held[pick % len(held)]
            self.inventory.commit(one.id, one.lease or LeaseId(one.id * 8))

    @rule(pick=st.integers(0, 30))
    def release(self, pick: int) -> None:
        held = self.inventory.reservations
        if held:
            assert self.inventory.release(held[pick % len(held)].id)

    @rule()
    def wait(self) -> None:
        self.now += 2
        leases = {one.id for one in self.inventory.reservations if one.lease is not None}
        self.inventory.expire(Millis(self.now))
        assert leases <= {one.id for one in self.inventory.reservations}

    @rule()
    def restart(self) -> None:
        packed = codec.pack(snapshot.to_plain(self.inventory.reservations))
        again = Inventory(NODES, per_tenant=6)
        assert again.restore(snapshot.from_plain(codec.unpack(packed))) == ()
        assert again.free() == self.inventory.free()
        self.inventory = again

    @invariant()
    def nothing_is_negative_and_nothing_is_lost(self) -> None:
        free = self.inventory.free()
        assert not any(load.is_negative() for load in free.values())
        taken = Load()
        for one in self.inventory.reservations:
            taken = taken.plus(total(one.allocation.by_node()))
        whole = total({node.name: node.capacity for node in NODES})
        assert total(free).plus(taken) == whole

    @invariant()
    def one_unit_has_one_gpu_model(self) -> None:
        for one in self.inventory.reservations:
            models: dict[int, set[GpuModel]] = {}
            for share in one.allocation.shares:
                models.setdefault(share.unit, set()).update(share.load.gpus)
            assert all(len(found) <= 1 for found in models.values())


TestBooks = Books.TestCase
