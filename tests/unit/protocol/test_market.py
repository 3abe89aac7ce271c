"""What an order, a bid and a decline must be by themselves, before any ledger is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support.workloads import group, unit

from fondaco.protocol import codec, limits
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.market import (
    Bid,
    Change,
    CounterOffer,
    Decline,
    Order,
    Reason,
    SignedBid,
    SignedDecline,
    SignedOrder,
    check_bid,
    check_decline,
    check_order,
    order_id,
)
from fondaco.protocol.scalars import ChainId, GroupIndex, Hash, MicroCredits, Millis, OrderId, Salt
from fondaco.protocol.signing import Signer

CHAIN = ChainId("test-0000000000000000")
TENANT, PROVIDER = Signer(bytes(32)), Signer(bytes([1]) * 32)
COMMITMENT = Hash(bytes(32))
ORDER = Order(
    tenant=TENANT.public_key,
    groups=(group(),),
    commitments=(COMMITMENT,),
    reclamation_window_ms=Millis(0),
    deposit=MicroCredits(1_000),
    reply_peers=(),
    expires_at=Millis(1),
    salt=Salt(bytes(16)),
)
BID = Bid(
    order=OrderId(bytes(32)),
    group=GroupIndex(0),
    provider=PROVIDER.public_key,
    price_per_hour=MicroCredits(5),
    units=(unit(),),
    reclamation_window_ms=Millis(0),
    peer="peer",
    addresses=("/ip4/127.0.0.1/tcp/1",),
    serial=0,
    expires_at=Millis(1),
)
DECLINE = Decline(
    order=OrderId(bytes(32)),
    group=GroupIndex(0),
    provider=PROVIDER.public_key,
    reasons=(Reason(dimension="cpu", asked="8", available="3"),),
    expires_at=Millis(1),
)

COUNTER = CounterOffer(change=Change.REPLICAS, unit=1, subject="", value=2, price_per_hour=MicroCredits(7))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "unit 1 with 2 replicas, at 7 ucredit/h"),
        ({"change": Change.PRICE}, "as asked, at 7 ucredit/h"),
        (
            {"change": Change.VOLUME, "subject": "data", "value": 3 << 20},
            "unit 1 with 3 MiB of data, at 7 ucredit/h",
        ),
        ({"change": Change.WINDOW, "value": 3_600_000}, "with 60 minutes of notice, at 7 ucredit/h"),
        ({"change": Change.WINDOW, "value": 0}, "without notice, at 7 ucredit/h"),
        (
            {"change": Change.GPU_MODEL, "subject": "vendor/nvidia/model/t4"},
            "unit 1 on vendor/nvidia/model/t4, at 7 ucredit/h",
        ),
    ],
)
def test_a_counter_offer_says_what_to_change_and_survives_the_wire(changes: dict[str, Any], told: str) -> None:
    offer = replace(COUNTER, **changes)
    assert str(offer) == told
    made = replace(DECLINE, counter_offers=(offer,))
    declined(counter_offers=(offer,))()
    assert codec.decode(codec.encode(made), Decline) == made


def ordered(**changes: Any) -> Callable[[], object]:
    order = replace(ORDER, **changes)
    return lambda: check_order(CHAIN, SignedOrder(order=order, signature=TENANT.sign(CHAIN, order)))


def bid(**changes: Any) -> Callable[[], object]:
    made = replace(BID, **changes)
    return lambda: check_bid(CHAIN, SignedBid(bid=made, signature=PROVIDER.sign(CHAIN, made)))


def declined(**changes: Any) -> Callable[[], object]:
    made = replace(DECLINE, **changes)
    return lambda: check_decline(CHAIN, SignedDecline(decline=made, signature=PROVIDER.sign(CHAIN, made)))


def test_what_is_right_passes_and_an_order_is_known_by_its_signed_bytes() -> None:
    assert ordered()() == order_id(CHAIN, ORDER)
    assert order_id(ChainId("other-0000000000000000"), ORDER) != order_id(CHAIN, ORDER)
    bid()()
    declined()()
    assert str(DECLINE.reasons[0]) == "cpu: asked 8, available 3"


@pytest.mark.parametrize(
    ("check", "code"),
    [
        (ordered(groups=(), commitments=()), "order.groups"),
        (ordered(groups=(group(),) * 2, commitments=(COMMITMENT,) * 2), "order.groups"),
        (ordered(commitments=()), "order.commitments"),
        (ordered(reply_peers=("peer",) * (limits.REPLY_PEERS + 1)), "order.reply_peers"),
        (ordered(tenant=PROVIDER.public_key), "signature.bad"),
        (bid(price_per_hour=0), "price.too_small"),
        (bid(units=()), "bid.units"),
        (bid(addresses=()), "bid.addresses"),
        (bid(provider=TENANT.public_key), "signature.bad"),
        (declined(reasons=()), "decline.reasons"),
        (declined(provider=TENANT.public_key), "signature.bad"),
        (declined(counter_offers=(COUNTER,) * (limits.DECLINE_COUNTER_OFFERS + 1)), "decline.counter_offers"),
        (declined(counter_offers=(replace(COUNTER, price_per_hour=MicroCredits(0)),)), "price.too_small"),
    ],
)
def test_what_is_wrong_has_its_code(check: Callable[[], object], code: str) -> None:
    with pytest.raises(FondacoError) as error:
        check()
    assert error.value.code == code
