"""A lease from hand-off to its end: accrual, dry escrow, grace, resumption, lapse, refunds."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, HOUR, MINUTE, RICH, Actor, Draft, World, codes, of_kind

from fondaco.protocol.events import (
    Deposited,
    HandoffLapsed,
    LeaseActivated,
    LeaseClosed,
    Paid,
    RanDry,
    Refunded,
    Resumed,
)
from fondaco.protocol.market import SignedReceipt
from fondaco.protocol.messages import Activate
from fondaco.protocol.reasons import HANDOFF_TIMEOUT, INSUFFICIENT_FUNDS
from fondaco.protocol.records import TOTALS, DeploymentState, LeaseState, Totals
from fondaco.protocol.scalars import DeploymentId, Hash, LeaseId, MicroCredits, Millis

NOBODY = LeaseId(bytes(32))
GRACE = 10 * MINUTE


class Story:
    """Alice leases from paul and petra; every block is recounted."""

    def __init__(self, *prices: int, deposit: int = 10_000, window_ms: int = 0, **params: int) -> None:
        self.world = World("alice", "bob", "paul", "petra", credits=100_000, **{**FREE, **params})
        self.alice, self.bob, self.paul, self.petra = self.world.actors("alice", "bob", "paul", "petra")
        self.books = Bookkeeper(self.world)
        self.block(self.paul.registers(), self.petra.registers())
        providers = [self.paul, self.petra]
        self.draft = self.alice.leases(
            *((providers[place % 2], price) for place, price in enumerate(prices)),
            deposit=deposit,
            reclamation_window_ms=Millis(window_ms),
        )
        self.block(self.draft)
        self.deployment: DeploymentId = self.draft.deployment
        self.leases = self.draft.leases

    def block(self, *drafts: Draft, after_ms: int = 1_000) -> list[str]:
        self.events = self.world.block(*drafts, after_ms=after_ms).events
        self.books.count()
        return codes(self.events)

    def activate(self, *places: int, after_ms: int = 1_000) -> None:
        assert set(self.block(*(self.activation(place) for place in places or (0,)), after_ms=after_ms)) == {""}

    def activation(self, place: int = 0) -> Draft:
        return self.provider(place).activates(self.leases[place], receipt_of=self.alice)

    def provider(self, place: int = 0) -> Actor:
        return self.world.by_key[self.world.lease(self.leases[place]).provider]

    @property
    def state(self) -> Any:
        """Open, in grace or closed; Any, since it changes under the eyes of a type checker."""
        return self.world.deployment(self.deployment).state

    @property
    def funds(self) -> int:
        return self.world.funds(self.deployment)

    def lease_state(self, place: int = 0) -> LeaseState:
        return self.world.lease(self.leases[place]).state

    def paid(self, place: int = 0) -> int:
        return self.world.lease(self.leases[place]).paid


# Hand-off


def test_accrual_starts_with_activation_not_with_the_lease() -> None:
    story = Story(3_600)
    story.activate(after_ms=2 * MINUTE)
    assert of_kind(story.events, LeaseActivated) == [LeaseActivated(lease=story.leases[0])]
    assert story.block(story.paul.withdraws(story.leases[0]), after_ms=10_000) == [""]
    assert (story.paid(), story.funds) == (10, 9_990)


def test_a_lease_nobody_takes_up_lapses_and_its_fee_goes_to_the_pool() -> None:
    story = Story(3_600)
    story.block(after_ms=5 * MINUTE - 1)
    assert story.lease_state() == LeaseState.AWAITING
    story.block(after_ms=1)
    assert of_kind(story.events, HandoffLapsed) == [HandoffLapsed(lease=story.leases[0], fee=MicroCredits(300))]
    assert of_kind(story.events, LeaseClosed)[0].reason == HANDOFF_TIMEOUT
    assert of_kind(story.events, Refunded)[0].amount == 9_700
    assert story.state == DeploymentState.CLOSED
    assert story.world.ledger.state().require(TOTALS, Totals).pool_credits == 300
    assert story.alice.credits == 99_700


@pytest.mark.parametrize(("cap", "deposit", "fee"), [(100, 10_000, 100), (0, 10_000, 0), (10**6, 40, 40)])
def test_the_fee_of_a_lapse_is_capped_and_never_more_than_the_escrow(cap: int, deposit: int, fee: int) -> None:
    story = Story(3_600, deposit=deposit, handoff_fee_cap=cap)
    story.block(after_ms=HOUR)
    assert of_kind(story.events, HandoffLapsed)[0].fee == fee
    assert story.alice.credits == 100_000 - fee
    assert story.world.lease(story.leases[0]).closed_at == story.world.now - HOUR + 5 * MINUTE


def test_a_lapse_that_takes_the_last_money_leaves_the_others_dry() -> None:
    story = Story(3_600_000, 3_600, deposit=5_000)
    story.activate(1)
    story.block(after_ms=5 * MINUTE)
    assert of_kind(story.events, HandoffLapsed)[0].fee > 0
    assert (story.funds, story.state, story.lease_state(1)) == (0, DeploymentState.GRACE, LeaseState.ACTIVE)


def test_the_moment_of_the_lapse_is_too_late_to_activate() -> None:
    story = Story(3_600)
    assert story.block(story.activation(), after_ms=5 * MINUTE) == ["lease.state"]
    early = Story(3_600)
    assert early.block(early.activation(), after_ms=5 * MINUTE - 1) == [""]


def test_only_the_provider_activates_once_and_with_the_tenants_receipt() -> None:
    story = Story(3_600)
    alice, paul, petra, lease = story.alice, story.paul, story.petra, story.leases[0]
    wrong = SignedReceipt(receipt=alice.receipt(lease).receipt, signature=petra.receipt(lease).signature)
    for draft, code in (
        (petra.activates(lease, receipt_of=alice), "lease.provider"),
        (alice.activates(lease, receipt_of=alice), "lease.provider"),
        (paul.activates(lease, receipt_of=paul), "signature.bad"),
        (paul.activates(NOBODY, receipt_of=alice), "lease.unknown"),
        (paul.does(Activate(receipt=alice.receipt(lease, version=2))), "receipt.manifest"),
        (paul.does(Activate(receipt=alice.receipt(lease, commitment=Hash(bytes(32))))), "receipt.manifest"),
        (paul.does(Activate(receipt=wrong)), "signature.bad"),
    ):
        assert story.block(draft) == [code]
        assert story.lease_state() == LeaseState.AWAITING
    story.activate()
    assert story.block(story.activation()) == ["lease.state"]


# Paying


def test_withdrawing_twice_in_a_block_pays_once() -> None:
    story = Story(3_600)
    story.activate()
    withdraw = [story.paul.withdraws(*story.leases), story.paul.withdraws(*story.leases, *story.leases)]
    assert story.block(*withdraw, after_ms=10_000) == ["", ""]
    assert len(of_kind(story.events, Paid)) == 1
    assert story.paid() == 10


def test_withdrawing_before_activation_pays_nothing() -> None:
    story = Story(3_600)
    assert story.block(story.paul.withdraws(*story.leases)) == [""]
    assert story.paid() == 0


def test_only_its_provider_withdraws_from_a_lease() -> None:
    story = Story(3_600)
    story.activate()
    assert story.block(story.alice.withdraws(*story.leases)) == ["lease.provider"]
    assert story.block(story.petra.withdraws(*story.leases)) == ["lease.provider"]
    assert story.block(story.paul.withdraws(NOBODY)) == ["lease.unknown"]


def test_one_providers_withdrawal_settles_the_whole_deployment() -> None:
    story = Story(3_600, 7_200)
    story.activate(0, 1)
    story.block(story.paul.withdraws(story.leases[0]), after_ms=10_000)
    assert (story.paid(0), story.paid(1), story.funds) == (10, 20, 9_970)


# Closing


def test_a_tenant_closes_at_any_time_pays_for_the_time_used_and_gets_the_rest_back() -> None:
    story = Story(3_600)
    story.activate()
    assert story.block(story.alice.closes(*story.leases, reason=7), after_ms=30_000) == [""]
    assert of_kind(story.events, LeaseClosed) == [
        LeaseClosed(lease=story.leases[0], reason=7, paid=MicroCredits(30))
    ]
    assert story.alice.credits == 100_000 - 30
    assert story.paul.credits == 100_000 + 30
    assert story.world.ledger.next_due_moment() is None
    assert story.block(story.alice.closes(*story.leases)) == ["lease.closed"]
    assert story.block(story.paul.withdraws(*story.leases)) == [""]
    assert story.paid() == 30


def test_a_lease_may_be_closed_before_it_is_taken_up() -> None:
    story = Story(3_600)
    assert story.block(story.alice.closes(*story.leases)) == [""]
    assert story.alice.credits == 100_000 - 1, "its provider waited for a second"


def test_a_lease_closes_in_the_block_that_opens_and_activates_it() -> None:
    story = Story(3_600)
    again = story.alice.leases((story.paul, 3_600), deposit=500)
    steps = [again, story.paul.activates(again.lease, receipt_of=story.alice), story.alice.closes(again.lease)]
    assert story.block(*steps) == ["", "", ""]
    assert of_kind(story.events, Paid) == []
    assert story.world.lease(again.lease).paid == 0


def test_closing_two_leases_of_one_deployment_in_one_block_pays_both_and_refunds_once() -> None:
    story = Story(3_600, 7_200)
    story.activate(0, 1)
    closing = [story.alice.closes(lease) for lease in story.leases]
    assert story.block(*closing, after_ms=10_000) == ["", ""]
    assert (story.paid(0), story.paid(1)) == (10, 20)
    assert [event.amount for event in of_kind(story.events, Refunded)] == [9_970]
    assert story.state == DeploymentState.CLOSED


def test_what_remains_goes_on_when_one_of_two_leases_closes() -> None:
    story = Story(3_600, 7_200)
    story.activate(0, 1)
    story.block(story.alice.closes(story.leases[0]), after_ms=10_000)
    story.block(story.petra.withdraws(story.leases[1]), after_ms=10_000)
    assert (story.paid(0), story.paid(1), story.funds) == (10, 40, 9_950)
    assert story.state == DeploymentState.OPEN


@pytest.mark.parametrize(
    ("who", "reason", "code"),
    [
        ("alice", 10_000, "lease.reason"),
        ("alice", 20_000, "lease.reason"),
        ("paul", 9_999, "lease.reason"),
        ("paul", 20_000, "lease.reason"),
        ("paul", 2**63 - 1, "lease.reason"),
        ("petra", 0, "lease.party"),
        ("bob", 0, "lease.party"),
        ("alice", 9_999, ""),
        ("paul", 10_000, ""),
        ("paul", 19_999, ""),
    ],
)
def test_tenant_and_provider_close_each_with_reasons_of_its_own(who: str, reason: int, code: str) -> None:
    story = Story(3_600)
    story.activate()
    (actor,) = story.world.actors(who)
    assert story.block(actor.closes(*story.leases, reason=reason)) == [code]


def test_a_provider_that_promised_a_window_closes_only_in_grace() -> None:
    story = Story(3_600_000, deposit=10_000, window_ms=HOUR)
    assert story.block(story.paul.closes(*story.leases, reason=10_000)) == ["lease.reclamation"]
    story.activate()
    assert story.block(story.paul.closes(*story.leases, reason=10_000)) == ["lease.reclamation"]
    assert story.block(story.paul.closes(*story.leases, reason=10_000), after_ms=10_000) == [""]
    assert story.paid() == 10_000


# Running dry


def test_a_dry_escrow_stops_the_clock_and_the_end_of_grace_closes() -> None:
    story = Story(3_600_000, deposit=10_000)
    story.activate()
    activated = story.world.now
    story.block(after_ms=9_999)
    assert story.state == DeploymentState.OPEN
    story.block(after_ms=1)
    assert of_kind(story.events, RanDry) == [RanDry(deployment=story.deployment, debt=MicroCredits(0))]
    assert (story.state, story.paid(), story.funds) == (DeploymentState.GRACE, 10_000, 0)
    story.block(story.paul.withdraws(*story.leases), after_ms=GRACE - 1)
    assert (story.state, story.paid()) == (DeploymentState.GRACE, 10_000)
    story.block(after_ms=1)
    assert of_kind(story.events, LeaseClosed)[0].reason == INSUFFICIENT_FUNDS
    lease = story.world.lease(story.leases[0])
    assert (lease.state, lease.closed_at, lease.active_ms) == (
        LeaseState.CLOSED,
        activated + 10_000 + GRACE,
        10_000,
    )


def test_a_long_silence_is_settled_as_of_the_moments_that_passed() -> None:
    """One block a year later pays what a block a second would have paid."""
    story = Story(3_600_000, deposit=10_000)
    story.activate()
    activated = story.world.now
    story.block(after_ms=365 * 24 * HOUR)
    lease = story.world.lease(story.leases[0])
    assert (lease.paid, lease.active_ms, lease.closed_at) == (10_000, 10_000, activated + 10_000 + GRACE)
    assert story.state == DeploymentState.CLOSED


def test_the_last_money_is_shared_by_rate_and_the_shortfall_is_a_debt() -> None:
    story = Story(7_200_000, 3_600_000, deposit=10_000)
    story.activate(0, 1)
    story.block(after_ms=10_000)
    # 3 ucredit a millisecond: in the 3,334th 10,002 are owed and 10,000 are there.
    assert of_kind(story.events, RanDry) == [RanDry(deployment=story.deployment, debt=MicroCredits(2))]
    paid = {story.provider(place).name: story.paid(place) for place in (0, 1)}
    assert paid == {"paul": 6_667, "petra": 3_333}
    assert [story.world.lease(lease).debt for lease in story.leases] == [1, 1]
    story.block(after_ms=GRACE)
    assert [story.world.lease(lease).debt for lease in story.leases] == [0, 0], "unpaid debt dies"


def test_a_deposit_that_covers_debt_and_runway_resumes() -> None:
    story = Story(7_200_000, 3_600_000, deposit=10_000)
    story.activate(0, 1)
    story.block(after_ms=MINUTE)
    assert story.state == DeploymentState.GRACE
    # Debt 2, runway of one second at 3 ucredit a millisecond.
    assert story.block(story.bob.deposits(story.deployment, 3_001)) == [""]
    assert of_kind(story.events, Deposited) == [
        Deposited(deployment=story.deployment, depositor=story.bob.key, amount=MicroCredits(3_001))
    ]
    assert (story.state, story.funds) == (DeploymentState.GRACE, 3_001)
    assert story.block(story.alice.deposits(story.deployment, 1)) == [""]
    assert of_kind(story.events, Resumed) == [Resumed(deployment=story.deployment)]
    assert (story.state, story.funds, story.paid(0), story.paid(1)) == (DeploymentState.OPEN, 3_000, 6_668, 3_334)
    story.block(after_ms=999)
    assert story.state == DeploymentState.OPEN
    story.block(after_ms=1)
    assert (story.state, story.paid(0), story.paid(1)) == (DeploymentState.GRACE, 8_668, 4_334)


def test_time_in_grace_is_never_paid() -> None:
    story = Story(3_600_000, deposit=10_000)
    story.activate()
    story.block(after_ms=MINUTE)
    story.block(story.alice.deposits(story.deployment, 5_000), after_ms=MINUTE)
    story.block(story.alice.closes(*story.leases), after_ms=2_000)
    assert (story.paid(), story.world.lease(story.leases[0]).active_ms) == (12_000, 12_000)
    assert story.alice.credits == 100_000 - 12_000


def test_the_end_of_grace_is_too_late_for_a_deposit() -> None:
    story = Story(3_600_000, deposit=10_000)
    story.activate()
    deposit = story.alice.deposits(story.deployment, 5_000)
    assert story.block(deposit, after_ms=10_000 + GRACE) == ["deployment.closed"]
    assert story.alice.credits == 90_000


def test_a_deposit_in_the_moment_of_drying_out_comes_after_it() -> None:
    story = Story(3_600_000, deposit=10_000)
    story.activate()
    assert story.block(story.alice.deposits(story.deployment, 1_000), after_ms=10_000) == [""]
    assert len(of_kind(story.events, RanDry)) == len(of_kind(story.events, Resumed)) == 1
    assert (story.state, story.funds) == (DeploymentState.OPEN, 1_000)


def test_without_grace_a_dry_escrow_is_the_end() -> None:
    story = Story(3_600_000, deposit=10_000, grace_ms=0)
    story.activate()
    story.block(after_ms=10_000)
    assert story.state == DeploymentState.CLOSED
    assert [type(event) for event in story.events] == [Paid, RanDry, LeaseClosed]


def test_a_lease_taken_up_in_grace_accrues_from_the_resumption() -> None:
    story = Story(3_600_000, 3_600_000, deposit=10_000)
    story.activate(0)
    story.block(after_ms=10_000)
    assert story.state == DeploymentState.GRACE
    story.activate(1)
    assert (story.state, story.lease_state(1)) == (DeploymentState.GRACE, LeaseState.ACTIVE)
    story.block(story.alice.deposits(story.deployment, 4_000), after_ms=MINUTE)
    story.block(story.petra.withdraws(story.leases[1]), after_ms=1_000)
    assert (story.paid(0), story.paid(1)) == (11_000, 1_000)


def test_a_hand_off_lapses_in_grace_too_and_costs_nothing() -> None:
    story = Story(3_600_000, 3_600_000, deposit=10_000)
    story.activate(0)
    story.block(after_ms=10_000)
    story.block(after_ms=5 * MINUTE)
    assert of_kind(story.events, HandoffLapsed)[0].fee == 0
    assert (story.lease_state(0), story.lease_state(1)) == (LeaseState.ACTIVE, LeaseState.CLOSED)


def test_the_end_of_grace_leaves_what_was_closed_before_as_it_is() -> None:
    story = Story(7_200_000, 3_600_000, deposit=10_000)
    story.activate(0, 1)
    story.block(story.alice.closes(story.leases[0], reason=5), after_ms=5_000)
    story.block(after_ms=HOUR)
    assert [story.world.lease(lease).reason for lease in story.leases] == [5, INSUFFICIENT_FUNDS]


def test_a_tenant_may_close_in_grace() -> None:
    story = Story(7_200_000, 3_600_000, deposit=10_000)
    story.activate(0, 1)
    story.block(after_ms=10_000)
    assert story.block(story.alice.closes(*story.leases)) == [""]
    assert story.state == DeploymentState.CLOSED


def test_a_deposit_before_it_runs_dry_moves_that_moment() -> None:
    story = Story(3_600_000, deposit=10_000)
    story.activate()
    due = story.world.ledger.next_due_moment()
    assert due is not None
    story.block(story.bob.deposits(story.deployment, 5_000))
    assert story.world.ledger.next_due_moment() == due + 5_000


# Depositors


def test_the_earliest_depositor_is_spent_first_and_each_gets_its_own_rest_back() -> None:
    story = Story(3_600_000, deposit=1_000)
    deposits = [story.bob.deposits(story.deployment, 2_000), story.alice.deposits(story.deployment, 500)]
    assert story.block(*deposits) == ["", ""]
    assert [deposit.amount for deposit in story.world.deployment(story.deployment).deposits] == [1_500, 2_000]
    story.activate()
    story.block(story.alice.closes(*story.leases), after_ms=2_000)
    assert [(event.depositor, event.amount) for event in of_kind(story.events, Refunded)] == [
        (story.bob.key, 1_500)
    ]
    assert (story.alice.credits, story.bob.credits) == (98_500, 99_500)


def test_a_deployment_takes_sixteen_depositors() -> None:
    names = [f"friend{place}" for place in range(16)]
    world = World("alice", "paul", *names, **FREE)
    alice, paul, *friends = world.actors("alice", "paul", *names)
    draft = alice.leases((paul, 1), deposit=10)
    world.block(paul.registers())
    world.block(draft)
    found = codes(world.block(*(friend.deposits(draft.deployment, 1) for friend in friends)).events)
    assert found == [""] * 15 + ["deposit.depositors"]
    assert world.code(friends[0].deposits(draft.deployment, 1)) == ""
    assert world.code(alice.deposits(DeploymentId(bytes(32)), 1)) == "deployment.unknown"
    Bookkeeper(world).count()


def test_nothing_is_added_to_what_has_ended() -> None:
    story = Story(3_600)
    story.block(story.alice.closes(*story.leases))
    assert story.block(story.alice.deposits(story.deployment, 5)) == ["deployment.closed"]
    assert story.block(story.alice.deposits(story.deployment, 10**12)) == ["deployment.closed"]


def test_what_falls_due_is_handled_a_few_a_block_and_as_of_its_moment() -> None:
    world = World("alice", "paul", **FREE, due_per_block=2)
    alice, paul = world.actors("alice", "paul")
    world.block(paul.registers())
    drafts = [alice.leases((paul, 3_600), deposit=1_000) for _ in range(5)]
    world.block(*drafts)
    opened = world.now
    world.block(after_ms=HOUR)
    books = Bookkeeper(world)
    left = []
    for _ in range(3):
        left.append(sum(world.lease(draft.lease).state == LeaseState.AWAITING for draft in drafts))
        books.count()
        world.block()
    assert left == [3, 1, 0]
    assert {world.lease(draft.lease).closed_at for draft in drafts} == {opened + 5 * MINUTE}


def test_a_message_first_applies_what_is_overdue_for_its_own_deployment() -> None:
    world = World("alice", "paul", **FREE, due_per_block=1)
    alice, paul = world.actors("alice", "paul")
    world.block(paul.registers())
    drafts = [alice.leases((paul, 3_600), deposit=1_000) for _ in range(3)]
    world.block(*drafts)
    activations = [paul.activates(draft.lease, receipt_of=alice) for draft in drafts]
    assert codes(world.block(*activations, after_ms=HOUR).events) == ["lease.state"] * 3
    Bookkeeper(world).count()


def test_a_window_that_parameters_shorten_is_over_at_once_and_nothing_is_paid_backwards() -> None:
    """The lease beside it was paid since; to settle it as of the moment the window ended would take money back."""
    world = World("alice", "paul", "petra", "eve", authority="eve", **FREE | {"handoff_window_ms": 10 * MINUTE})
    alice, paul, petra, eve = world.actors("alice", "paul", "petra", "eve")
    world.block(paul.registers(), petra.registers())
    draft = alice.leases((paul, 3_600_000), (petra, 3_600_000), deposit=10_000_000)
    world.block(draft)
    served, awaiting = sorted(draft.leases, key=lambda lease: world.lease(lease).provider != paul.key)
    world.block(paul.activates(served, receipt_of=alice))
    world.block(eve.sets(handoff_window_ms=5_000), after_ms=5 * MINUTE)
    world.block(paul.withdraws(served), paul.pays(alice, RICH), after_ms=MINUTE)
    paid = paul.credits
    assert world.deployment(draft.deployment).due_at == world.now
    world.block()
    assert world.lease(awaiting).state == LeaseState.CLOSED
    assert world.lease(served).state == LeaseState.ACTIVE
    assert paul.credits == paid
    Bookkeeper(world).count()
