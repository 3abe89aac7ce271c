"""What providers offer, in rows that a query looks at: one for the processors of each, one for each model of GPU.

What a row costs is its provider's list price for what is looked for; only a bid binds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from fondaco.protocol.offers import Offer, Offered, OfferLine
from fondaco.protocol.query import Query, compiled
from fondaco.protocol.query.evaluate import Known
from fondaco.protocol.query.fields import Kind, read_amount
from fondaco.protocol.resources import Totals
from fondaco.protocol.scalars import MicroCredits, PublicKey
from fondaco.protocol.selection.facts import ProviderFacts

GIB = 1 << 30
_UNIT = {Offered.CPU_MILLI: 1_000, Offered.MEMORY_BYTES: GIB, Offered.STORAGE_BYTES: GIB, Offered.GPU_UNITS: 1}
"""What a list price is for."""
NOTHING = Totals(cpu_milli=0, memory_bytes=0, storage_bytes=0, gpu_units=0)
ONE_CPU, ONE_GPU = replace(NOTHING, cpu_milli=1_000), replace(NOTHING, gpu_units=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """One row: what of it is free, and what it would cost."""

    provider: PublicKey
    gpu: str
    """As offered, `h100 80Gi sxm`; empty for a row about processors."""
    free: Totals
    price_per_hour: MicroCredits | None
    """Of what is looked for; None where some part of that has no list price."""
    facts: ProviderFacts

    def get(self, field: str, /) -> Known | None:
        """As a query sees it."""
        own = _OWN.get(field)
        return self.facts.known(self.provider, field) if own is None else own(self)

    def fits(self, wanted: Totals) -> bool:
        return (
            self.free.cpu_milli >= wanted.cpu_milli
            and self.free.memory_bytes >= wanted.memory_bytes
            and self.free.storage_bytes >= wanted.storage_bytes
            and self.free.gpu_units >= wanted.gpu_units
        )


def _ram(one: Stock) -> Known | None:
    return next((ram for part in one.gpu.split()[1:] if (ram := read_amount(Kind.BYTES, part)) is not None), None)


def _interface(one: Stock) -> Known | None:
    return next((part for part in one.gpu.split()[1:] if read_amount(Kind.BYTES, part) is None), None)


_OWN: Mapping[str, Callable[[Stock], Known | None]] = {
    "price": lambda one: one.price_per_hour,
    "cpu": lambda one: one.free.cpu_milli,
    "memory": lambda one: one.free.memory_bytes,
    "storage": lambda one: one.free.storage_bytes,
    "gpu.units": lambda one: one.free.gpu_units,
    "gpu.model": lambda one: one.gpu.split()[:1],
    "gpu.vendor": lambda one: None,  # an offer does not say
    "gpu.ram": _ram,
    "gpu.interface": _interface,
}


def rows(offer: Offer, facts: ProviderFacts, wanted: Totals = NOTHING) -> Iterator[Stock]:
    """What one provider offers. `wanted`: what is looked for; nothing: one processor, or one GPU of each model.

    Rows that have less free than what is wanted are left out.
    """
    common = {kind: sum(line.free for line in offer.lines if line.resource is kind) for kind in Offered}
    gpus = {line.model: line for line in offer.lines if line.resource is Offered.GPU_UNITS}
    for gpu, line in {"": None, **gpus}.items():
        looked_for = wanted if wanted != NOTHING else ONE_CPU if line is None else ONE_GPU
        one = Stock(
            provider=offer.provider,
            gpu=gpu,
            free=Totals(
                cpu_milli=common[Offered.CPU_MILLI],
                memory_bytes=common[Offered.MEMORY_BYTES],
                storage_bytes=common[Offered.STORAGE_BYTES],
                gpu_units=0 if line is None else line.free,
            ),
            price_per_hour=_cost(offer.lines, line, looked_for),
            facts=facts,
        )
        if one.fits(wanted) and not (line is not None and wanted != NOTHING and not wanted.gpu_units):
            yield one


def _cost(lines: Iterable[OfferLine], gpu: OfferLine | None, wanted: Totals) -> MicroCredits | None:
    """The parts' list prices together, each rounded up; storage of the cheapest class that has enough."""
    found = 0
    for kind, amount in (
        (Offered.CPU_MILLI, wanted.cpu_milli),
        (Offered.MEMORY_BYTES, wanted.memory_bytes),
        (Offered.STORAGE_BYTES, wanted.storage_bytes),
        (Offered.GPU_UNITS, wanted.gpu_units),
    ):
        if not amount:
            continue
        own = [line for line in lines if line.resource is kind and line.free >= amount]
        own = [line for line in own if kind is not Offered.GPU_UNITS or line is gpu]
        prices = [line.price_per_hour for line in own if line.price_per_hour is not None]
        if not prices:
            return None
        found += -(-min(prices) * amount // _UNIT[kind])
    return MicroCredits(found)


def look(stocks: Iterable[Stock], query: Query | None, *, by: str, descending: bool = False) -> list[Stock]:
    """The rows that a query is known to hold of, by the field `by`; where that is not known they come last."""
    holds = None if query is None else compiled(query)
    found = [one for one in stocks if holds is None or holds(one)]
    known = [(value, one) for one in found if (value := one.get(by)) is not None and not _empty(value)]
    unknown = [one for one in found if (value := one.get(by)) is None or _empty(value)]
    known.sort(key=lambda pair: (_sortable(pair[0]), pair[1].provider, pair[1].gpu), reverse=descending)
    return [*(one for _, one in known), *sorted(unknown, key=lambda one: (one.provider, one.gpu))]


def _empty(value: Known) -> bool:
    return not isinstance(value, str | int | Fraction) and not value


def _sortable(value: Known) -> tuple[Fraction, str]:
    if isinstance(value, int | Fraction):
        return Fraction(value), ""
    return Fraction(0), value if isinstance(value, str) else ",".join(map(str, sorted(value)))
