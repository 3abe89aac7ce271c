"""What leases and workloads are called in a cluster, and back.

A lease has a namespace of its own, named after all of its id; a workload is the pod `<service>-<replica>` in it.
So nothing needs to be remembered outside of the cluster to find it again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes.port import WorkloadId, parse_workload_id, workload_id

PROVIDER = "fondaco/provider"
"""Label: whose it is; several providers may share a cluster, and none may take another's pods for its own."""
SERVICE = "fondaco/service"
REPLICA = "fondaco/replica"
DEFINITION = "fondaco/definition"
"""Annotation: it is too long for a label."""
CONTAINER = "workload"
_PREFIX = "lease-"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def namespace_of(lease: LeaseId) -> str:
    """58 characters, of the 63 that it may have: hexadecimal would not fit."""
    return _PREFIX + base64.b32encode(lease).decode().lower().rstrip("=")


def lease_of(namespace: str) -> LeaseId | None:
    """The lease whose namespace that is, or None for any other."""
    if not namespace.startswith(_PREFIX):
        return None
    try:
        found = LeaseId(base64.b32decode(namespace.removeprefix(_PREFIX).upper() + "===="))
    except (binascii.Error, ValueError):
        return None
    return found if namespace_of(found) == namespace else None


def place_of(workload: WorkloadId) -> tuple[str, str]:
    """Namespace and pod of a workload.  Raises `Refused` `workload.unknown` for what names none."""
    parsed = parse_workload_id(workload)
    if parsed is None:
        raise Refused("workload.unknown", f"{workload[:100]!r} names no workload")
    lease, service, replica = parsed
    return namespace_of(lease), f"{service}-{replica}"


def workload_of(pod: Mapping[str, Any]) -> WorkloadId | None:
    """The workload that a pod is, or None if it is none of a provider's."""
    metadata = pod["metadata"]
    labels, lease = metadata.get("labels") or {}, lease_of(metadata.get("namespace", ""))
    service, replica = labels.get(SERVICE, ""), labels.get(REPLICA, "")
    if lease is None or PROVIDER not in labels or not replica.isdigit():
        return None
    try:
        found = workload_id(lease, service, int(replica))
    except Refused:
        return None
    return found if place_of(found)[1] == metadata["name"] else None


def claim_of(service: str, replica: int, volume: str) -> str:
    """Of a persistent volume: it keeps its name when the service is updated."""
    short = volume if _LABEL.fullmatch(volume) else hashlib.sha256(volume.encode()).hexdigest()[:16]
    return f"{service}-{replica}-{short}"
