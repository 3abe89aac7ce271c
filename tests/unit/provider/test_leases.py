"""The pure parts of serving leases: reconciling, and what a manifest becomes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.hand_offs import make_lease, make_order, manifest_group, resources, web
from tests.support.workloads import gpu, volume

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import GIB
from fondaco.protocol.manifest import Expose, ServiceParams
from fondaco.protocol.manifest import VolumeMount as Mount
from fondaco.protocol.scalars import Height, LeaseId
from fondaco.provider.reconcile import reconcile
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.port import Link, Transport, VolumeKind
from fondaco.provider.workloads import leased_group, probe_port, specs_of

LEASES = [LeaseId(bytes([number]) * 32) for number in range(6)]
some = st.frozensets(st.sampled_from(LEASES))


@given(leased=some, stored=st.dictionaries(st.sampled_from(LEASES), st.integers(0, 20)), running=some)
def test_whatever_is_found_a_leased_workload_is_never_stopped(
    leased: frozenset[LeaseId], stored: dict[LeaseId, int], running: frozenset[LeaseId]
) -> None:
    heights = {lease: Height(height) for lease, height in stored.items()}
    plan = reconcile(leased=leased, handed_over=heights, running=running, height=Height(10))
    parts = (plan.adopt, plan.restart, plan.wait, plan.stop, plan.leave)
    assert frozenset().union(*parts) == leased | running | frozenset(stored)
    assert sum(map(len, parts)) == len(frozenset().union(*parts))
    assert not plan.stop & leased
    assert plan.adopt == leased & running
    assert all(stored.get(lease, 0) <= 10 for lease in plan.stop)


def test_each_replica_becomes_a_workload_with_its_volumes() -> None:
    volumes = (
        volume("data", GIB, kind="beta2", persistent="true"),
        volume("default", 2 * GIB),
        volume("shm", GIB // 2, kind="ram"),
    )
    mounts = (
        Mount(name="data", mount="/data", read_only=True),
        Mount(name="shm", mount="/dev/shm", read_only=False),
    )
    service = replace(
        web(count=2),
        resources=replace(resources(), volumes=volumes),
        params=ServiceParams(storage=mounts, permissions=None, tee=None),
    )
    first, second = specs_of(LEASES[0], manifest_group(service))
    assert (first.replica, second.replica) == (0, 1)
    assert first.ephemeral_bytes == 2 * GIB
    data, shm = first.volumes
    assert (data.path, data.kind, data.persistent, data.read_only) == ("/data", VolumeKind.DISK, True, True)
    assert (shm.path, shm.kind, shm.persistent) == ("/dev/shm", VolumeKind.RAM, False)


def test_a_service_is_linked_to_those_that_are_exposed_to_it_and_to_no_others() -> None:
    database = replace(
        web(),
        name="db",
        expose=(
            Expose(port=5432, service="web"),
            Expose(port=53, external_port=1053, proto="UDP", service="web"),
            Expose(port=9000, service="db"),
            Expose(port=9001, service="elsewhere"),
            Expose(port=9002),
            Expose(port=9003, is_global=True),
        ),
    )
    by_service = {spec.service: spec for spec in specs_of(LEASES[0], manifest_group(database, web(count=1)))}
    links = (
        Link(service="db", port=5432, target_port=5432),
        Link(service="db", port=1053, target_port=53, transport=Transport.UDP),
    )
    assert by_service["web"].links == links
    assert by_service["web"].linked_from == ()
    assert by_service["db"].links == ()
    assert by_service["db"].linked_from == tuple(("web", link) for link in links)


def test_a_port_exposed_twice_under_one_number_leads_to_the_first() -> None:
    twice = (Expose(port=1, external_port=80, service="web"), Expose(port=2, external_port=80, service="web"))
    specs = specs_of(LEASES[0], manifest_group(replace(web(), name="db", expose=twice), web(count=1)))
    assert [link.target_port for spec in specs for link in spec.links] == [1]


def test_links_are_bounded_over_all_replicas() -> None:
    exposed = tuple(Expose(port=port, service="web") for port in range(1, bounds.LEASE_LINKS // 2 + 2))
    group = manifest_group(replace(web(), name="db", expose=exposed), web(count=2))
    with pytest.raises(Refused) as refused:
        specs_of(LEASES[0], group)
    assert refused.value.code == "workload.links"


def test_a_manifest_that_names_several_gpu_models_fits_a_lease_of_one_of_them() -> None:
    asked = replace(resources(), gpu_units=1, gpu_attributes=gpu("a100", "h100"))
    manifest = manifest_group(replace(web(), resources=asked))
    lease = make_lease(make_order(manifest), manifest)
    for given_model, fits in (("h100", True), ("t4", False)):
        (unit,) = lease.units
        narrowed = replace(unit, resources=replace(unit.resources, gpu_attributes=gpu(given_model)))
        group = leased_group(replace(lease, units=(narrowed,)), manifest)
        assert (group.units[0].resources == asked) is fits


def test_the_probe_asks_the_first_tcp_port() -> None:
    udp, tcp = Expose(port=53, proto="UDP"), Expose(port=8080)
    assert probe_port(replace(web(), expose=(udp, tcp))) == 8080
    assert probe_port(replace(web(), expose=(udp,))) is None
