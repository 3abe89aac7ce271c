"""Machines, what is free on them, and how replicas are packed onto them.

Packing is first the hardest replica to place, each on the node it fits tightest: plain, predictable, and it leaves
large holes whole.  All replicas of a unit get the same GPU model, for a service that runs on two kinds of card
behaves like neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product

from fondaco.protocol import matching
from fondaco.protocol.market import Reason
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.resources import Attribute, ResourceUnit, Volume

CHOICES = 16
"""Ways to choose GPU models for the units of a group that are tried."""
_NO_GPU: Sequence[GpuModel | None] = (None,)
RAM_CLASS = "ram"
"""Volumes of this class live in memory and count as memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Amounts of everything that runs out: a node's capacity, a replica's demand, or what is free."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    gpus: Mapping[GpuModel, int] = field(default_factory=dict)
    storage_bytes: Mapping[str, int] = field(default_factory=dict)
    """By class; `""` is ephemeral storage."""

    def plus(self, other: Load) -> Load:
        return self._combine(other, 1)

    def minus(self, other: Load) -> Load:
        """What remains; may have negative amounts, which `fits` tells."""
        return self._combine(other, -1)

    def _combine(self, other: Load, sign: int) -> Load:
        """With `other` added so many times."""
        gpus, storage = dict(self.gpus), dict(self.storage_bytes)
        for model, units in other.gpus.items():
            gpus[model] = gpus.get(model, 0) + sign * units
        for name, size in other.storage_bytes.items():
            storage[name] = storage.get(name, 0) + sign * size
        return Load(
            cpu_milli=self.cpu_milli + sign * other.cpu_milli,
            memory_bytes=self.memory_bytes + sign * other.memory_bytes,
            gpus=gpus,
            storage_bytes=storage,
        )

    def is_negative(self) -> bool:
        amounts = (self.cpu_milli, self.memory_bytes, *self.gpus.values(), *self.storage_bytes.values())
        return any(amount < 0 for amount in amounts)

    def fits(self, free: Load) -> bool:
        """Asked most of all, so without making the difference."""
        if self.cpu_milli > free.cpu_milli or self.memory_bytes > free.memory_bytes:
            return False
        for model, units in self.gpus.items():
            if units > free.gpus.get(model, 0):
                return False
        return all(size <= free.storage_bytes.get(name, 0) for name, size in self.storage_bytes.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine."""

    name: str
    capacity: Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one replica takes of one node."""

    node: str
    unit: int
    load: Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Where a whole group would run; a plan until it is reserved."""

    units: tuple[ResourceUnit, ...]
    """As they would be offered: GPU attributes name the one model chosen."""
    shares: tuple[Share, ...]

    def by_node(self) -> dict[str, Load]:
        loads: dict[str, Load] = {}
        for share in self.shares:
            loads[share.node] = loads.get(share.node, Load()).plus(share.load)
        return loads


def storage_class(volume: Volume) -> str:
    return matching.volume_class(volume)


def demand(unit: ResourceUnit, model: GpuModel | None) -> Load:
    """What one replica of `unit` takes, on GPUs of `model`."""
    resources = unit.resources
    storage: dict[str, int] = {}
    memory = resources.memory_bytes
    for volume in resources.volumes:
        name = storage_class(volume)
        if name == RAM_CLASS:
            memory += volume.size_bytes
        else:
            storage[name] = storage.get(name, 0) + volume.size_bytes
    gpus = {model: resources.gpu_units} if model is not None and resources.gpu_units else {}
    return Load(cpu_milli=resources.cpu_milli, memory_bytes=memory, gpus=gpus, storage_bytes=storage)


def pack(units: tuple[ResourceUnit, ...], free: Mapping[str, Load]) -> Allocation | tuple[Reason, ...]:
    """Place every replica, or say which dimension does not hold it and by how much.

    What one unit may choose among another may need: where the first choice of GPU models leaves a unit without
    place the next is tried, `CHOICES` of them.
    """
    ordered = sorted(units, key=_hardest_first)
    wanted = [models_for(unit, free) if unit.resources.gpu_units else _NO_GPU for unit in ordered]
    stuck, left = ordered[0], free
    for tried, models in enumerate(islice(product(*wanted), CHOICES)):
        found = _place(ordered, models, free)
        if isinstance(found, Allocation):
            by_id = {unit.id: unit for unit in found.units}
            return replace(found, units=tuple(by_id[unit.id] for unit in units))
        stuck, left = found
        if not tried and (reasons := _reasons(units, free)):
            return reasons  # there is too little of something, however it is placed
    return _reasons(units, free) or (_fragmented(stuck, left),)


def _place(
    ordered: Sequence[ResourceUnit], models: Sequence[GpuModel | None], free: Mapping[str, Load]
) -> Allocation | tuple[ResourceUnit, Mapping[str, Load]]:
    """Everything placed, each unit on GPUs of its model; or the first that finds no place, in what was left."""
    left = dict(free)
    shares: list[Share] = []
    for unit, model in zip(ordered, models, strict=True):
        load = demand(unit, model)
        for _ in range(unit.count):
            fitting = [(_slack(amount), name) for name, amount in left.items() if load.fits(amount)]
            if not fitting:
                return unit, left
            _, node = min(fitting)
            left[node] = left[node].minus(load)
            shares.append(Share(node=node, unit=unit.id, load=load))
    chosen = (
        unit if model is None else with_model(unit, model) for unit, model in zip(ordered, models, strict=True)
    )
    return Allocation(units=tuple(chosen), shares=tuple(shares))


def with_model(unit: ResourceUnit, model: GpuModel) -> ResourceUnit:
    """The same unit, with its GPU attributes narrowed to one model."""
    attributes = (Attribute(key=model.key, value="true"),)
    return replace(unit, resources=replace(unit.resources, gpu_attributes=attributes))


def _hardest_first(unit: ResourceUnit) -> tuple[int, int, int, int]:
    resources = unit.resources
    return (-resources.gpu_units, -resources.cpu_milli, -resources.memory_bytes, unit.id)


def models_for(unit: ResourceUnit, free: Mapping[str, Load]) -> Sequence[GpuModel | None]:
    """The models at hand that will do, the most plentiful first: rare ones are kept for those who ask for them."""
    totals: dict[GpuModel, int] = {}
    for load in free.values():
        for model, units in load.gpus.items():
            if matching.gpu_will_do(unit.resources.gpu_attributes, model):
                totals[model] = totals.get(model, 0) + units
    return sorted(totals, key=lambda model: (-totals[model], model))


def _slack(left: Load) -> tuple[int, int, int]:
    """How loosely a replica fits: less what each of them takes, which is the same everywhere."""
    return (sum(left.gpus.values()), left.cpu_milli, left.memory_bytes)


def total(loads: Mapping[str, Load]) -> Load:
    """The sum over all nodes."""
    result = Load()
    for load in loads.values():
        result = result.plus(load)
    return result


def _reasons(units: tuple[ResourceUnit, ...], free: Mapping[str, Load]) -> tuple[Reason, ...]:
    """Every dimension where the whole group asks for more than is free anywhere."""
    have = total(free)
    want = Load()
    reasons: list[Reason] = []
    by_models: dict[tuple[str, ...], int] = {}
    for unit in units:
        want = want._combine(demand(unit, None), unit.count)
        if unit.resources.gpu_units:
            key = tuple(attribute.key for attribute in unit.resources.gpu_attributes)
            by_models[key] = by_models.get(key, 0) + unit.count * unit.resources.gpu_units
    for name, asked, available in (
        ("cpu_milli", want.cpu_milli, have.cpu_milli),
        ("memory_bytes", want.memory_bytes, have.memory_bytes),
        *(
            (f"storage {kind or 'ephemeral'}", size, have.storage_bytes.get(kind, 0))
            for kind, size in sorted(want.storage_bytes.items())
        ),
    ):
        if asked > available:
            reasons.append(Reason(dimension=name, asked=str(asked), available=str(available)))
    for keys, asked in by_models.items():
        wanted = [model for model in map(matching.gpu_model, keys) if model is not None]
        per_model = [amount for model, amount in have.gpus.items() if any(model.satisfies(one) for one in wanted)]
        available = max(per_model, default=0)
        if asked > available:
            names = " or ".join(model.model for model in wanted) or "of no known form"
            reasons.append(Reason(dimension=f"gpu {names}", asked=str(asked), available=str(available)))
    return tuple(reasons)


def _fragmented(unit: ResourceUnit, free: Mapping[str, Load]) -> Reason:
    """Enough in sum, but in no one place."""
    resources = unit.resources
    largest = max(free.values(), key=lambda load: (sum(load.gpus.values()), load.cpu_milli), default=Load())
    gpus = sum(largest.gpus.values())
    return Reason(
        dimension=f"one node for unit {unit.id}",
        asked=f"{resources.cpu_milli}m cpu, {resources.memory_bytes} B, {resources.gpu_units} gpu, x{unit.count}",
        available=f"largest has {largest.cpu_milli}m cpu, {largest.memory_bytes} B, {gpus} gpu",
    )
