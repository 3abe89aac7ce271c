"""The benchmark of a provider's decisions decides, and leaves the books as they were."""

from __future__ import annotations

import random

from fondaco.node.bench import provider
from fondaco.provider.bidding import BidPlan


def test_it_meets_orders_of_every_kind() -> None:
    found = provider.measure(60)
    assert found.parameters["reservations"] == provider.RESERVATIONS
    assert 0 < found.parameters["bids"] < 60
    assert found.figures["decision_p50_us"].value <= found.figures["decision_p99_us"].value


def test_a_bid_holds_its_reservation_and_a_decline_holds_none() -> None:
    chance = random.Random(1)
    context = provider._context(chance)
    before = len(context.inventory.reservations)
    bids = 0
    for number in range(20):
        bids += isinstance(provider._decide(provider._group(chance), context, number), BidPlan)
    assert len(context.inventory.reservations) == before + bids
