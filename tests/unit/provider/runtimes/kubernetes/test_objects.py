"""Objects are such as servers old and new know them, and say what they should."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
from base64 import b64decode
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.fixtures import SHARED
from tests.support.kubernetes_schemas import check

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.scalars import LeaseId
from fondaco.protocol.sdl import Mode, SdlError, parse
from fondaco.provider.images.registries import Login
from fondaco.provider.runtimes.kubernetes import names, objects
from fondaco.provider.runtimes.kubernetes.objects import Object
from fondaco.provider.runtimes.kubernetes.pods import pod
from fondaco.provider.runtimes.kubernetes.shape import Shape, Users
from fondaco.provider.runtimes.port import Link, Transport, VolumeKind, VolumeMount, WorkloadSpec, workload_id
from fondaco.provider.workloads import specs_of

LEASE = LeaseId(bytes(range(32)))
SHAPE = Shape(provider="0011223344556677")
IMAGE = "docker.io/library/web@sha256:" + "0" * 64
LOGIN = Login(host="docker.io", username="ann", password="secret")


def spec(**changes: Any) -> WorkloadSpec:
    given: dict[str, Any] = {
        "lease": LEASE,
        "service": "web",
        "image": "web:1",
        "cpu_milli": 250,
        "memory_bytes": 64 * MIB,
        "ephemeral_bytes": 8 * MIB,
        "definition": "ab" * 32,
    }
    return WorkloadSpec(**{**given, **changes})


def everything(specs: tuple[WorkloadSpec, ...], shape: Shape) -> list[Object]:
    made = [objects.namespace(LEASE, shape), objects.quota(specs, shape)]
    made += objects.policies(specs, shape) + objects.services(specs, shape)
    for one in specs:
        made.append(pod(one, IMAGE, one.login, shape))
        made += [objects.claim(one, volume, shape) for volume in one.volumes if volume.persistent]
        made += [objects.pull_secret(one.lease, one.login, shape)] if one.login else []
    return made


labels = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
sizes = st.integers(1, 2**45)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
volumes = st.builds(
    VolumeMount,
    name=texts.filter(bool),
    path=st.just("/data"),
    size_bytes=sizes,
    kind=st.sampled_from(VolumeKind),
    persistent=st.booleans(),
    storage_class=st.sampled_from(["", "beta2"]),
    read_only=st.booleans(),
)
links = st.builds(
    Link,
    service=labels,
    port=st.integers(1, 65_535),
    target_port=st.integers(1, 65_535),
    transport=st.sampled_from(Transport),
)
specs = st.builds(
    spec,
    service=labels,
    replica=st.integers(0, 3),
    login=st.none() | st.just(LOGIN),
    command=st.lists(texts, max_size=2).map(tuple),
    args=st.lists(texts, max_size=2).map(tuple),
    env=st.lists(st.tuples(labels, texts).map("=".join), max_size=3).map(tuple),
    working_dir=st.sampled_from(["", "/srv"]),
    cpu_milli=st.integers(1, 512_000),
    memory_bytes=sizes,
    gpu_units=st.just(2),
    gpu_models=st.just((GpuModel(vendor="nvidia", model="h100"),)),
    ephemeral_bytes=st.just(0) | sizes,
    volumes=st.lists(volumes, max_size=3).map(tuple),
    read_only_root=st.booleans(),
    links=st.lists(links, max_size=3).map(tuple),
    linked_from=st.lists(st.tuples(labels, links), max_size=3).map(tuple),
)
shapes = st.builds(
    Shape,
    provider=st.just("00"),
    users=st.sampled_from(Users),
    pod_security=st.sampled_from(["restricted", "baseline"]),
    egress=st.booleans(),
    runtime_class=st.sampled_from(["", "gvisor"]),
    storage_classes=st.just({"beta2": "fast"}),
    gpu_nodes=st.sampled_from([{}, {"h100": "nvidia.com/gpu.product=H100"}]),
)


@settings(max_examples=30)
@given(st.lists(specs, min_size=1, max_size=2).map(tuple), shapes)
def test_whatever_is_asked_for_servers_know_every_field_of_it(
    wanted: tuple[WorkloadSpec, ...], shape: Shape
) -> None:
    for thing in everything(wanted, shape):
        check(thing)


def test_a_field_that_no_server_knows_would_be_found() -> None:
    wrong = pod(spec(), IMAGE, None, SHAPE)
    wrong["spec"]["hostUser"] = False
    with pytest.raises(jsonschema_rs.ValidationError):
        check(wrong)


@pytest.mark.parametrize("folder", ["corpus", "parity"])
def test_what_people_write_becomes_objects_that_servers_know(folder: str) -> None:
    """Every deployment of the wild; those that the SDL refuses are not ours."""
    files = sorted((SHARED / "fixtures" / "sdl" / folder).rglob("*.y*ml"))
    if not files:
        pytest.skip("no fixtures of SDL")
    seen = 0
    for file in files:
        try:
            stack = parse(file.read_text(), mode=Mode.GO)
        except SdlError:
            continue
        for group in stack.manifest:
            made: list[Object] = []
            with contextlib.suppress(Refused):
                made = everything(specs_of(LEASE, group), SHAPE)
            for thing in made:
                check(thing)
            seen += len(made)
    assert seen > 20


@given(st.binary(min_size=32, max_size=32).map(LeaseId), labels, st.integers(0, 49))
def test_a_workload_is_found_again_by_its_pod(lease: LeaseId, service: str, replica: int) -> None:
    made = pod(spec(lease=lease, service=service, replica=replica), IMAGE, None, SHAPE)
    assert len(made["metadata"]["namespace"]) <= 63
    assert names.workload_of(made) == workload_id(lease, service, replica)
    assert names.lease_of(made["metadata"]["namespace"]) == lease


def test_other_peoples_pods_are_no_workloads() -> None:
    made = pod(spec(), IMAGE, None, SHAPE)
    changes: list[Object] = [
        {"namespace": "kube-system"},
        {"namespace": "lease-xx"},
        {"name": "other"},
        {"labels": {}},
    ]
    for change in changes:
        assert names.workload_of({"metadata": made["metadata"] | change}) is None


def test_a_pod_is_confined_whatever_is_asked_for() -> None:
    found = pod(spec(), IMAGE, None, SHAPE)["spec"]
    (container,) = found["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert found["hostUsers"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "nodeName"} & found.keys()
    assert (found["automountServiceAccountToken"], found["enableServiceLinks"]) == (False, False)
    assert container["resources"]["requests"] == container["resources"]["limits"]
    nonroot = pod(spec(), IMAGE, None, dataclasses.replace(SHAPE, users=Users.NONROOT))["spec"]
    assert nonroot["containers"][0]["securityContext"]["runAsNonRoot"] is True
    assert "hostUsers" not in nonroot


def test_a_password_is_in_the_secret_and_nowhere_else() -> None:
    made = everything((spec(login=LOGIN),), SHAPE)
    (secret,) = [one for one in made if one["kind"] == "Secret"]
    auths = json.loads(b64decode(secret["data"][".dockerconfigjson"]))["auths"]
    assert auths[objects.HUB_LOGIN]["password"] == "secret"
    assert all("secret" not in json.dumps(one["spec"]) for one in made if one["kind"] == "Pod")
    (wanted,) = [one for one in made if one["kind"] == "Pod"]
    assert wanted["spec"]["imagePullSecrets"] == [{"name": secret["metadata"]["name"]}]
    assert wanted["spec"]["containers"][0]["imagePullPolicy"] == "Always"


def test_gpus_of_two_vendors_cannot_be_asked_for_at_once() -> None:
    models = (GpuModel(vendor="nvidia", model="h100"), GpuModel(vendor="amd", model="mi300x"))
    with pytest.raises(Refused) as caught:
        pod(spec(gpu_units=1, gpu_models=models), IMAGE, None, SHAPE)
    assert caught.value.code == "workload.gpu"


# --- Who reaches whom: what a policy engine would make of the policies


def reaches(policies: list[Object], caller: str, target: str, port: int) -> bool:
    """Whether a pod of `caller` may connect to one of `target`, as the documentation has it."""

    def allows(kind: str, who: str, other: str) -> bool:
        mine = [
            one["spec"]
            for one in policies
            if kind.capitalize() in one["spec"]["policyTypes"]
            and one["spec"]["podSelector"].get("matchLabels", {}) in ({}, {names.SERVICE: who})
        ]
        if not mine:
            return True
        peers = "to" if kind == "egress" else "from"
        return any(
            {"podSelector": {"matchLabels": {names.SERVICE: other}}} in rule[peers]
            and port in [one["port"] for one in rule["ports"]]
            for one in mine
            for rule in one.get(kind, ())
        )

    return allows("egress", caller, target) and allows("ingress", target, caller)


def test_services_reach_what_they_are_linked_to_and_nothing_else() -> None:
    link = Link(service="db", port=5_432, target_port=80)
    wanted = (
        spec(links=(link,)),
        spec(service="db", linked_from=(("web", link),)),
        spec(service="other"),
    )
    for egress in (False, True):
        policies = objects.policies(wanted, dataclasses.replace(SHAPE, egress=egress))
        reached = {
            (caller.service, target.service, port)
            for caller in wanted
            for target in wanted
            for port in (80, 5_432)
            if reaches(policies, caller.service, target.service, port)
        }
        assert reached == {("web", "db", 80)}
    (service,) = objects.services(wanted, SHAPE)
    assert service["metadata"]["name"] == "db"
    assert service["spec"]["ports"] == [{"name": "tcp-5432", "protocol": "TCP", "port": 5_432, "targetPort": 80}]


PRIVATE = ("10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "127.0.0.1", "fd00::1")


@pytest.mark.parametrize("address", [*PRIVATE, "fe80::1", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"])
def test_what_is_private_is_never_the_internet(address: str) -> None:
    (policy,) = [
        one
        for one in objects.policies((spec(),), dataclasses.replace(SHAPE, egress=True))
        if one["metadata"]["name"] == "internet"
    ]
    blocks = [to["ipBlock"] for rule in policy["spec"]["egress"] for to in rule["to"]]
    asked = ipaddress.ip_address(address)

    def covers(cidr: str) -> bool:
        network = ipaddress.ip_network(cidr)
        return network.version == asked.version and asked in network

    assert not any(covers(block["cidr"]) and not any(map(covers, block["except"])) for block in blocks)
    assert not objects.policies((spec(),), SHAPE)[1:], "and without the operator's word nothing is"
