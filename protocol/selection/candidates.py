"""A bid as a strategy sees it, whether it just came or was recorded long ago."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from fondaco.protocol import matching
from fondaco.protocol.market import SignedBid
from fondaco.protocol.query import Subject
from fondaco.protocol.query.evaluate import Known
from fondaco.protocol.query.fields import Kind, read_amount
from fondaco.protocol.resources import ResourceUnit
from fondaco.protocol.scalars import ChainId, Hash, MicroCredits, Millis, PublicKey
from fondaco.protocol.selection.facts import ProviderFacts
from fondaco.protocol.signing import message_id

MICRO = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A bid and the hash of its signed bytes."""

    id: Hash
    provider: PublicKey
    price_per_hour: MicroCredits
    serial: int
    reclamation_window_ms: Millis
    expires_at: Millis
    units: tuple[ResourceUnit, ...]
    """What is offered."""
    signed: SignedBid | None = None
    """None for one that is only remembered: it can be ranked and not taken."""

    def subject(self, facts: ProviderFacts, now: Millis) -> Subject:
        """As a query sees it, with what is known of its provider."""
        models = [
            (model, unit.count * unit.resources.gpu_units)
            for unit in self.units
            for model in matching.gpu_models(unit.resources.gpu_attributes)
        ]
        rams = [read_amount(Kind.BYTES, model.ram) for model, _ in models if model.ram]
        offered: dict[str, Known | None] = {
            "price": Fraction(self.price_per_hour, MICRO),
            "notice": self.reclamation_window_ms,
            "expires": self.expires_at - now,
            "cpu": Fraction(_sum((u.count, u.resources.cpu_milli) for u in self.units), 1_000),
            "memory": _sum((u.count, u.resources.memory_bytes) for u in self.units),
            "storage": _sum((u.count, sum(v.size_bytes for v in u.resources.volumes)) for u in self.units),
            "gpu.units": _sum((u.count, u.resources.gpu_units) for u in self.units),
            "gpu.model": _distinct(model.model for model, _ in models),
            "gpu.vendor": _distinct(model.vendor for model, _ in models),
            "gpu.interface": _distinct(model.interface for model, _ in models if model.interface),
            "gpu.ram": [ram for ram in rams if ram is not None],
        }
        return {**facts.subject(self.provider), **offered}


def candidate(chain: ChainId, signed: SignedBid) -> Candidate:
    bid = signed.bid
    return Candidate(
        id=message_id(chain, bid),
        provider=bid.provider,
        price_per_hour=bid.price_per_hour,
        serial=bid.serial,
        reclamation_window_ms=bid.reclamation_window_ms,
        expires_at=bid.expires_at,
        units=bid.units,
        signed=signed,
    )


def _sum(pairs: Iterable[tuple[int, int]]) -> int:
    return sum(count * amount for count, amount in pairs)


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def show_credits(amount: int) -> str:
    """Micro-credits as credits: at least two decimals, no more than needed."""
    whole, fraction = divmod(amount, MICRO)
    digits = f"{fraction:06d}"
    return f"{whole}.{digits[:2]}{digits[2:].rstrip('0')}"
