"""What a pod's status says of a workload, and what pods that looked around say of a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes.kubernetes import state, usage
from fondaco.provider.runtimes.kubernetes.pods import pod
from fondaco.provider.runtimes.kubernetes.probing import Seen, judge
from fondaco.provider.runtimes.kubernetes.shape import Shape, Users
from fondaco.provider.runtimes.port import NAMESPACES, Reason, State, WorkloadSpec

SHAPE = Shape(provider="00")
UNKNOWN = {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}
EVICTED: dict[str, Any] = {
    "reason": "Evicted",
    "message": "Pod ephemeral local storage usage exceeds its limit",
}
DISRUPTED = [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]


def a_pod(phase: str, container: dict[str, Any], *, deleted: bool = False, **status: Any) -> dict[str, Any]:
    spec = WorkloadSpec(lease=LeaseId(bytes(32)), service="web", image="web", cpu_milli=1, memory_bytes=1)
    made = pod(spec, "web@sha256:0", None, SHAPE)
    made["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}
    made["status"] = {"phase": phase, "containerStatuses": [{"state": container}], **status}
    return made


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (a_pod("Pending", {}), (State.STARTING, None, None)),
        (a_pod("Pending", {"waiting": {"reason": "ContainerCreating"}}), (State.STARTING, None, None)),
        (a_pod("Running", {"running": {}}), (State.RUNNING, None, None)),
        (a_pod("Running", {"running": {}}, deleted=True), (State.RUNNING, None, None)),
        (a_pod("Running", {"running": {}}, deleted=True, conditions=DISRUPTED), (State.LOST, None, None)),
        (a_pod("Running", {"running": {}}, deleted=True, reason="NodeLost"), (State.LOST, None, None)),
        (a_pod("Succeeded", {"terminated": {"exitCode": 0}}), (State.EXITED, 0, None)),
        (a_pod("Failed", {"terminated": {"exitCode": 3}}), (State.EXITED, 3, None)),
        (
            a_pod("Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            (State.EXITED, 137, Reason.MEMORY),
        ),
        (a_pod("Failed", {"terminated": {"exitCode": 137}}, **EVICTED), (State.EXITED, 137, Reason.DISK)),
        (a_pod("Failed", UNKNOWN, **EVICTED), (State.LOST, None, Reason.DISK)),
        (a_pod("Failed", {}), (State.LOST, None, None)),
        (a_pod("Unknown", {"running": {}}), (State.LOST, None, None)),
    ],
)
def test_a_pods_status_is_a_workloads_state(found: dict[str, Any], expected: object) -> None:
    told = state.read(found)
    assert told is not None
    assert (told.state, told.exit_code, told.reason) == expected
    assert state.cannot_start(found) is None


def test_who_cannot_start_is_told_why_in_the_clusters_words() -> None:
    for reason, code in (("ImagePullBackOff", "image.pull"), ("CreateContainerConfigError", "runtime.start")):
        found = a_pod("Pending", {"waiting": {"reason": reason, "message": "it will run as root"}})
        told = state.cannot_start(found)
        assert told is not None
        assert told[0] == code
        assert "root" in told[1]
    failed = a_pod("Failed", {"terminated": {"exitCode": 128, "reason": "StartError", "message": "no such file"}})
    assert state.cannot_start(failed) == ("runtime.start", "no such file")
    nowhere = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]
    assert state.unschedulable(a_pod("Pending", {}, conditions=nowhere)) == "0/3 nodes are available"
    assert not state.unschedulable(a_pod("Pending", {}))


NETWORK = "Inter-|  Receive\n face |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0\n  eth0: 100 1 0 0 0 0 0 0 200 2\n"
VERSION_2 = (
    "==> /sys/fs/cgroup/cpu.stat <==\nusage_usec 1500000\nuser_usec 1\n\n==> /sys/fs/cgroup/memory.current <==\n"
    "4096\n\n==> /sys/fs/cgroup/pids.current <==\n3\n\n==> /proc/net/dev <==\n" + NETWORK
)
VERSION_1 = (
    "==> /sys/fs/cgroup/cpuacct/cpuacct.usage <==\n1500000000\n\n"
    "==> /sys/fs/cgroup/memory/memory.usage_in_bytes <==\n4096\n\n"
    "==> /sys/fs/cgroup/pids/pids.current <==\n3\n\n==> /proc/net/dev <==\n" + NETWORK
)


@pytest.mark.parametrize("text", [VERSION_2, VERSION_1])
def test_usage_is_read_from_either_version_of_control_groups(text: str) -> None:
    found = usage.parse(text)
    assert (found.cpu_ms, found.memory_bytes, found.processes, found.network) == (1_500, 4_096, 2, (100, 200))


@pytest.mark.parametrize(
    "text", ["", "head: not found", VERSION_2.replace("4096", "max"), "==> /proc/net/dev <==\n"]
)
def test_usage_that_an_image_cannot_show_is_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        usage.parse(text)
    assert caught.value.code == "runtime.stats"


# --- What the probe makes of what pods saw


def seen(number: int, **changes: str) -> Seen:
    facts = {f"ns-{kind}": f"{kind}:[{number}]" for kind in NAMESPACES}
    facts |= {"CapEff": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"}
    facts |= {"users": "0 100000 65536", "nested": "refused", "root": "writable", "pids": "512"}
    facts |= {"cpu": "20000 100000", "self": "reached", "peer": "closed"}
    return Seen(facts | changes)


def test_a_cluster_that_keeps_tenants_apart_will_do() -> None:
    found = judge("v1.36.2", SHAPE, seen(1), seen(2), killed=True)
    assert found.namespaces == NAMESPACES
    assert found.hard_limits == ("cpu", "memory", "pids")
    loose = judge("v1.36.2", SHAPE, seen(1, pids="max", cpu="max 100000"), seen(2), killed=True)
    assert loose.hard_limits == ("memory",)
    assert "podPidsLimit" in loose.limits_note


HOST_USERS = "0 0 4294967295"


@pytest.mark.parametrize(
    ("first", "second", "killed", "word"),
    [
        (seen(1), seen(2, peer="reached"), True, "network policies"),
        (seen(1), Seen({**seen(2).facts, "self": ""}), True, "programs do not work"),
        (seen(1), seen(1), True, "namespaces of their own"),
        (seen(1, users=HOST_USERS), seen(2, users=HOST_USERS), True, "user"),
        (seen(1, Seccomp="0"), seen(2), True, "filter"),
        (seen(1, nested="allowed"), seen(2), True, "filter"),
        (seen(1, CapBnd="00000000a80425fb"), seen(2), True, "capabilities"),
        (seen(1, NoNewPrivs="0"), seen(2), True, "privileges"),
        (seen(1), seen(2), False, "memory"),
    ],
)
def test_a_cluster_that_does_not_is_refused_with_what_it_lacks(
    first: Seen, second: Seen, killed: bool, word: str
) -> None:
    with pytest.raises(Refused) as caught:
        judge("v1.36.2", SHAPE, first, second, killed=killed)
    assert caught.value.code == "runtime.unavailable"
    assert word in caught.value.message


def test_without_user_namespaces_an_operator_must_have_said_so() -> None:
    shape = Shape(provider="00", users=Users.NONROOT)
    found = judge("v1.30.0", shape, seen(1, users=HOST_USERS), seen(2, users=HOST_USERS), killed=True)
    assert "user" not in found.namespaces
