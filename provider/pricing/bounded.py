"""An operator's own limits on whatever a strategy asks: never below cost, not above a ceiling, rounded up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from fondaco.protocol.resources import ResourceUnit
from fondaco.protocol.scalars import MicroCredits
from fondaco.provider.pricing.linear import LinearScale
from fondaco.provider.pricing.quote import NO_SITUATION, Pricing, Quote, Situation


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """`strategy` within limits; cost has the last word, also over the ceiling."""

    strategy: Pricing
    cost: LinearScale | None = None
    """What each resource costs the operator: the price of none falls below, whatever the others bring in."""
    ceiling: LinearScale | None = None
    """A list that the whole price is held against."""
    ceiling_percent: int = 100
    """Of that list."""
    step: int = 1
    """The price is rounded up to a multiple of it, after all else."""

    def quote(self, units: tuple[ResourceUnit, ...], situation: Situation = NO_SITUATION) -> Quote:
        quote = self.strategy.quote(units, situation)
        parts, notes = quote.parts, list(quote.notes)
        costs = None if self.cost is None else self.cost.quote(units)
        if costs is not None and quote.itemised:
            asked, cost = dict(parts), dict(costs.parts)
            low = [name for name, amount in cost.items() if asked.get(name, 0) < amount]
            notes += [f"{name}: raised to its cost" for name in low]
            parts = tuple((asked | {name: cost[name] for name in low}).items())
        total = sum((amount for _, amount in parts), Fraction(0))
        price = max(quote.price_per_hour, math.ceil(total))
        if self.ceiling is not None:
            most = math.ceil(self.ceiling.quote(units).sum * self.ceiling_percent / 100)
            if price > most:
                notes.append(f"{price} ucredit is above the ceiling of {most}")
                price = most
        least = 1 if costs is None else self._rounded(costs.price_per_hour)
        if price < least:
            notes.append(f"{price} ucredit is below the cost, which asks for {least}")
            price = least
        price = self._rounded(max(1, price))
        return Quote(price_per_hour=MicroCredits(price), parts=parts, notes=tuple(notes), itemised=quote.itemised)

    def floor(self, units: tuple[ResourceUnit, ...]) -> MicroCredits:
        """The least that may be asked; 1 where the operator names no cost."""
        return MicroCredits(1 if self.cost is None else self._rounded(self.cost.quote(units).price_per_hour))

    def _rounded(self, price: int) -> int:
        return -(-price // self.step) * self.step
