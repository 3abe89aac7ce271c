"""What a tenant knows of the providers that bid, besides what they bid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from fondaco.protocol import addresses
from fondaco.protocol.query import Subject
from fondaco.protocol.query.evaluate import Known
from fondaco.protocol.query.fields import ATTRIBUTE
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import Millis, PublicKey

REGION, NAME, TEE = "region", "organization", "tee"
"""Attributes of a provider that queries know by a name of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Round trips to one provider, measured."""

    p50: Millis
    p95: Millis
    p99: Millis
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFacts:
    """What is known of one provider; None is "not known"."""

    attributes: tuple[Attribute, ...] = ()
    """Its own word."""
    audited_by: frozenset[str] = frozenset()
    """Who attests some of that, by address and by the name the tenant knows them by."""
    attestations: int = 0
    latency: Latency | None = None
    uptime_permille: Mapping[int, int] = field(default_factory=dict)
    """Days looked back -> how much of them it was alive."""
    outages: int | None = None
    """Leases of it that ended by its fault."""
    leases: int | None = None
    retiring: bool | None = None

    @property
    def region(self) -> str | None:
        return self.attribute(REGION)

    def attribute(self, key: str) -> str | None:
        return next((one.value for one in self.attributes if one.key == key), None)

    def subject(self, provider: PublicKey) -> Subject:
        """As a query sees it."""
        names = [addresses.encode(provider)]
        if self.attribute(NAME) is not None:
            names.append(str(self.attribute(NAME)))
        known: dict[str, Known | None] = {
            "provider": names,
            "region": self.region,
            "audited": sorted(self.audited_by),
            "attestations": self.attestations,
            "leases": self.leases,
            "outages": self.outages,
            "tee": self.attribute(TEE),
            "retiring": self.retiring,
            **{f"uptime.{days}d": Fraction(permille, 1_000) for days, permille in self.uptime_permille.items()},
            **{ATTRIBUTE + one.key.lower(): one.value for one in self.attributes},
        }
        if self.latency is not None:
            known |= {
                "latency.p50": self.latency.p50,
                "latency.p95": self.latency.p95,
                "latency.p99": self.latency.p99,
            }
        return known


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """Of all providers, and of where this tenant's own replicas are."""

    providers: Mapping[PublicKey, ProviderFacts] = field(default_factory=dict)
    used: Mapping[PublicKey, int] = field(default_factory=dict)
    """Provider -> replicas of the same service that it runs already."""

    def of(self, provider: PublicKey) -> ProviderFacts:
        return self.providers.get(provider, _NOTHING)

    def used_in(self, region: str | None) -> int:
        """Replicas in this region already; of an unknown one, none are known."""
        if region is None:
            return 0
        return sum(count for provider, count in self.used.items() if self.of(provider).region == region)


_NOTHING = ProviderFacts()
NOTHING_KNOWN = Knowledge()
