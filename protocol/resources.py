"""What is asked, offered and leased: resource units, groups of them, and where they may be placed.

Terms are Akash's (chain-sdk, `resources`, `deployment/v1beta4`): a *resource unit* is what one replica gets, a
*group* is everything that goes to one provider, *placement* says which providers qualify. Quantities are
integers: milli-CPU, bytes, whole GPUs. Limits are market.md's, enforced by `check_group` here and on the ledger.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NoReturn

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import MicroCredits, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """A named property of a provider, a volume or a GPU; kept sorted by key."""

    key: str
    value: str


class EndpointKind(enum.IntEnum):
    SHARED_HTTP = 0
    RANDOM_PORT = 1
    LEASED_IP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    kind: EndpointKind
    sequence_number: int
    """Which leased address, from 1; 0 where the kind has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    name: str
    size_bytes: int
    attributes: tuple[Attribute, ...]
    """`class`, `persistent`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one replica gets."""

    cpu_milli: int
    cpu_attributes: tuple[Attribute, ...]
    memory_bytes: int
    memory_attributes: tuple[Attribute, ...]
    gpu_units: int
    gpu_attributes: tuple[Attribute, ...]
    """`vendor/nvidia/model/h100[/ram/80Gi][/interface/sxm]` = "true": any one of the models listed will do."""
    volumes: tuple[Volume, ...]
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceUnit:
    """`count` replicas of the same resources; `id` ties it to the manifest's services."""

    id: int
    resources: Resources
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which providers qualify: their own attributes, and what auditors say of them."""

    attributes: tuple[Attribute, ...]
    all_of: tuple[PublicKey, ...]
    """EVERY auditor listed must have attested all the attributes."""
    any_of: tuple[PublicKey, ...]
    """At least one auditor listed must have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What goes to one provider as one lease."""

    name: str
    units: tuple[ResourceUnit, ...]
    placement: Placement
    max_price_per_hour: MicroCredits
    """For the whole group; always positive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """A group's demand summed over replicas; what an inventory counts in."""

    cpu_milli: int
    memory_bytes: int
    gpu_units: int
    storage_bytes: int


def totals(units: tuple[ResourceUnit, ...]) -> Totals:
    """Sum resource units over their replicas."""
    return Totals(
        cpu_milli=sum(unit.count * unit.resources.cpu_milli for unit in units),
        memory_bytes=sum(unit.count * unit.resources.memory_bytes for unit in units),
        gpu_units=sum(unit.count * unit.resources.gpu_units for unit in units),
        storage_bytes=sum(
            unit.count * sum(volume.size_bytes for volume in unit.resources.volumes) for unit in units
        ),
    )


def check_group(group: Group) -> None:
    """Raise `Refused` unless `group` is within the limits every node enforces (market.md, Limits)."""
    if not 1 <= len(group.units) <= limits.UNITS_PER_GROUP:
        _out_of_range(group, "units", len(group.units), (1, limits.UNITS_PER_GROUP))
    if group.max_price_per_hour <= 0:
        raise Refused("price.too_small", f"group {group.name!r} asks for a maximum price of zero")
    _check_attributes(group, group.placement.attributes)
    for auditors in (group.placement.all_of, group.placement.any_of):
        if len(auditors) > limits.AUDITORS_PER_PLACEMENT:
            _out_of_range(group, "auditors", len(auditors), (0, limits.AUDITORS_PER_PLACEMENT))
    _check_unique(group, "unit id", [unit.id for unit in group.units])
    for unit in group.units:
        _check_unit(group, unit)
    total = totals(group.units)
    for what, amount, (_, high) in (
        ("cpu_milli", total.cpu_milli, limits.CPU_MILLI),
        ("memory_bytes", total.memory_bytes, limits.MEMORY_BYTES),
        ("gpu_units", total.gpu_units, limits.GPU_UNITS),
        ("storage_bytes", total.storage_bytes, limits.VOLUME_BYTES),
    ):
        if amount > high * limits.REPLICAS:
            _out_of_range(group, f"total {what}", amount, (0, high * limits.REPLICAS))


def _check_unit(group: Group, unit: ResourceUnit) -> None:
    resources = unit.resources
    volumes = resources.volumes
    for what, amount, bounds in (
        ("count", unit.count, (1, limits.REPLICAS)),
        ("cpu_milli", resources.cpu_milli, limits.CPU_MILLI),
        ("memory_bytes", resources.memory_bytes, limits.MEMORY_BYTES),
        ("gpu_units", resources.gpu_units, limits.GPU_UNITS),
        ("volumes", len(volumes), (0, limits.VOLUMES_PER_SERVICE)),
        *((f"volume {volume.name!r}", volume.size_bytes, limits.VOLUME_BYTES) for volume in volumes),
    ):
        if not bounds[0] <= amount <= bounds[1]:
            _out_of_range(group, f"unit {unit.id} {what}", amount, bounds)
    _check_unique(group, f"unit {unit.id} volume", [volume.name for volume in volumes])
    for attributes in (
        resources.cpu_attributes,
        resources.memory_attributes,
        resources.gpu_attributes,
        *(volume.attributes for volume in volumes),
    ):
        _check_attributes(group, attributes)
    if bool(resources.gpu_units) != bool(resources.gpu_attributes):
        raise Refused("gpu.attributes", f"group {group.name!r}: GPU units and GPU models go together")


def _check_attributes(group: Group, attributes: tuple[Attribute, ...]) -> None:
    keys = [attribute.key for attribute in attributes]
    if len(keys) > limits.ATTRIBUTES:
        _out_of_range(group, "attributes", len(keys), (0, limits.ATTRIBUTES))
    if keys != sorted(set(keys)):
        raise Refused("attributes.order", f"group {group.name!r}: attributes must be sorted and unique")


def _check_unique(group: Group, what: str, names: list[int] | list[str]) -> None:
    if len(set(names)) != len(names):
        raise Refused("resources.duplicate", f"group {group.name!r}: a {what} occurs twice")


def _out_of_range(group: Group, what: str, found: int, bounds: tuple[int, int]) -> NoReturn:
    raise Refused("resources.limit", f"group {group.name!r}: {what} is {found}, allowed {bounds[0]}..{bounds[1]}")
