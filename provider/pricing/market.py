"""Following the market: the list price, moved to where leases of late were.

A lease has one price for CPU, memory, storage and GPUs together, and nothing says which of them it was for. So
each is compared with what the own list would have asked for it, which gives its *level*, and it speaks for the
resource that the list charges most for in it. A resource's price is then the list's, times the level that a given
percentage of its leases did not exceed. Where too few speak for a resource the list stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import GIB
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.resources import ResourceUnit
from fondaco.provider.ports import Deal, PriceHistory
from fondaco.provider.pricing.linear import LinearScale
from fondaco.provider.pricing.quote import EPHEMERAL, NO_SITUATION, Quote, Situation, made_of

LEVEL = 1_000_000
"""That of a lease at exactly the list's price; levels are whole numbers."""


def levels(deals: Iterable[Deal], scale: LinearScale) -> dict[str, tuple[int, ...]]:
    """By the name of a price's part, the levels of the leases that speak for it, rising."""
    found: dict[str, list[int]] = {}
    for deal in deals:
        try:
            parts = _listed(deal, scale)
        except Refused:  # a GPU that is not on the list
            continue
        total = sum(parts.values(), Fraction(0))
        if total:
            most = max(sorted(parts), key=lambda name: parts[name])
            found.setdefault(most, []).append(deal.price_per_hour * LEVEL * total.denominator // total.numerator)
    return {name: tuple(sorted(values)) for name, values in found.items()}


def _listed(deal: Deal, scale: LinearScale) -> dict[str, Fraction]:
    """What the list would have asked."""
    parts = {
        "cpu": Fraction(deal.cpu_milli * scale.per_cpu, 1_000),
        "memory": Fraction(deal.memory_bytes * scale.per_memory_gib, GIB),
        "storage ephemeral": Fraction(deal.storage_bytes * scale.per_storage_gib.get(EPHEMERAL, 0), GIB),
    }
    for name, units in deal.gpus:
        model, *more = name.split()
        ram = next((one for one in more if one.endswith("i")), "")
        interface = next((one for one in more if one != ram), "")
        rate = scale.gpu_rate(GpuModel(vendor="nvidia", model=model, ram=ram, interface=interface))
        parts[f"gpu {model}"] = parts.get(f"gpu {model}", Fraction(0)) + units * rate
    return parts


def percentile(values: Sequence[int], percent: int) -> int:
    """The least of `values`, which rise, that `percent` of them do not exceed."""
    return values[max(0, -(-len(values) * percent // 100) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketFollowing:
    """See the module."""

    scale: LinearScale
    """The list."""
    history: PriceHistory
    percent: int = 50
    """1..100."""
    least: int = 20
    """So many leases must speak for a resource."""

    def quote(self, units: tuple[ResourceUnit, ...], situation: Situation = NO_SITUATION) -> Quote:
        seen = self.history.levels()
        quote = self.scale.quote(units, situation)
        parts: list[tuple[str, Fraction]] = []
        notes: list[str] = []
        for name, amount in quote.parts:
            found = seen.get(_speaks_for(name), ())
            if len(found) < self.least:
                notes.append(f"{name}: {len(found)} leases known, {self.least} needed: the list's price")
                parts.append((name, amount))
                continue
            level = percentile(found, self.percent)
            of_list = f"{level * 1_000 // LEVEL} permille of the list"
            notes.append(f"{name}: {self.percent} % of {len(found)} leases cost at most {of_list}")
            parts.append((name, amount * level / LEVEL))
        return made_of(parts, minimum=self.scale.minimum, notes=tuple(notes))


def _speaks_for(name: str) -> str:
    """Leases do not tell classes of storage apart."""
    if name == "storage ram":
        return "memory"
    return "storage ephemeral" if name.startswith("storage ") else name


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedHistory:
    """A history that is known beforehand; the empty one where a node keeps no market database."""

    seen: Mapping[str, tuple[int, ...]]

    def levels(self) -> Mapping[str, tuple[int, ...]]:
        return self.seen
