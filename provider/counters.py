"""Counter-offers: where a provider would bid but for one thing, what that is and at what price.

Each is tried, not guessed: the group with the one change is put through the same decision as any other, and only
what would then be a bid is offered. So many tries are bounded, for whoever asks for too much must not cost more
than whoever asks for what there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from fondaco.protocol import limits, matching
from fondaco.protocol.market import Change, CounterOffer
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.resources import Group, ResourceUnit, Volume
from fondaco.protocol.scalars import MicroCredits
from fondaco.provider.bidding import BidPlan, DeclinePlan, MarketContext, consider
from fondaco.provider.capacity import RAM_CLASS, Load, demand, storage_class, with_model

TRIES = 4
ROOM = ("cpu_milli", "memory_bytes", "storage", "gpu", "one node")
"""How the dimensions begin that a change of a unit may help against."""
UNITS = 4
"""Of a group that changes are looked for in."""
MODELS = 2
"""Other GPU models tried for one unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A group with one change."""

    change: Change
    unit: int = 0
    subject: str = ""
    value: int
    group: Group
    context: MarketContext


def counter_offers(group: Group, context: MarketContext, plan: DeclinePlan) -> tuple[CounterOffer, ...]:
    """What the provider would bid on instead; nothing where more than one thing stands against it."""
    if plan.final:
        return ()
    if plan.dear is not None:
        price = plan.dear.price_per_hour
        return (CounterOffer(change=Change.PRICE, unit=0, subject="", value=price, price_per_hour=price),)
    found: dict[tuple[Change, int, str], CounterOffer] = {}
    for one in islice(_attempts(group, context, [one.dimension for one in plan.reasons]), TRIES):
        place = (one.change, one.unit, one.subject)
        bid = None if place in found else consider(one.group, one.context)
        if isinstance(bid, BidPlan):
            found[place] = _offer(one, bid.price_per_hour)
    return tuple(found.values())[: limits.DECLINE_COUNTER_OFFERS]


def _offer(one: Attempt, price: MicroCredits) -> CounterOffer:
    return CounterOffer(
        change=one.change, unit=one.unit, subject=one.subject, value=one.value, price_per_hour=price
    )


def _attempts(group: Group, context: MarketContext, failed: list[str]) -> Iterator[Attempt]:
    """Only what touches a dimension that failed, and nothing where one failed that no change touches."""
    offered = context.offered_reclamation_ms
    if context.reclamation_window_ms > offered:
        # Nothing but a shorter notice can help then.
        changed = replace(context, reclamation_window_ms=offered)
        yield Attempt(change=Change.WINDOW, value=offered, group=group, context=changed)
        return
    names = [name.removeprefix("policy ") for name in failed]
    if not all(name.startswith(ROOM) for name in names):
        return
    free = context.inventory.free()
    gpus = [name.startswith("gpu") for name in names]
    for unit in group.units[:UNITS]:
        if unit.resources.gpu_units and not names[0].startswith(("cpu", "memory", "storage")):
            yield from _other_gpus(group, unit, free, context)
        if unit.resources.gpu_units or not any(gpus):
            yield from _fewer(group, unit, free, context)
        if not any(gpus) and any(name.startswith(("storage", "one node")) for name in names):
            yield from _smaller(group, unit, free, context)


def _with(group: Group, unit: ResourceUnit) -> Group:
    return replace(group, units=tuple(unit if one.id == unit.id else one for one in group.units))


def _other_gpus(
    group: Group, unit: ResourceUnit, free: dict[str, Load], context: MarketContext
) -> Iterator[Attempt]:
    """Models at hand that were not asked for, the most plentiful first."""
    totals: dict[GpuModel, int] = {}
    for load in free.values():
        for model, units in load.gpus.items():
            if not matching.gpu_will_do(unit.resources.gpu_attributes, model):
                totals[model] = totals.get(model, 0) + units
    enough = [model for model, units in totals.items() if units >= unit.count * unit.resources.gpu_units]
    for model in sorted(enough, key=lambda model: (-totals[model], model))[:MODELS]:
        yield Attempt(
            change=Change.GPU_MODEL,
            unit=unit.id,
            subject=model.key,
            value=unit.resources.gpu_units,
            group=_with(group, with_model(unit, model)),
            context=context,
        )


def _fewer(group: Group, unit: ResourceUnit, free: dict[str, Load], context: MarketContext) -> Iterator[Attempt]:
    """As many replicas as would find place alone; and half of that, for the other units take some, too."""
    models = [model for model in _models(free) if matching.gpu_will_do(unit.resources.gpu_attributes, model)]
    loads = [demand(unit, model) for model in models] if unit.resources.gpu_units else [demand(unit, None)]
    most = max((sum(_holds(amount, load) for amount in free.values()) for load in loads), default=0)
    tried = 0
    for count in (min(most, unit.count - 1), min(most, unit.count) // 2):
        if 0 < count != tried:
            tried = count
            yield Attempt(
                change=Change.REPLICAS,
                unit=unit.id,
                value=count,
                group=_with(group, replace(unit, count=count)),
                context=context,
            )


def _models(free: dict[str, Load]) -> list[GpuModel]:
    return sorted({model for load in free.values() for model in load.gpus})


def _holds(free: Load, load: Load) -> int:
    """How many replicas fit at one place."""
    parts = [(free.cpu_milli, load.cpu_milli), (free.memory_bytes, load.memory_bytes)]
    parts += [(free.gpus.get(model, 0), units) for model, units in load.gpus.items()]
    parts += [(free.storage_bytes.get(name, 0), size) for name, size in load.storage_bytes.items()]
    return min(have // want for have, want in parts if want)


def _smaller(group: Group, unit: ResourceUnit, free: dict[str, Load], context: MarketContext) -> Iterator[Attempt]:
    """A volume that does not fit as it is, at the largest size that all replicas find place with."""
    for volume in unit.resources.volumes:
        name = storage_class(volume)
        if name == RAM_CLASS:
            continue
        others = demand(unit, None).storage_bytes[name] - volume.size_bytes
        have = [load.storage_bytes.get(name, 0) for load in free.values()]
        size = _largest(have, others, unit.count) // limits.MIB * limits.MIB
        if limits.VOLUME_BYTES[0] <= size < volume.size_bytes:
            yield Attempt(
                change=Change.VOLUME,
                unit=unit.id,
                subject=volume.name,
                value=size,
                group=_with(group, _with_volume(unit, replace(volume, size_bytes=size))),
                context=context,
            )


def _largest(have: list[int], others: int, count: int) -> int:
    """The largest size of a volume with which `count` replicas, each with `others` more, find place."""
    sizes = sorted({amount // share - others for amount in have for share in range(1, count + 1)}, reverse=True)
    for size in sizes:
        if size > 0 and sum(amount // (others + size) for amount in have) >= count:
            return size
    return 0


def _with_volume(unit: ResourceUnit, volume: Volume) -> ResourceUnit:
    volumes = tuple(volume if one.name == volume.name else one for one in unit.resources.volumes)
    return replace(unit, resources=replace(unit.resources, volumes=volumes))
