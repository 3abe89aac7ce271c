"""Spending grants: who may pay from whose account, how much, for what, until when; and what refunds do to it."""

from __future__ import annotations

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, HOUR, MINUTE, Draft, World, codes, of_kind

from fondaco.protocol import limits
from fondaco.protocol.events import GrantEnded, GrantSpent, Refunded, SpendingGranted
from fondaco.protocol.messages import GrantSpending, Scope
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey

DEPOSIT = 10_000


class Firm:
    """A firm, `alice`, lets `bob` pay for deployments; every block is recounted."""

    def __init__(self, **params: int) -> None:
        self.world = World("alice", "bob", "paul", credits=100_000, **{**FREE, **params})
        self.alice, self.bob, self.paul = self.world.actors("alice", "bob", "paul")
        self.books = Bookkeeper(self.world)
        self.block(self.paul.registers())

    def block(self, *drafts: Draft, after_ms: int = 1_000) -> list[str]:
        self.events = self.world.block(*drafts, after_ms=after_ms).events
        self.books.count()
        return codes(self.events)

    def opening(self, *, deposit: int = DEPOSIT) -> Draft:
        return self.bob.leases((self.paul, 3_600), deposit=deposit, payer=self.alice)

    @property
    def spent(self) -> int | None:
        grant = self.world.grant(self.alice, self.bob)
        return None if grant is None else grant.spent


def test_a_grantee_opens_a_deployment_with_the_granters_money() -> None:
    firm = Firm()
    assert firm.block(firm.alice.grants(firm.bob, 15_000)) == [""]
    (event,) = of_kind(firm.events, SpendingGranted)
    assert (event.granter, event.grantee, event.limit) == (firm.alice.key, firm.bob.key, 15_000)
    opening = firm.opening()
    assert firm.block(opening) == [""]
    assert (firm.alice.credits, firm.bob.credits, firm.spent) == (90_000, 100_000, DEPOSIT)
    (deposit,) = firm.world.deployment(opening.deployment).deposits
    assert (deposit.depositor, deposit.grantee) == (firm.alice.key, firm.bob.key)
    assert firm.world.deployment(opening.deployment).tenant == firm.bob.key
    assert [event.spent for event in of_kind(firm.events, GrantSpent)] == [DEPOSIT]


def test_what_is_refunded_goes_to_the_granter_and_makes_room_again() -> None:
    firm = Firm()
    firm.block(firm.alice.grants(firm.bob, DEPOSIT, for_ms=2 * HOUR))
    opening = firm.opening()
    firm.block(opening)
    assert firm.block(firm.opening()) == ["grant.limit"]
    firm.block(firm.paul.activates(opening.lease, receipt_of=firm.bob))
    firm.block(firm.bob.closes(opening.lease), after_ms=MINUTE)
    assert [(one.depositor, one.amount) for one in of_kind(firm.events, Refunded)] == [(firm.alice.key, 9_940)]
    assert (firm.alice.credits, firm.paul.credits, firm.spent) == (99_940, 100_060, 60)
    assert firm.block(firm.opening(deposit=9_941)) == ["grant.limit"]
    assert firm.block(firm.opening(deposit=9_940)) == [""]


def test_a_refund_after_the_grant_has_ended_is_money_only() -> None:
    firm = Firm()
    firm.block(firm.alice.grants(firm.bob, DEPOSIT))
    opening = firm.opening()
    firm.block(opening)
    assert firm.block(firm.alice.ends_grant(firm.bob)) == [""]
    assert [event.expired for event in of_kind(firm.events, GrantEnded)] == [False]
    firm.block(firm.bob.closes(opening.lease))
    assert firm.spent is None
    assert firm.alice.credits > 99_000
    assert firm.block(firm.alice.ends_grant(firm.bob)) == ["grant.none"]


def test_a_grant_given_anew_is_another_one_and_old_refunds_never_make_it_larger() -> None:
    firm = Firm()
    firm.block(firm.alice.grants(firm.bob, DEPOSIT))
    opening = firm.opening()
    firm.block(opening)
    firm.block(firm.alice.grants(firm.bob, 5_000, for_ms=2 * HOUR))
    assert firm.spent == 0
    firm.block(firm.bob.closes(opening.lease))
    assert firm.spent == 0, "nothing of this one was spent"
    firm.block(firm.opening(deposit=4_000))
    assert firm.spent == 4_000


