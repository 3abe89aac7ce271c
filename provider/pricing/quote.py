"""What every strategy is asked and answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from fondaco.protocol.resources import ResourceUnit
from fondaco.protocol.scalars import MicroCredits

EPHEMERAL = ""
"""The storage class of volumes that have none."""
Parts = tuple[tuple[str, Fraction], ...]
"""(what, micro-credits an hour): `cpu`, `memory`, `storage beta2`, `gpu h100`, `endpoints`, `ip`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A price for a whole group, and what it is made of."""

    price_per_hour: MicroCredits
    parts: Parts
    """Before rounding."""
    notes: tuple[str, ...] = ()
    """How the strategy came to it, for the operator."""
    itemised: bool = True
    """Whether the parts are resources; else there is one for all."""

    @property
    def sum(self) -> Fraction:
        """Of the parts."""
        return sum((amount for _, amount in self.parts), Fraction(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a price may depend on besides the resources."""

    used_permille: Mapping[str, int] = field(default_factory=dict)
    """Of all there is, by the name of a price's part, and with what is being priced; not of what has no limit."""
    said: Fraction | None = None
    """What the operator's own program answered, in micro-credits an hour, where there is one."""


NO_SITUATION = Situation()


class Pricing(Protocol):
    """A pricing strategy."""

    def quote(self, units: tuple[ResourceUnit, ...], situation: Situation = NO_SITUATION) -> Quote:
        """Price resources as reserved: GPU attributes name the model that would be leased.

        Raises `Refused` with `pricing.unpriced` where the strategy has no price for something.
        """
        ...


def made_of(parts: Iterable[tuple[str, Fraction]], *, minimum: int = 1, notes: tuple[str, ...] = ()) -> Quote:
    """A quote of these parts, rounded up; at least `minimum` and 1, since a price is always positive."""
    parts = tuple(parts)
    price = max(minimum, 1, math.ceil(sum((amount for _, amount in parts), Fraction(0))))
    return Quote(price_per_hour=MicroCredits(price), parts=parts, notes=notes)
