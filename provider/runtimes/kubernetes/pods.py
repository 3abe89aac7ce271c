"""A workload as a pod: one container, confined as the embedded runtime confines one, as far as a cluster can.

A bare pod that is never restarted by the cluster: the provider starts again what ends, with a pause that grows,
and is told how it ended. See decision 0041 for why it is no Deployment.
"""

from __future__ import annotations

from collections.abc import Mapping

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.provider.images.registries import Login
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.kubernetes.names import (
    CONTAINER,
    DEFINITION,
    PROVIDER,
    REPLICA,
    SERVICE,
    claim_of,
    place_of,
)
from fondaco.provider.runtimes.kubernetes.objects import Object, pull_secret_name
from fondaco.provider.runtimes.kubernetes.shape import Shape, Users
from fondaco.provider.runtimes.port import VolumeKind, VolumeMount, WorkloadSpec

GRACE_S = 10
"""Where the cluster ends a pod of itself, as for a node that is emptied."""
LOST_NODE_S = 60
"""A node may be silent for so long before its pods are given up, and started elsewhere."""
LOG_BYTES = 32 * MIB
"""The node's copy of a container's log counts as its ephemeral storage."""
GROUP = 65_532
"""Owns volumes, so that whoever an image runs as may write there."""
GPU_RESOURCES = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "gpu.intel.com/i915"}
"""By vendor: what their device plugins call it."""


def pod(spec: WorkloadSpec, image: str, login: Login | None, shape: Shape) -> Object:
    """`image`: by digest. `login`: for whose secret the pod asks. Raises `Refused` `workload.gpu`."""
    namespace, name = place_of(spec.id)
    labels = {PROVIDER: shape.provider, SERVICE: spec.service, REPLICA: str(spec.replica)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {DEFINITION: spec.definition},
        },
        "spec": {
            "restartPolicy": "Never",
            "hostname": spec.service,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_S,
            **({"hostUsers": False} if shape.users is Users.NAMESPACED else {}),
            **({"runtimeClassName": shape.runtime_class} if shape.runtime_class else {}),
            **({"imagePullSecrets": [{"name": pull_secret_name(login)}]} if login else {}),
            "securityContext": _pod_security(shape),
            "tolerations": _tolerations(spec),
            "affinity": {"nodeAffinity": _nodes(spec, shape)},
            "containers": [_container(spec, image, login, shape)],
            "volumes": [*(_volume(spec, number, one) for number, one in enumerate(spec.volumes)), *_scratch(spec)],
        },
    }


def _container(spec: WorkloadSpec, image: str, login: Login | None, shape: Shape) -> Object:
    mounts = [
        {"name": f"volume-{number}", "mountPath": one.path, "readOnly": one.read_only}
        for number, one in enumerate(spec.volumes)
    ]
    if spec.read_only_root:
        mounts.append({"name": "scratch", "mountPath": "/tmp", "readOnly": False})
    limits = _resources(spec)
    return {
        "name": CONTAINER,
        "image": image,
        # Who cannot show the login anew does not get what another one's left on the node.
        "imagePullPolicy": "Always" if login else "IfNotPresent",
        **({"command": [_literal(one) for one in spec.command]} if spec.command else {}),
        **({"args": [_literal(one) for one in spec.args]} if spec.args else {}),
        **({"workingDir": spec.working_dir} if spec.working_dir else {}),
        "env": [{"name": name, "value": _literal(value)} for name, value in _env(spec).items()],
        "resources": {"requests": limits, "limits": limits},
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": spec.read_only_root,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
            **({"runAsNonRoot": True} if shape.users is Users.NONROOT else {}),
        },
        "terminationMessagePolicy": "File",
    }


def _literal(text: str) -> str:
    """As it is: a cluster would put variables in for `$(NAME)`, which no other runtime does."""
    return text.replace("$", "$$")


def _env(spec: WorkloadSpec) -> Mapping[str, str]:
    pairs = (entry.partition("=") for entry in spec.env)
    return {name: value for name, _, value in pairs}


def _pod_security(shape: Shape) -> Object:
    return {
        "fsGroup": GROUP,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
        # Root without capabilities, and anybody else, may listen on port 80 as well.
        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        **({"runAsNonRoot": True} if shape.users is Users.NONROOT else {}),
    }


def _tolerations(spec: WorkloadSpec) -> list[Object]:
    found: list[Object] = [
        {
            "key": f"node.kubernetes.io/{trouble}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": LOST_NODE_S,
        }
        for trouble in ("not-ready", "unreachable")
    ]
    if spec.gpu_units:
        found.append({"key": _gpu_resource(spec), "operator": "Exists", "effect": "NoSchedule"})
    return found


def _nodes(spec: WorkloadSpec, shape: Shape) -> Object:
    """Linux; and where the operator says how nodes with a GPU model are known, those of the models asked for."""
    linux = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
    known = sorted({shape.gpu_nodes[one.model] for one in spec.gpu_models if one.model in shape.gpu_nodes})
    terms: list[Object] = []
    for label in known:
        key, _, value = label.partition("=")
        terms.append({"matchExpressions": [linux, {"key": key, "operator": "In", "values": [value]}]})
    terms = terms or [{"matchExpressions": [linux]}]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def _resources(spec: WorkloadSpec) -> dict[str, str]:
    """Requested and limited alike, so that no neighbour's hunger takes what was leased."""
    found = {"cpu": f"{spec.cpu_milli}m", "memory": str(spec.memory_bytes)}
    if spec.ephemeral_bytes:
        disk = sum(one.size_bytes for one in spec.volumes if one.kind is VolumeKind.DISK and not one.persistent)
        found["ephemeral-storage"] = str(spec.ephemeral_bytes + disk + LOG_BYTES)
    if spec.gpu_units:
        found[_gpu_resource(spec)] = str(spec.gpu_units)
    return found


def _gpu_resource(spec: WorkloadSpec) -> str:
    vendors = {model.vendor for model in spec.gpu_models}
    found = {GPU_RESOURCES[vendor] for vendor in vendors if vendor in GPU_RESOURCES}
    if len(found) != 1:
        known = ", ".join(GPU_RESOURCES)
        raise Refused(
            "workload.gpu",
            f"service {spec.service!r} asks for GPUs of {', '.join(sorted(vendors)) or 'no vendor'}",
            hint=f"ask for those of one vendor: {known}",
        )
    return found.pop()


def _volume(spec: WorkloadSpec, number: int, volume: VolumeMount) -> Object:
    name, size = f"volume-{number}", str(volume.size_bytes)
    if volume.persistent:
        claim = {"claimName": claim_of(spec.service, spec.replica, volume.name)}
        return {"name": name, "persistentVolumeClaim": claim}
    if volume.kind is VolumeKind.RAM:
        return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}}
    return {"name": name, "emptyDir": {"sizeLimit": size}}


def _scratch(spec: WorkloadSpec) -> list[Object]:
    if not spec.read_only_root:
        return []
    size = str(bounds.WORKLOAD_TMPFS_BYTES)
    return [{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": size}}]