def test_the_owner_of_the_money_and_a_grantee_of_its_are_two_payers_of_one_escrow() -> None:
    firm = Firm()
    firm.block(firm.alice.grants(firm.bob, DEPOSIT))
    opening = firm.bob.leases((firm.paul, 3_600), deposit=DEPOSIT)
    firm.block(opening)
    into = opening.deployment
    assert firm.block(
        firm.alice.deposits(into, 1_000),
        firm.bob.deposits(into, 2_000, payer=firm.alice),
        firm.bob.deposits(into, 500, payer=firm.alice),
        firm.alice.deposits(into, 30),
    ) == ["", "", "", ""]
    deposits = [(one.depositor, one.grantee, one.amount) for one in firm.world.deployment(into).deposits]
    assert deposits == [
        (firm.bob.key, None, DEPOSIT),
        (firm.alice.key, None, 1_030),
        (firm.alice.key, firm.bob.key, 2_500),
    ]


def test_to_name_oneself_as_payer_is_to_pay() -> None:
    firm = Firm()
    opening = firm.bob.leases((firm.paul, 3_600), deposit=DEPOSIT, payer=firm.bob)
    assert firm.block(opening, firm.bob.deposits(opening.deployment, 5, payer=firm.bob)) == ["", ""]
    (deposit,) = firm.world.deployment(opening.deployment).deposits
    assert (deposit.depositor, deposit.grantee, deposit.amount) == (firm.bob.key, None, DEPOSIT + 5)


@pytest.mark.parametrize(
    ("scope", "opens", "deposits"),
    [(Scope.OPEN, "", "grant.scope"), (Scope.DEPOSIT, "grant.scope", ""), (Scope.ANY, "", "")],
)
def test_a_grant_pays_what_it_is_for(scope: Scope, opens: str, deposits: str) -> None:
    firm = Firm()
    own = firm.bob.leases((firm.paul, 3_600), deposit=DEPOSIT)
    firm.block(firm.alice.grants(firm.bob, 50_000, scope=scope), own)
    assert firm.block(firm.opening(), firm.bob.deposits(own.deployment, 10, payer=firm.alice)) == [opens, deposits]


def test_a_grant_reserves_nothing() -> None:
    firm = Firm()
    firm.block(firm.alice.grants(firm.bob, 1_000_000))
    assert firm.block(firm.opening(deposit=100_001)) == ["funds.credits"]
    assert firm.spent == 0
    assert (firm.alice.credits, firm.bob.credits) == (100_000, 100_000)


def test_a_grant_expires_after_its_last_moment_and_is_forgotten() -> None:
    firm = Firm()
    firm.block(firm.alice.grants(firm.bob, 50_000, for_ms=MINUTE))
    assert firm.block(firm.opening(), after_ms=MINUTE) == [""]
    assert firm.block(firm.opening(), after_ms=1) == ["grant.none"]
    assert [event.expired for event in of_kind(firm.events, GrantEnded)] == [True]
    assert firm.spent is None


def test_an_expired_grant_that_is_not_forgotten_yet_pays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be more to forget than one block does."""
    firm = Firm()
    firm.block(firm.alice.grants(firm.bob, 50_000, for_ms=1_000))
    forget = "fondaco.consensus.ledger.grants.forget_expired"
    monkeypatch.setattr(forget, lambda *_, **__: [])
    assert firm.block(firm.opening(), after_ms=1_001) == ["grant.expired"]


def test_what_no_grant_can_be() -> None:
    firm = Firm()
    now = firm.world.now + 1_000

    def granted(to: PublicKey, limit: int, expires_at: int) -> Draft:
        return firm.alice.does(
            GrantSpending(grantee=to, limit=MicroCredits(limit), scope=Scope.ANY, expires_at=Millis(expires_at))
        )

    bob = firm.bob.key
    assert firm.block(
        granted(firm.alice.key, 1, now),
        granted(bob, 0, now),
        granted(bob, 1, now - 1),
        granted(bob, 1, now + limits.GRANT_LIFE_MS + 1),
        granted(bob, 1, now + limits.GRANT_LIFE_MS),
        granted(bob, 1, now),
        firm.bob.leases((firm.paul, 3_600), deposit=DEPOSIT, payer=firm.paul),
    ) == ["grant.self", "grant.zero", "grant.expired", "grant.expiry", "", "", "grant.none"]


def test_an_account_gives_so_many_grants_and_may_change_each() -> None:
    firm = Firm()
    others = [PublicKey(bytes((number,)) * 32) for number in range(limits.GRANTS)]
    until = Millis(firm.world.now + HOUR)
    grants = [
        GrantSpending(grantee=one, limit=MicroCredits(1), scope=Scope.ANY, expires_at=until) for one in others
    ]
    for place in range(0, limits.GRANTS, 8):
        assert firm.block(firm.alice.does(*grants[place : place + 8])) == [""]
    assert firm.block(firm.alice.grants(firm.bob, 5)) == ["grant.count"]
    assert firm.block(firm.alice.does(grants[3])) == [""]
    assert firm.block(firm.paul.grants(firm.bob, 5)) == [""], "others are not counted"
