"""What turns an order and its bids into leases, and every way in which it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import ANYWHERE, FREE, HOUR, MINUTE, START, UNIT, Draft, World, a_group, entries

from fondaco.protocol import limits
from fondaco.protocol.market import SignedBid, SignedOrder
from fondaco.protocol.records import DeploymentState, LeaseState, UsedOrder, key_used_order
from fondaco.protocol.resources import Attribute, Endpoint, EndpointKind, Placement
from fondaco.protocol.scalars import Hash, MicroCredits, Millis

EU = (Attribute(key="region", value="eu"),)


def a_world() -> World:
    world = World("alice", "mallory", "paul", "petra", credits=10_000, **FREE)
    paul, petra = world.actors("paul", "petra")
    world.block(paul.registers(attributes=[("region", "eu")]), petra.registers())
    return world


@pytest.fixture
def world() -> World:
    return a_world()


def test_an_order_and_a_bid_become_a_lease_with_its_escrow(world: World) -> None:
    alice, paul = world.actors("alice", "paul")
    draft = alice.leases((paul, 700), deposit=5_000)
    assert world.code(draft) == ""
    assert alice.credits == 5_000
    deployment, lease = world.deployment(draft.deployment), world.lease(draft.lease)
    assert (deployment.state, deployment.tenant, deployment.leases) == (
        DeploymentState.OPEN,
        alice.key,
        (lease.id,),
    )
    assert (lease.state, lease.provider, lease.price_per_hour) == (LeaseState.AWAITING, paul.key, 700)
    assert deployment.due_at == world.now + 5 * MINUTE
    Bookkeeper(world).count()


def test_each_group_becomes_a_lease_of_its_own_provider(world: World) -> None:
    alice, paul, petra = world.actors("alice", "paul", "petra")
    draft = alice.leases((paul, 700), (petra, 300), deposit=5_000)
    assert world.code(draft) == ""
    assert [world.lease(lease).provider for lease in draft.leases] == [paul.key, petra.key]
    assert world.ledger.next_due_moment() == world.now + 5 * MINUTE


def test_an_order_is_used_once_and_forgotten_when_it_has_expired(world: World) -> None:
    alice, paul = world.actors("alice", "paul")
    order = alice.order(a_group(), expires_at=Millis(world.now + 5_000))
    used = key_used_order(alice.opens(order, paul.bid(order, 1), deposit=10).deployment)
    assert world.code(alice.opens(order, paul.bid(order, 1), deposit=10)) == ""
    assert world.code(alice.opens(order, paul.bid(order, 1), deposit=10)) == "order.used"
    world.block(after_ms=3_000)
    assert world.now == order.order.expires_at
    assert world.ledger.state().get(used, UsedOrder) is not None, "in its last millisecond it could be used again"
    assert world.code(alice.opens(order, paul.bid(order, 1), deposit=10), after_ms=1) == "order.expired"
    assert world.ledger.state().get(used, UsedOrder) is None
    Bookkeeper(world).count()


def test_order_and_bid_hold_until_their_last_millisecond(world: World) -> None:
    alice, paul = world.actors("alice", "paul")
    at = Millis(world.now + 1_000)
    order = alice.order(a_group(), expires_at=at)
    assert world.code(alice.opens(order, paul.bid(order, 1, expires_at=at), deposit=10)) == ""
    far = alice.order(a_group(), expires_at=Millis(world.now + 1_000 + limits.ORDER_LIFE_MS))
    bid = paul.bid(far, 1, expires_at=Millis(world.now + 1_000 + limits.BID_LIFE_MS))
    assert world.code(alice.opens(far, bid, deposit=10)) == ""


def test_an_offer_may_be_better_than_what_was_asked(world: World) -> None:
    alice, paul = world.actors("alice", "paul")
    order = alice.order(a_group())
    better = replace(UNIT, resources=replace(UNIT.resources, cpu_milli=4_000))
    draft = alice.opens(order, paul.bid(order, 1, units=(better,)), deposit=10)
    assert world.code(draft) == ""
    assert world.lease(draft.lease).units == (better,)


def test_a_promised_reclamation_window_stands_in_the_lease(world: World) -> None:
    alice, paul = world.actors("alice", "paul")
    order = alice.order(a_group(), reclamation_window_ms=Millis(HOUR))
    draft = alice.opens(order, paul.bid(order, 1, reclamation_window_ms=Millis(2 * HOUR)), deposit=10)
    assert world.code(draft) == ""
    assert world.lease(draft.lease).reclamation_window_ms == 2 * HOUR


def test_placement_asks_for_the_attributes_that_the_ledger_holds(world: World) -> None:
    alice, paul, petra = world.actors("alice", "paul", "petra")
    order = alice.order(a_group(placement=replace(ANYWHERE, attributes=EU)))
    assert world.code(alice.opens(order, petra.bid(order, 1), deposit=10)) == "placement.unmet"
    assert world.code(alice.opens(order, paul.bid(order, 1), deposit=10)) == ""


Change = Callable[[World], Draft]


def with_order(**change: Any) -> Change:
    def draft(world: World) -> Draft:
        alice, paul = world.actors("alice", "paul")
        order = alice.order(a_group(), **change)
        return alice.opens(order, paul.bid(order, 1), deposit=1_000)

    return draft


def with_group(**change: Any) -> Change:
    return with_order(groups=(replace(a_group(), **change),))


def with_bid(**change: Any) -> Change:
    def draft(world: World) -> Draft:
        alice, paul = world.actors("alice", "paul")
        order = alice.order(a_group())
        return alice.opens(order, replace_signed(world, paul.bid(order, 1, **change)), deposit=1_000)

    return draft


def replace_signed(world: World, bid: SignedBid) -> SignedBid:
    """Signed by the provider it names, where that is somebody here."""
    signer = world.by_key[bid.bid.provider].signer
    return SignedBid(bid=bid.bid, signature=signer.sign(world.chain, bid.bid))


def by_a_stranger(world: World) -> Draft:
    alice, mallory, paul = world.actors("alice", "mallory", "paul")
    order = alice.order(a_group())
    return mallory.opens(order, paul.bid(order, 1), deposit=1_000)


def forged_order(world: World) -> Draft:
    alice, mallory, paul = world.actors("alice", "mallory", "paul")
    order = alice.order(a_group())
    order = SignedOrder(order=order.order, signature=mallory.signer.sign(world.chain, order.order))
    return alice.opens(order, paul.bid(order, 1), deposit=1_000)


def forged_bid(world: World) -> Draft:
    alice, paul, petra = world.actors("alice", "paul", "petra")
    order = alice.order(a_group())
    bid = paul.bid(order, 1)
    bid = SignedBid(bid=bid.bid, signature=petra.signer.sign(world.chain, bid.bid))
    return alice.opens(order, bid, deposit=1_000)


def two_bids(world: World) -> Draft:
    alice, paul = world.actors("alice", "paul")
    order = alice.order(a_group())
    return alice.opens(order, paul.bid(order, 1), paul.bid(order, 1), deposit=1_000)


def other_order(world: World) -> Draft:
    alice, paul = world.actors("alice", "paul")
    return alice.opens(alice.order(a_group()), paul.bid(alice.order(a_group()), 1), deposit=1_000)


def swapped_groups(world: World) -> Draft:
    alice, paul, petra = world.actors("alice", "paul", "petra")
    order = alice.order(a_group("one"), a_group("two"))
    return alice.opens(order, petra.bid(order, 1, 1), paul.bid(order, 1, 0), deposit=1_000)


def itself(world: World) -> Draft:
    (paul,) = world.actors("paul")
    order = paul.order(a_group())
    return paul.opens(order, paul.bid(order, 1), deposit=1_000)


def unregistered(world: World) -> Draft:
    alice, mallory = world.actors("alice", "mallory")
    return alice.leases((mallory, 1), deposit=1_000)


def deposit_of(amount: int, price: int = 1) -> Change:
    def draft(world: World) -> Draft:
        alice, paul = world.actors("alice", "paul")
        return alice.leases((paul, price), deposit=amount)

    return draft


NOW = START + 2_000  # of the block that judges
ASKED = UNIT.resources
ENDPOINT = Endpoint(kind=EndpointKind.RANDOM_PORT, sequence_number=0)
REFUSALS: dict[str, tuple[Change, str]] = {
    "a stranger sends it": (by_a_stranger, "order.tenant"),
    "the order is not the tenant's": (forged_order, "signature.bad"),
    "a bid is not the provider's": (forged_bid, "signature.bad"),
    "the order has expired": (with_order(expires_at=NOW - 1), "order.expired"),
    "the order lives too long": (with_order(expires_at=NOW + limits.ORDER_LIFE_MS + 1), "order.expiry"),
    "a commitment too many": (with_order(commitments=(Hash(bytes(32)),) * 2), "order.commitments"),
    "too many reply peers": (with_order(reply_peers=("peer",) * 5), "order.reply_peers"),
    "a group too large": (with_group(units=(replace(UNIT, count=51),)), "resources.limit"),
    "a group of nothing": (with_group(units=()), "resources.limit"),
    "a maximum of nothing": (with_group(max_price_per_hour=0), "price.too_small"),
    "more bids than groups": (two_bids, "bid.count"),
    "a bid for another order": (other_order, "bid.order"),
    "bids in another order than groups": (swapped_groups, "bid.order"),
    "the bid has expired": (with_bid(expires_at=NOW - 1), "bid.expired"),
    "the bid binds too long": (with_bid(expires_at=NOW + limits.BID_LIFE_MS + 1), "bid.expiry"),
    "a tenant serves itself": (itself, "bid.self"),
    "the price is above the maximum": (with_bid(price_per_hour=1_001), "price.above_maximum"),
    "the price is nothing": (with_bid(price_per_hour=0), "price.too_small"),
    "no address": (with_bid(addresses=()), "bid.addresses"),
    "no units": (with_bid(units=()), "bid.units"),
    "the provider is not registered": (unregistered, "provider.unknown"),
    "the offer is smaller": (
        with_bid(units=(replace(UNIT, resources=replace(ASKED, cpu_milli=99)),)),
        "offer.smaller",
    ),
    "the offer is above every limit": (with_bid(units=(replace(UNIT, count=51),)), "resources.limit"),
    "the offer has attributes without end": (
        with_bid(
            units=(
                replace(
                    UNIT,
                    resources=replace(
                        ASKED, cpu_attributes=tuple(Attribute(key=f"{n:05}", value="") for n in range(65))
                    ),
                ),
            )
        ),
        "resources.limit",
    ),
    "the offer takes too many bytes": (
        with_bid(units=(replace(UNIT, resources=replace(ASKED, endpoints=(ENDPOINT,) * 11_000)),)),
        "bid.size",
    ),
    "an auditor is asked for and there are none": (
        with_group(placement=Placement(attributes=(), all_of=(), any_of=(b"k" * 32,))),  # type: ignore[arg-type]
        "placement.unmet",
    ),
    "the reclamation window is shorter than asked": (
        with_order(reclamation_window_ms=Millis(HOUR)),
        "bid.reclamation",
    ),
    "the reclamation window is below an hour": (with_bid(reclamation_window_ms=Millis(1)), "bid.reclamation"),
    "the reclamation window is endless": (with_bid(reclamation_window_ms=Millis(2**63 - 1)), "bid.reclamation"),
    "the deposit is below the runway": (deposit_of(9, price=36_000), "deposit.too_small"),
    "the deposit is nothing": (deposit_of(0), "deposit.too_small"),
    "the deposit is not there": (deposit_of(10_001), "funds.credits"),
    "the deposit is beyond all there is": (deposit_of(2**63 - 1), "funds.credits"),
    "the price is beyond all there is": (deposit_of(10, price=2**63 - 1), "deposit.too_small"),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_a_lease_is_refused_and_nothing_changes_if(why: str) -> None:
    world = a_world()
    change, code = REFUSALS[why]
    draft = change(world)
    before = money_and_market(world)
    assert world.code(draft) == code
    assert money_and_market(world) == before
    Bookkeeper(world).count()


def money_and_market(world: World) -> dict[bytes, bytes]:
    """Every record that a refused message must leave as it was."""
    kept = (b"r/account/", b"r/lease/", b"r/deployment/", b"r/due/", b"r/provider/", b"r/used-order", b"r/totals")
    return {key: value for key, value in entries(world.store).items() if key.startswith(kept)}


def test_the_deposit_covers_the_runway_at_the_full_price_of_all_groups() -> None:
    world = World("alice", "paul", "petra", **FREE | {"min_runway_ms": 600_000})
    alice, paul, petra = world.actors("alice", "paul", "petra")
    world.block(paul.registers(), petra.registers())
    assert world.code(alice.leases((paul, 601), (petra, 1_200), deposit=300)) == "deposit.too_small"
    assert world.code(alice.leases((paul, 601), (petra, 1_200), deposit=301)) == ""


def test_the_least_deposit_holds_where_the_runway_is_cheaper() -> None:
    world = World("alice", "paul", **FREE | {"min_deposit": 100})
    alice, paul = world.actors("alice", "paul")
    world.block(paul.registers())
    assert world.code(alice.leases((paul, 1), deposit=99)) == "deposit.too_small"
    draft = alice.leases((paul, 1), deposit=100)
    assert world.code(draft) == ""
    assert world.code(alice.deposits(draft.deployment, 99)) == "deposit.too_small"


def test_what_is_left_of_a_batch_after_its_lease_is_undone_too(world: World) -> None:
    alice, paul = world.actors("alice", "paul")
    draft = alice.leases((paul, 1), deposit=1_000)
    assert world.code(draft & alice.pays(paul, 10**9)) == "funds.credits"
    assert alice.credits == 10_000
    assert world.ledger.next_due_moment() is None
    again = alice.does(*draft.messages)
    assert world.code(again) == "", "the order was not used up"
    assert world.deployment(draft.deployment).deposits[0].amount == MicroCredits(1_000)
