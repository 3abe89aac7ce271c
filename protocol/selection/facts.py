"""What a tenant knows of the providers that bid, besides what they bid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fondaco.protocol import addresses
from fondaco.protocol.query.evaluate import Known
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import PublicKey
from fondaco.protocol.selection.latency import Latency

REGION, NAME = "region", "organization"
"""Attributes of a provider that queries know by a name of their own; so is `tee`."""
LATENCY = "latency."
"""What the names of fields begin with that somebody must measure."""


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

    def known(self, provider: PublicKey, field: str) -> Known | None:
        """What a query sees of this provider under this name."""
        if field == REGION:  # what is asked for most
            return self.attribute(REGION)
        span, _, part = field.partition(".")
        match span:
            case "attribute":
                return next((one.value for one in self.attributes if one.key.lower() == part), None)
            case "latency":
                return None if self.latency is None else self.latency.percentile(part)
            case "uptime":
                return self.uptime_permille.get(int(part.removesuffix("d")))
            case "provider":
                name = self.attribute(NAME)
                return (addresses.encode(provider),) if name is None else (addresses.encode(provider), name)
            case "audited":
                return sorted(self.audited_by)
            case "tee":
                return self.attribute(span)
            case _:
                found: int | bool | None = getattr(self, span)
                return found


@dataclass(frozen=True, slots=True)
class ProviderSubject:
    """A provider as a query sees it."""

    key: PublicKey
    facts: ProviderFacts

    def get(self, field: str, /) -> Known | None:
        return self.facts.known(self.key, field)


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
