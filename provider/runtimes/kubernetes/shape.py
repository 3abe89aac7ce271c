"""What an operator says of a cluster, as the builders of objects want to know it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Users(enum.StrEnum):
    NAMESPACED = "namespaced"
    """Root inside is nobody outside: any image runs. The nodes must be able to: see `probe`."""
    NONROOT = "nonroot"
    """No user namespace, and no root: images that name no other user, by its number, are not started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a provider's objects look in one cluster."""

    provider: str
    """Which provider's they are: a label's value."""
    users: Users = Users.NAMESPACED
    pod_security: str = "restricted"
    """What the server holds namespaces to: `restricted`, or `baseline` where that refuses root in any case."""
    egress: bool = False
    """Whether workloads reach the internet; never what is private."""
    runtime_class: str = ""
    """Of gVisor, Kata or the like; empty: the cluster's own."""
    storage_classes: Mapping[str, str] = field(default_factory=dict)
    """Class in orders -> StorageClass; one that is not named here has the same name there."""
    gpu_nodes: Mapping[str, str] = field(default_factory=dict)
    """GPU model -> `label=value` of the nodes that have it."""
