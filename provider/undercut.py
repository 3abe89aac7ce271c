"""Bidding lower than competitors while an order is open, in steps, and never below cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fondaco.protocol import limits, matching
from fondaco.protocol.market import Bid
from fondaco.protocol.resources import Group, ResourceUnit
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Undercut:
    """The rule of one provider."""

    permille: int
    """So much below a competitor's price its own is made; 1 or more."""
    times: int
    """At most, for one group of an order."""
    floor: Callable[[tuple[ResourceUnit, ...]], MicroCredits]
    """The least it would ask for these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A bid of ours that stands."""

    bid: Bid
    group: Group
    """What was asked."""
    tenant: PublicKey
    order_expires_at: Millis
    min_window_ms: Millis
    """The shortest notice that the tenant accepts."""


def serious(rival: Bid, standing: Standing, *, now: Millis) -> bool:
    """Whether the tenant could take it: what it could not is no competition, and must not talk a price down."""
    return (
        rival.expires_at > now
        and rival.provider not in (standing.bid.provider, standing.tenant)
        and rival.price_per_hour <= standing.group.max_price_per_hour
        and rival.reclamation_window_ms >= standing.min_window_ms
        and not matching.check_bid_units(standing.group.units, rival.units)
    )


def lower(rule: Undercut, standing: Standing, rival: Bid, *, now: Millis) -> MicroCredits | None:
    """The price to bid instead; None where ours is the lower one, or cannot become it."""
    own = standing.bid
    if rival.price_per_hour > own.price_per_hour or own.serial >= min(rule.times, limits.BID_SERIALS - 1):
        return None
    if not serious(rival, standing, now=now):
        return None
    wanted = min(
        rival.price_per_hour * (1_000 - rule.permille) // 1_000,
        own.price_per_hour * 99 // 100,  # or it would be no improvement to anybody's book
    )
    price = max(wanted, rule.floor(own.units), 1)
    if price >= rival.price_per_hour or price * 100 > own.price_per_hour * 99:
        return None
    return MicroCredits(price)
