"""Making a provider's offer of its books: totals and what is free, summed over its machines."""

from __future__ import annotations

from collections.abc import Iterator

from fondaco.protocol import limits
from fondaco.protocol.book import bounds
from fondaco.protocol.errors import Refused
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.offers import Offer, Offered, OfferLine
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey
from fondaco.provider.capacity import total
from fondaco.provider.eligibility import Profile
from fondaco.provider.inventory import Inventory
from fondaco.provider.policy import Policy
from fondaco.provider.pricing import LinearScale

LIFE_MS = bounds.OFFER_LIFE_MS


def offer_of(
    provider: PublicKey,
    inventory: Inventory,
    *,
    profile: Profile,
    policy: Policy,
    listed: LinearScale | None,
    now: Millis,
) -> Offer:
    """What stands in the books now, with list prices where there is a list."""
    return Offer(
        provider=provider,
        lines=tuple(_lines(inventory, listed))[: bounds.OFFER_LINES],
        attributes=profile.attributes[: limits.ATTRIBUTES],
        policy=tuple(Attribute(key=rule, value=value) for rule, value in policy.summary())[: limits.ATTRIBUTES],
        serial=now,
        expires_at=Millis(now + LIFE_MS),
    )


def _lines(inventory: Inventory, listed: LinearScale | None) -> Iterator[OfferLine]:
    have = total({node.name: node.capacity for node in inventory.nodes})
    left = total(inventory.free())
    cpu, memory = (None, None) if listed is None else (listed.per_cpu, listed.per_memory_gib)
    yield _line(Offered.CPU_MILLI, "", have.cpu_milli, left.cpu_milli, cpu)
    yield _line(Offered.MEMORY_BYTES, "", have.memory_bytes, left.memory_bytes, memory)
    for name, size in sorted(have.storage_bytes.items()):
        price = None if listed is None else listed.per_storage_gib.get(name)
        yield _line(Offered.STORAGE_BYTES, name, size, left.storage_bytes[name], price)
    for model, units in sorted(have.gpus.items()):
        shown = " ".join(part for part in (model.model, model.ram, model.interface) if part)
        yield _line(Offered.GPU_UNITS, shown, units, left.gpus[model], _gpu_price(listed, model))


def _gpu_price(listed: LinearScale | None, model: GpuModel) -> int | None:
    try:
        return None if listed is None else listed.gpu_rate(model)
    except Refused:
        return None


def _line(resource: Offered, model: str, have: int, free: int, price: int | None) -> OfferLine:
    return OfferLine(
        resource=resource,
        model=model,
        total=have,
        free=free,
        price_per_hour=None if price is None else MicroCredits(price),
    )
