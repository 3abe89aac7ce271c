"""What a provider asks: strategies that turn reserved resources into micro-credits an hour.

    LinearScale          so much for each unit of each resource
    MarketFollowing      that, moved to where leases of late were, resource by resource
    UtilisationCurve     any of them, dearer as less is left
    Program              a program of the operator's own says it
    Bounded              any of them, within the operator's limits: never below cost

Integers and exact fractions only; one rounding, upwards, at the very end. A GPU without a price is refused, not
given away.
"""

from fondaco.provider.pricing.bounded import Bounded
from fondaco.provider.pricing.linear import LinearScale
from fondaco.provider.pricing.market import MarketFollowing
from fondaco.provider.pricing.program import Program
from fondaco.provider.pricing.quote import EPHEMERAL, NO_SITUATION, Pricing, Quote, Situation
from fondaco.provider.pricing.utilisation import UtilisationCurve

__all__ = [
    "EPHEMERAL",
    "NO_SITUATION",
    "Bounded",
    "LinearScale",
    "MarketFollowing",
    "Pricing",
    "Program",
    "Quote",
    "Situation",
    "UtilisationCurve",
]
