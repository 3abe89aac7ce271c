"""Whom a provider serves and with how much, as its operator declares it.

The policy is public: offers carry its gist, and every decline for its sake says which rule failed and by how much.
What runs in a lease is hidden until the lease exists, so nothing here can depend on images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fondaco.protocol import addresses
from fondaco.protocol.market import Reason
from fondaco.protocol.resources import Group, totals
from fondaco.protocol.scalars import MicroCredits, PublicKey
from fondaco.protocol.selection import show_credits

HOUR_MS = 3_600_000
REGION = "region"
"""The placement attribute that names one."""
AMOUNTS = ("cpu_milli", "memory_bytes", "gpu_units", "storage_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The default serves everybody with anything."""

    allow: frozenset[PublicKey] = frozenset()
    """Tenants served; empty: all."""
    deny: frozenset[PublicKey] = frozenset()
    """Tenants not served; it goes before `allow`."""
    least: tuple[tuple[str, int], ...] = ()
    """(one of `AMOUNTS`, the least a group must ask for over all its replicas)."""
    most: tuple[tuple[str, int], ...] = ()
    """Likewise the most."""
    regions: frozenset[str] = frozenset()
    """An order that names a region must name one of these; empty: any."""
    min_deposit: int = 0
    """Ucredit that the order must be ready to put in escrow."""
    min_runway_ms: int = 0
    """So long its deposit must last at the highest price it would pay."""

    def against_tenant(self, tenant: PublicKey) -> Reason | None:
        """Why this tenant is not served at all."""
        if tenant in self.deny:
            available = "not this one"
        elif self.allow and tenant not in self.allow:
            available = f"only the {len(self.allow)} that it names"
        else:
            return None
        return Reason(dimension="tenant", asked=addresses.encode(tenant), available=available)

    def against_group(self, group: Group) -> Iterator[Reason]:
        """Every rule that what a group asks for fails."""
        if self.least or self.most:
            asked = totals(group.units)
            for name, bound in self.least:
                amount = getattr(asked, name)
                if amount < bound:
                    yield Reason(dimension=f"policy {name}", asked=str(amount), available=f">= {bound}")
            for name, bound in self.most:
                amount = getattr(asked, name)
                if amount > bound:
                    yield Reason(dimension=f"policy {name}", asked=str(amount), available=f"<= {bound}")
        if self.regions:
            for one in group.placement.attributes:
                if one.key == REGION and one.value not in self.regions:
                    yield Reason(
                        dimension="policy region", asked=one.value, available=" ".join(sorted(self.regions))
                    )

    def against_deposit(self, deposit: MicroCredits | None, max_rate: int) -> Iterator[Reason]:
        """Every rule that the order's money fails; None where the escrow of what runs already pays."""
        if deposit is None:
            return
        if deposit < self.min_deposit:
            yield Reason(
                dimension="policy deposit",
                asked=show_credits(deposit),
                available=f">= {show_credits(self.min_deposit)}",
            )
        if self.min_runway_ms and max_rate:
            runway_ms = deposit * HOUR_MS // max_rate
            if runway_ms < self.min_runway_ms:
                yield Reason(
                    dimension="policy runway", asked=f"{runway_ms} ms", available=f">= {self.min_runway_ms} ms"
                )

    def summary(self) -> tuple[tuple[str, str], ...]:
        """(rule, value) of each that is set, sorted; whom it names stays its own affair, how many does not."""
        rules = [(f"least/{name}", str(bound)) for name, bound in self.least]
        rules += [(f"most/{name}", str(bound)) for name, bound in self.most]
        rules += [("regions", " ".join(sorted(self.regions)))] if self.regions else []
        rules += [("min_deposit", str(self.min_deposit))] if self.min_deposit else []
        rules += [("min_runway_ms", str(self.min_runway_ms))] if self.min_runway_ms else []
        rules += [("tenants", "named only")] if self.allow else []
        return tuple(sorted(rules))


EVERYBODY = Policy()
