"""A lease from hand-off to its end: accrual, lapse, payment, closing, refunds."""

from __future__ import annotations

import pytest
from tests.support.ledger import HOUR, MINUTE, of_kind
from tests.support.stories import NOBODY, Story

from fondaco.protocol.events import (
    HandoffLapsed,
    LeaseActivated,
    LeaseClosed,
    Paid,
    Refunded,
)
from fondaco.protocol.market import SignedReceipt
from fondaco.protocol.messages import Activate
from fondaco.protocol.reasons import HANDOFF_TIMEOUT
from fondaco.protocol.records import TOTALS, DeploymentState, LeaseState, Totals
from fondaco.protocol.scalars import Hash, MicroCredits

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
