"""Replaced leases and spending grants go along with a chain that goes on; what cannot be is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support import heirs
from tests.support.bookkeeper import Bookkeeper
from tests.support.heirs import Heir, heritage
from tests.support.ledger import FREE, HOUR, MINUTE, World

from fondaco.consensus.ledger.recount import count_again
from fondaco.protocol import codec, limits
from fondaco.protocol.messages import GrantSpending, Scope
from fondaco.protocol.records import (
    Deployment,
    Lease,
    LeaseState,
    SpendingGrant,
    key_closed,
    key_deployment,
    key_grant,
    key_grant_expiry,
    key_lease,
)
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey


class Forger(heirs.Forger):
    """Alice has a lease that was replaced once, paid by a grant of bob's."""

    def __init__(self) -> None:
        world = World("alice", "bob", "paul", "petra", **FREE | {"closed_kept_ms": HOUR})
        self.alice, self.bob, self.paul, self.petra = world.actors("alice", "bob", "paul", "petra")
        world.block(self.paul.registers(), self.petra.registers(), self.bob.grants(self.alice, 20_000))
        draft = self.alice.leases((self.paul, 3_600), deposit=10_000, payer=self.bob)
        self.deployment = draft.deployment
        world.block(draft)
        world.block(self.paul.activates(draft.lease, receipt_of=self.alice))
        world.block(self.alice.moves(self.deployment, self.petra, 3_600), after_ms=MINUTE)
        self.old, self.new = draft.lease, world.newest(self.deployment).id
        super().__init__(world)
        self.grant = key_grant(self.bob.key, self.alice.key)

    def put(self, grant: SpendingGrant) -> None:
        """With its entry in the index."""
        self.records[key_grant(grant.granter, grant.grantee)] = codec.encode(grant)
        index = key_grant_expiry(grant.expires_at, grant.granter, grant.grantee)
        self.records[index] = codec.encode(grant.granter + grant.grantee)


@pytest.fixture
def forger() -> Forger:
    return Forger()


def test_the_heir_goes_on_with_the_lease_the_escrow_and_the_grant(forger: Forger) -> None:
    heir = Heir(forger.world)
    alice, bob, petra = heir.actors("alice", "bob", "petra")
    assert heir.grant(bob, alice) == forger.world.grant(forger.bob, forger.alice)
    assert heir.code(petra.activates(forger.new, receipt_of=alice)) == ""
    assert heir.code(alice.deposits(forger.deployment, 10_001, payer=bob)) == "grant.limit"
    assert heir.code(alice.closes(forger.new)) == ""
    grant = heir.grant(bob, alice)
    assert grant is not None
    assert grant.spent == 60 + heir.lease(forger.new).paid
    heir.block(after_ms=HOUR)
    state = heir.ledger.state()
    assert state.get(key_lease(forger.old), Lease) is None
    assert state.get(key_deployment(forger.deployment), Deployment) is None
    books = Bookkeeper(heir)
    books.made.clear()
    books.made.update(credits=heir.counted.supply.credits, stake=heir.counted.supply.stake)
    books.count()


def test_a_deployment_that_ended_with_its_second_lease_is_counted() -> None:
    forger = Forger()
    forger.world.block(forger.alice.closes(forger.new), after_ms=MINUTE)
    genesis, records = heritage(forger.world)
    assert count_again(genesis, records).records["closed"] == 2


def spent_more(forger: Forger) -> None:
    forger.bend(forger.grant, SpendingGrant, spent=MicroCredits(20_001))


def allows_nothing(forger: Forger) -> None:
    forger.bend(forger.grant, SpendingGrant, limit=MicroCredits(0), spent=MicroCredits(0))


def of_another(forger: Forger) -> None:
    forger.bend(forger.grant, SpendingGrant, grantee=forger.paul.key)


def to_itself(forger: Forger) -> None:
    grant = codec.decode(forger.records[forger.grant], SpendingGrant)
    forger.put(replace(grant, grantee=grant.granter))


def ends_otherwise(forger: Forger) -> None:
    forger.bend(forger.grant, SpendingGrant, expires_at=Millis(2**50))


def too_many(forger: Forger) -> None:
    grant = codec.decode(forger.records[forger.grant], SpendingGrant)
    for number in range(limits.GRANTS):
        forger.put(replace(grant, grantee=PublicKey(bytes((number,)) * 32)))


def not_filed(forger: Forger) -> None:
    old = forger.world.lease(forger.old)
    assert old.closed_at is not None
    del forger.records[key_closed(old.closed_at, forger.old)]


def not_ended(forger: Forger) -> None:
    forger.bend(key_lease(forger.old), Lease, state=LeaseState.AWAITING, closed_at=None, paid=MicroCredits(0))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (spent_more, "more was spent"),
        (allows_nothing, "allows nothing"),
        (of_another, "other accounts"),
        (to_itself, "to itself"),
        (ends_otherwise, "one is missing"),
        (too_many, "more than 64"),
        (not_filed, "one is missing"),
        (not_ended, "one is missing"),
    ],
)
def test_what_cannot_be_is_refused(forger: Forger, change: Callable[[Forger], None], says: str) -> None:
    change(forger)
    verdict = forger.verdict()
    assert verdict.code == "genesis.record"
    assert says in verdict.message


def test_a_grant_of_the_old_chain_is_spent_on_the_new_one_only_once(forger: Forger) -> None:
    """What was signed for the old chain is nothing to the new one."""
    heir = Heir(forger.world)
    alice, bob = heir.actors("alice", "bob")
    again = GrantSpending(
        grantee=alice.key, limit=MicroCredits(5), scope=Scope.ANY, expires_at=Millis(heir.now + HOUR)
    )
    assert heir.code(bob.does(again)) == ""
    grant = heir.grant(bob, alice)
    assert grant is not None
    assert (grant.limit, grant.spent) == (5, 0)
