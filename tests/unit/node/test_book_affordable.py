"""Orders that replace a lease, and orders that somebody else pays: what the book asks of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.chains import order_by, town_chain
from tests.support.ledger import RICH, a_group
from tests.support.streets import Street

from fondaco.protocol.market import Replaced, SignedOrder, deployment_id, lease_id, order_id
from fondaco.protocol.messages import GrantSpending, ReplaceLease, Scope
from fondaco.protocol.scalars import DeploymentId, GroupIndex, Hash, MicroCredits, Millis

HOUR = 3_600_000


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    with town_chain(tmp_path, "alice", "bob", "paul", "petra") as (town, chain):
        yield Street(town, chain)


@dataclass
class Running:
    """A lease of alice's from paul."""

    street: Street
    deployment: DeploymentId

    @classmethod
    def begin(cls, street: Street, *, deposit: int = 10_000) -> Running:
        identity, signed = order_by(street.alice, deposit=deposit)
        street.book.add_order(signed)
        opening = street.alice.opens(signed, street.bid(street.paul, identity, 900), deposit=deposit)
        street.town.grow(street.chain, opening)
        return cls(street, deployment_id(identity))

    def again(self, *, generation: int = 1, group: int = 0, price: int = 1_000, **other: Any) -> SignedOrder:
        replaces = Replaced(deployment=self.deployment, group=GroupIndex(group), generation=generation)
        return self.street.alice.order(a_group(price=price), **{"replaces": replaces, **other})

    def end(self) -> None:
        lease = lease_id(self.deployment, GroupIndex(0))
        self.street.town.grow(self.street.chain, self.street.alice.closes(lease))


def test_an_order_for_another_provider_needs_no_deposit_and_goes_when_it_was_used(street: Street) -> None:
    running = Running.begin(street)
    order, other = running.again(), running.again()
    identity = street.book.add_order(order)
    street.book.add_order(other)
    bid = street.bid(street.petra, identity, 800)
    message = ReplaceLease(deployment=running.deployment, group=GroupIndex(0), order=order, bid=bid, reason=2)
    street.town.grow(street.chain, street.alice.does(message))
    left = [key for key, _ in street.book.open_orders()]
    assert left == [order_id(street.chain.id, other.order)], "it stays until it expires, and can be used no more"
    assert street.refuses_order(order) == "order.used"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"generation": 2}, "order.replaces"),
        ({"group": 1}, "order.replaces"),
        ({"commitments": (Hash(bytes(32)),)}, "order.replaces"),
        ({"price": 100_000}, "escrow.runway"),
        ({"deposit": MicroCredits(1)}, "order.replaces"),
    ],
)
def test_an_order_that_can_replace_nothing_is_refused(street: Street, changes: dict[str, Any], code: str) -> None:
    running = Running.begin(street)
    assert street.refuses_order(running.again(**changes)) == code


def test_nobody_replaces_for_others_or_what_has_ended(street: Street) -> None:
    running = Running.begin(street)
    replaces = Replaced(deployment=running.deployment, group=GroupIndex(0), generation=1)
    assert street.refuses_order(street.bob.order(a_group(), replaces=replaces)) == "order.replaces"
    order = running.again()
    running.end()
    assert street.refuses_order(order) == "order.replaces"


def granted(street: Street, limit: int, scope: Scope = Scope.ANY) -> None:
    """Bob lets alice spend."""
    message = GrantSpending(
        grantee=street.alice.key,
        limit=MicroCredits(limit),
        scope=scope,
        expires_at=Millis(street.chain.head.time + HOUR),
    )
    street.town.grow(street.chain, street.bob.does(message))


def paid_by_bob(street: Street, deposit: int) -> SignedOrder:
    return order_by(street.alice, deposit=deposit, payer=street.bob.key)[1]


def test_an_order_counts_on_its_payers_money(street: Street) -> None:
    granted(street, 3 * RICH)
    street.order(deposit=RICH)  # all that alice has
    street.book.add_order(paid_by_bob(street, RICH - 10_000))
    assert street.refuses_order(paid_by_bob(street, 10_001)) == "deposit.unaffordable"
    street.order(street.bob, deposit=1_000)


def test_an_order_is_paid_by_others_as_far_as_they_granted(street: Street) -> None:
    assert street.refuses_order(paid_by_bob(street, 1_000)) == "grant.none"
    granted(street, 1_000, Scope.DEPOSIT)
    assert street.refuses_order(paid_by_bob(street, 1_000)) == "grant.none"
    granted(street, 1_000, Scope.OPEN)
    assert street.refuses_order(paid_by_bob(street, 1_001)) == "grant.limit"
    street.book.add_order(paid_by_bob(street, 1_000))
