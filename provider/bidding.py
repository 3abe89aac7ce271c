"""Whether to bid on a group, and at what price: a pure decision.

Eligibility, then room, then price on the resources as they would be reserved.  A "no" carries every reason that
was found at the first of these that failed, with its numbers; tenants elsewhere complain that silence and
"broken" look alike.  The caller reserves `BidPlan.allocation` and signs.
"""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import Reason
from fondaco.protocol.resources import Group, ResourceUnit
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey
from fondaco.protocol.selection import show_credits
from fondaco.provider.capacity import Allocation
from fondaco.provider.eligibility import Profile, reasons_against
from fondaco.provider.inventory import Inventory
from fondaco.provider.pricing import Pricing, Quote

NO_WINDOW = Millis(0)
BID_LIFE = Millis(limits.BID_LIFE_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketContext:
    """What the decision is made from."""

    provider: PublicKey
    tenant: PublicKey
    now: Millis
    """Block time."""
    order_expires_at: Millis
    profile: Profile
    pricing: Pricing
    inventory: Inventory
    """Only looked at."""
    reclamation_window_ms: Millis = NO_WINDOW
    """What the order asks for."""
    offered_reclamation_ms: Millis = NO_WINDOW
    """What this provider grants."""
    bid_life_ms: Millis = BID_LIFE
    retiring: bool = False
    """The ledger gives this provider no new leases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BidPlan:
    """What to bid, and what to reserve for it."""

    price_per_hour: MicroCredits
    units: tuple[ResourceUnit, ...]
    """Offered: as asked, with GPU attributes narrowed to the model reserved."""
    allocation: Allocation
    quote: Quote
    reclamation_window_ms: Millis
    expires_at: Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclinePlan:
    reasons: tuple[Reason, ...]
    """At least one, at most what a decline may carry."""


def consider(group: Group, context: MarketContext) -> BidPlan | DeclinePlan:
    """Decide on one group of an order."""
    reasons = _against(group, context)
    if reasons:
        return _decline(reasons)
    allocation = context.inventory.plan(group.units, context.tenant)
    if not isinstance(allocation, Allocation):
        return _decline(allocation)
    try:
        quote = context.pricing.quote(allocation.units)
    except Refused as error:
        return _decline((Reason(dimension="price", asked=error.message, available="no price"),))
    if quote.price_per_hour > group.max_price_per_hour:
        reason = Reason(
            dimension="price",
            asked=f"<= {show_credits(group.max_price_per_hour)}/h",
            available=f"floor {show_credits(quote.price_per_hour)}/h",
        )
        return _decline((reason,))
    return BidPlan(
        price_per_hour=quote.price_per_hour,
        units=allocation.units,
        allocation=allocation,
        quote=quote,
        reclamation_window_ms=context.offered_reclamation_ms,
        expires_at=Millis(min(context.now + context.bid_life_ms, context.order_expires_at)),
    )


def _against(group: Group, context: MarketContext) -> tuple[Reason, ...]:
    if context.order_expires_at <= context.now:
        ago = context.now - context.order_expires_at
        return (Reason(dimension="order", asked="a bid", available=f"it expired {ago} ms ago"),)
    if context.retiring:
        return (Reason(dimension="retiring", asked="a new lease", available="none: the provider retires"),)
    if context.tenant == context.provider:
        return (Reason(dimension="tenant", asked="a bid from oneself", available="others only"),)
    reasons = reasons_against(group, context.profile)
    if context.reclamation_window_ms > context.offered_reclamation_ms:
        asked, offered = context.reclamation_window_ms, context.offered_reclamation_ms
        reasons += (Reason(dimension="reclamation window", asked=f">= {asked} ms", available=f"{offered} ms"),)
    return reasons


def _decline(reasons: tuple[Reason, ...]) -> DeclinePlan:
    assert reasons, "a decline without a reason"
    return DeclinePlan(reasons=reasons[: limits.DECLINE_REASONS])
