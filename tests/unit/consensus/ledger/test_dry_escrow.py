"""An escrow that runs dry, and whose money is spent first: grace, resumption, debts, depositors."""

from __future__ import annotations

from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, HOUR, MINUTE, RICH, World, codes, of_kind
from tests.support.stories import GRACE, Story

from fondaco.protocol.events import (
    Deposited,
    HandoffLapsed,
    LeaseClosed,
    Paid,
    RanDry,
    Refunded,
    Resumed,
)
from fondaco.protocol.reasons import INSUFFICIENT_FUNDS
from fondaco.protocol.records import DeploymentState, LeaseState
from fondaco.protocol.scalars import DeploymentId, MicroCredits

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
