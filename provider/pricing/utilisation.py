"""Dearer as less is left: a factor on another strategy's price, by how much of each resource is in use."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

from fondaco.protocol.errors import Refused
from fondaco.protocol.resources import ResourceUnit
from fondaco.provider.pricing.quote import NO_SITUATION, Pricing, Quote, Situation, made_of

PERMILLE = 1_000
POINTS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilisationCurve:
    """The price of each resource follows its own utilisation, with what is being priced counted as used."""

    base: Pricing
    points: tuple[tuple[int, int], ...]
    """(thousandths in use, thousandths of the base's price), utilisation rising; straight lines between, level
    before the first and after the last."""

    def __post_init__(self) -> None:
        used = [point[0] for point in self.points]
        if not 1 <= len(used) <= POINTS or used != sorted(set(used)) or not 0 <= used[0] <= used[-1] <= PERMILLE:
            raise Refused(
                "pricing.curve", f"a utilisation curve has 1..{POINTS} points, rising from 0 to {PERMILLE} at most"
            )
        if any(price < 0 for _, price in self.points):
            raise Refused("pricing.curve", "a utilisation curve has no price below 0")

    def factor(self, used_permille: int) -> Fraction:
        """What a price is multiplied with."""
        place = bisect_right(self.points, used_permille, key=lambda point: point[0])
        if place == 0:
            return Fraction(self.points[0][1], PERMILLE)
        left, low = self.points[place - 1]
        if place == len(self.points):
            return Fraction(low, PERMILLE)
        right, high = self.points[place]
        return Fraction(low * (right - used_permille) + high * (used_permille - left), PERMILLE * (right - left))

    def quote(self, units: tuple[ResourceUnit, ...], situation: Situation = NO_SITUATION) -> Quote:
        base = self.base.quote(units, situation)
        factors = {name: self.factor(used) for name, used in situation.used_permille.items()}
        # What does not run out, addresses say, follows what is scarcest.
        scarcest = self.factor(max(situation.used_permille.values(), default=0))
        parts = tuple((name, amount * factors.get(name, scarcest)) for name, amount in base.parts)
        notes = tuple(
            f"{name}: {situation.used_permille[name]} permille in use, price at {int(factors[name] * PERMILLE)}"
            for name, _ in base.parts
            if name in factors
        )
        # A minimum of the base stays one.
        return made_of(parts, minimum=_minimum(base), notes=base.notes + notes)


def _minimum(base: Quote) -> int:
    """The least the base would ask, where it asked more than its parts come to."""
    return base.price_per_hour if base.price_per_hour >= base.sum + 1 else 1
