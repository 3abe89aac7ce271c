"""A bid as a strategy sees it, whether it just came or was recorded long ago."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fondaco.protocol import matching
from fondaco.protocol.market import SignedBid
from fondaco.protocol.query.evaluate import Known
from fondaco.protocol.query.fields import Kind, read_amount
from fondaco.protocol.resources import ResourceUnit, Totals, totals
from fondaco.protocol.scalars import ChainId, Hash, MicroCredits, Millis, PublicKey
from fondaco.protocol.selection.facts import ProviderFacts
from fondaco.protocol.signing import message_id

MICRO = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What a bid comes to, over all replicas."""

    totals: Totals
    models: tuple[matching.GpuModel, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A bid and the hash of its signed bytes."""

    id: Hash
    provider: PublicKey
    price_per_hour: MicroCredits
    serial: int
    reclamation_window_ms: Millis
    expires_at: Millis
    offered: Offered
    units: tuple[ResourceUnit, ...] | None = None
    """What is offered, one by one; None for a bid that is only remembered, which is taken to be good enough."""
    signed: SignedBid | None = None
    """None for one that is only remembered: it can be ranked and not taken."""

    def subject(self, facts: ProviderFacts, now: Millis) -> BidSubject:
        """As a query sees it, with what is known of its provider."""
        return BidSubject(self, facts, now)


@dataclass(frozen=True, slots=True)
class BidSubject:
    """Looks up what a query asks for, and nothing else: a market decided again asks of millions of bids."""

    bid: Candidate
    facts: ProviderFacts
    now: Millis

    def get(self, field: str, /) -> Known | None:
        own = _OWN.get(field)
        return self.facts.known(self.bid.provider, field) if own is None else own(self)

    @property
    def totals(self) -> Totals:
        return self.bid.offered.totals

    def models(self, part: str) -> tuple[str, ...]:
        """A part of each model of GPU offered, where it is named."""
        found: list[str] = [getattr(model, part) for model in self.bid.offered.models]
        return tuple(dict.fromkeys(one for one in found if one))


_OWN: Mapping[str, Callable[[BidSubject], Known]] = {
    "price": lambda one: one.bid.price_per_hour,
    "notice": lambda one: one.bid.reclamation_window_ms,
    "expires": lambda one: one.bid.expires_at - one.now,
    "cpu": lambda one: one.totals.cpu_milli,
    "memory": lambda one: one.totals.memory_bytes,
    "storage": lambda one: one.totals.storage_bytes,
    "gpu.units": lambda one: one.totals.gpu_units,
    "gpu.model": lambda one: one.models("model"),
    "gpu.vendor": lambda one: one.models("vendor"),
    "gpu.interface": lambda one: one.models("interface"),
    "gpu.ram": lambda one: [
        ram for name in one.models("ram") if (ram := read_amount(Kind.BYTES, name)) is not None
    ],
}


def candidate(chain: ChainId, signed: SignedBid) -> Candidate:
    bid = signed.bid
    return Candidate(
        id=message_id(chain, bid),
        provider=bid.provider,
        price_per_hour=bid.price_per_hour,
        serial=bid.serial,
        reclamation_window_ms=bid.reclamation_window_ms,
        expires_at=bid.expires_at,
        offered=Offered(
            totals=totals(bid.units),
            models=tuple(
                model for unit in bid.units for model in matching.gpu_models(unit.resources.gpu_attributes)
            ),
        ),
        units=bid.units,
        signed=signed,
    )


def show_credits(amount: int) -> str:
    """Micro-credits as credits: at least two decimals, no more than needed."""
    whole, fraction = divmod(amount, MICRO)
    digits = f"{fraction:06d}"
    return f"{whole}.{digits[:2]}{digits[2:].rstrip('0')}"
