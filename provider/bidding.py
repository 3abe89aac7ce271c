"""Whether to bid on a group, and at what price: a pure decision.

Eligibility, policy and room, then price on the resources as they would be reserved.  A "no" carries every reason
that was found, with its numbers; tenants elsewhere complain that silence and "broken" look alike.  Only a price is
not looked for where there would be no bid anyway.  The caller reserves `BidPlan.allocation` and signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import Reason
from fondaco.protocol.resources import Group, ResourceUnit
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey
from fondaco.protocol.selection import show_credits
from fondaco.provider.capacity import Allocation
from fondaco.provider.eligibility import Profile, reasons_against
from fondaco.provider.inventory import Inventory
from fondaco.provider.policy import EVERYBODY, Policy
from fondaco.provider.pricing import Pricing, Quote, Situation

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
    policy: Policy = EVERYBODY
    deposit: MicroCredits | None = None
    """What the order puts in escrow; None where the escrow of a running deployment pays."""
    max_rate: int = 0
    """The highest prices of all its groups together; 0: it has only this one."""
    reserved: bool = False
    """Whether the inventory holds a reservation for it already."""


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
    final: bool = False
    """No other order of this tenant would do any better."""
    dear: Quote | None = None
    """The price, where that alone is too high."""


def consider(group: Group, context: MarketContext) -> BidPlan | DeclinePlan:
    """Decide on one group of an order."""
    draft = prepare(group, context)
    return draft if isinstance(draft, DeclinePlan) else conclude(group, context, draft)


def prepare(group: Group, context: MarketContext) -> Allocation | DeclinePlan:
    """Where the group would run; or everything that speaks against it, but for the price."""
    final = _final(context)
    if final is not None:
        return DeclinePlan(reasons=(final,), final=True)
    reasons = list(reasons_against(group, context.profile))
    reasons += context.policy.against_group(group)
    reasons += context.policy.against_deposit(context.deposit, context.max_rate or group.max_price_per_hour)
    if context.reclamation_window_ms > context.offered_reclamation_ms:
        asked, offered = context.reclamation_window_ms, context.offered_reclamation_ms
        reasons.append(Reason(dimension="reclamation window", asked=f">= {asked} ms", available=f"{offered} ms"))
    allocation = context.inventory.plan(group.units, context.tenant)
    if not isinstance(allocation, Allocation):
        reasons += allocation
    elif not reasons:
        return allocation
    return _decline(reasons)


def conclude(
    group: Group, context: MarketContext, allocation: Allocation, said: Fraction | None = None
) -> BidPlan | DeclinePlan:
    """The price of what `prepare` placed, with what the operator's program `said` where there is one."""
    # Reserved by now or not: `allocation` counts once.
    more = None if context.reserved else allocation
    situation = Situation(used_permille=context.inventory.utilisation(more), said=said)
    try:
        quote = context.pricing.quote(allocation.units, situation)
    except Refused as error:
        return _decline([Reason(dimension="price", asked=error.message, available="no price")])
    if quote.price_per_hour > group.max_price_per_hour:
        reason = Reason(
            dimension="price",
            asked=f"<= {show_credits(group.max_price_per_hour)}/h",
            available=f"floor {show_credits(quote.price_per_hour)}/h",
        )
        return DeclinePlan(reasons=(reason,), dear=quote)
    return BidPlan(
        price_per_hour=quote.price_per_hour,
        units=allocation.units,
        allocation=allocation,
        quote=quote,
        reclamation_window_ms=context.offered_reclamation_ms,
        expires_at=Millis(min(context.now + context.bid_life_ms, context.order_expires_at)),
    )


def _final(context: MarketContext) -> Reason | None:
    """What no change of the order would help against."""
    if context.order_expires_at <= context.now:
        ago = context.now - context.order_expires_at
        return Reason(dimension="order", asked="a bid", available=f"it expired {ago} ms ago")
    if context.retiring:
        return Reason(dimension="retiring", asked="a new lease", available="none: the provider retires")
    if context.tenant == context.provider:
        return Reason(dimension="tenant", asked="a bid from oneself", available="others only")
    return context.policy.against_tenant(context.tenant)


def _decline(reasons: list[Reason]) -> DeclinePlan:
    assert reasons, "a decline without a reason"
    return DeclinePlan(reasons=tuple(dict.fromkeys(reasons))[: limits.DECLINE_REASONS])
