"""A program of the operator's own, by the contract that Akash's providers have with theirs.

It gets one JSON object on standard input:

    {"resources": [{"memory": bytes, "cpu": milli, "gpu": {"units": n, "attributes": {"vendor": {"nvidia":
     {"model": "h100", "ram": "80Gi", "interface": "sxm"}}}}, "storage": [{"class": "ephemeral", "size": bytes}],
     "count": replicas, "endpoint_quantity": n, "ip_lease_quantity": n}],
     "price": {"denom": "uact", "amount": "..."}, "price_precision": 18}

and prints a decimal: what the whole group shall cost in ucredit for each pricing period of 6 s, as prices in SDL
files are given, so programs written for Akash serve unchanged. `price` is the most the tenant pays, likewise.
Running it is an effect of the node's; here is what it is asked, and what its answer means.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from fondaco.protocol import matching
from fondaco.protocol.errors import Refused
from fondaco.protocol.resources import EndpointKind, ResourceUnit
from fondaco.provider.pricing.quote import NO_SITUATION, Quote, Situation, made_of

PERIODS_PER_HOUR = 600
PRECISION = 18
"""Decimals of `price`; an answer may have as many."""
ANSWER_BYTES = 256
PRICE_MOST = 10**15
"""Ucredit an hour that an answer may come to: a billion credits, which is a mistake."""
_DECIMAL = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,18}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The price that a program said; who runs it puts the answer into the situation."""

    def quote(self, units: tuple[ResourceUnit, ...], situation: Situation = NO_SITUATION) -> Quote:
        """Raises `Refused` `pricing.program` where it said none."""
        if situation.said is None:
            raise Refused("pricing.program", "the pricing program was not asked")
        return replace(made_of((("program", situation.said),)), itemised=False)


def question(units: tuple[ResourceUnit, ...], max_price_per_hour: int) -> bytes:
    """What the program reads."""
    amount = Fraction(max_price_per_hour, PERIODS_PER_HOUR)
    return json.dumps(
        {
            "resources": [_element(unit) for unit in units],
            "price": {"denom": "uact", "amount": _decimal(amount)},
            "price_precision": PRECISION,
        }
    ).encode()


def answer(printed: bytes) -> Fraction:
    """Micro-credits an hour, from what the program printed.

    Raises `Refused` `pricing.program` for what is no decimal, for 0, which in that contract says no, and for more
    than anything costs.
    """
    text = printed[: ANSWER_BYTES + 1].decode("ascii", "replace").strip()
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise Refused("pricing.program", f"the pricing program printed {text[:40]!r}, which is no decimal")
    whole, decimals = found[1], found[2] or ""
    price = Fraction(int(whole + decimals), 10 ** len(decimals)) * PERIODS_PER_HOUR
    if price == 0:
        raise Refused("pricing.program", "the pricing program wants no price")
    if price > PRICE_MOST:
        raise Refused("pricing.program", f"the pricing program wants {text}, more than anything costs")
    return price


def _element(unit: ResourceUnit) -> dict[str, Any]:
    resources = unit.resources
    kinds = [endpoint.kind for endpoint in resources.endpoints]
    vendors: dict[str, Any] = {}
    for model in matching.gpu_models(resources.gpu_attributes):
        known = {"model": model.model, "ram": model.ram, "interface": model.interface}
        vendors[model.vendor] = {name: value for name, value in known.items() if value}
    return {
        "memory": resources.memory_bytes,
        "cpu": resources.cpu_milli,
        "gpu": {"units": resources.gpu_units, "attributes": {"vendor": vendors} if vendors else {}},
        "storage": [
            {"class": matching.volume_class(volume) or "ephemeral", "size": volume.size_bytes}
            for volume in resources.volumes
        ],
        "count": unit.count,
        "endpoint_quantity": len(kinds),
        "ip_lease_quantity": kinds.count(EndpointKind.LEASED_IP),
    }


def _decimal(amount: Fraction) -> str:
    """With `PRECISION` decimals, the rest cut off."""
    whole, rest = divmod(amount.numerator * 10**PRECISION // amount.denominator, 10**PRECISION)
    return f"{whole}.{rest:0{PRECISION}d}"
