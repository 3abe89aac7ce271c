"""How leases end: with notice, all at once, or because their provider is gone."""

from __future__ import annotations

import itertools

import pytest
from tests.support.ledger import HOUR, MINUTE, of_kind
from tests.support.stories import Story

from fondaco.protocol import reasons
from fondaco.protocol.events import HandoffLapsed, LeaseClosed, LeaseReclaimed, ProviderAlive
from fondaco.protocol.messages import Alive, CloseDeployment, CloseLease, Reclaim
from fondaco.protocol.records import DeploymentState, LeaseState, Reclamation
from fondaco.protocol.scalars import DeploymentId, Millis

COVER, FAULT = 20 * MINUTE, 30 * MINUTE
SILENCE = {"alive_cover_ms": COVER, "fault_after_ms": FAULT}


# Signs of life


def test_a_lease_accrues_for_twenty_minutes_after_the_last_sign_of_life() -> None:
    story = Story(3_600, deposit=50_000, **SILENCE)
    story.activate()
    story.block(after_ms=19 * MINUTE)
    story.block(story.paul.withdraws(story.leases[0]), after_ms=5 * MINUTE)
    assert story.paid() == 20 * 60
    assert story.world.lease(story.leases[0]).active_ms == COVER


def test_a_sign_in_time_leaves_no_gap_and_one_that_comes_late_does() -> None:
    story = Story(3_600, deposit=90_000, **SILENCE)
    story.activate()
    for _ in range(3):
        story.block(story.paul.does(Alive()), after_ms=10 * MINUTE)
        (event,) = of_kind(story.events, ProviderAlive)
        assert event.silent_ms == 0
    story.block(story.paul.does(Alive()), after_ms=25 * MINUTE)
    (event,) = of_kind(story.events, ProviderAlive)
    assert event.silent_ms == 5 * MINUTE
    story.block(story.paul.withdraws(story.leases[0]), after_ms=1_000)
    assert story.paid() == (30 + 20) * 60 + 1


def test_the_silence_of_one_provider_is_not_that_of_the_other() -> None:
    story = Story(3_600, 3_600, deposit=90_000, **SILENCE)
    story.activate(0, 1)
    story.block(story.petra.does(Alive()), after_ms=15 * MINUTE)
    story.block(story.paul.withdraws(story.leases[0]), after_ms=15 * MINUTE)
    assert (story.paid(0), story.paid(1)) == (20 * 60, 30 * 60)


def test_while_its_provider_is_silent_an_escrow_does_not_run_dry_and_is_seldom_looked_at() -> None:
    story = Story(3_600, deposit=1_201, grace_ms=2 * HOUR, **SILENCE)
    story.activate()
    moments = []
    for _ in range(10):
        due = story.world.ledger.next_due_moment()
        assert due is not None
        moments.append(due)
        story.block(after_ms=due - story.world.now)
    assert story.state == DeploymentState.OPEN
    assert story.funds == 1
    assert all(later - earlier == COVER for earlier, later in itertools.pairwise(moments[1:]))
    story.block(story.paul.does(Alive()), after_ms=7 * MINUTE)
    began = story.world.now
    story.block(after_ms=COVER)
    assert story.state == DeploymentState.GRACE
    assert story.world.deployment(story.deployment).dry_at == began + 1_000, "found late, and as of that moment"


def test_only_a_registered_provider_gives_signs_of_life() -> None:
    story = Story(3_600)
    assert story.block(story.bob.does(Alive())) == ["provider.unknown"]


def test_grace_and_resumption_do_not_count_silence_either() -> None:
    story = Story(3_600, deposit=3_600, grace_ms=2 * HOUR, **SILENCE)
    story.activate()
    story.block(story.paul.does(Alive()), after_ms=COVER)
    for _ in range(3):
        story.block(story.paul.does(Alive()), after_ms=COVER)
    assert story.state == DeploymentState.GRACE
    story.block(after_ms=HOUR)
    story.block(story.bob.deposits(story.deployment, 50_000))
    assert story.state == DeploymentState.OPEN
    story.block(story.paul.withdraws(story.leases[0]), after_ms=5 * MINUTE)
    assert story.paid() == 3_600, "silent when it was resumed"
    story.block(story.paul.does(Alive()))
    story.block(story.paul.withdraws(story.leases[0]), after_ms=2_000)
    assert story.paid() == 3_602


# Anybody


def test_anybody_may_close_what_a_silent_provider_left() -> None:
    story = Story(3_600, deposit=50_000, **SILENCE)
    story.activate()
    closing = story.bob.closes(story.leases[0], reason=reasons.FAULT)
    assert story.block(closing, after_ms=FAULT) == ["lease.party"]
    wrong = story.bob.closes(story.leases[0], reason=0)
    assert story.block(wrong) == ["lease.reason"]
    assert story.block(closing) == [""]
    assert story.lease_state() == LeaseState.CLOSED
    assert story.world.lease(story.leases[0]).reason == reasons.FAULT
    assert story.paid() == 20 * 60
    assert story.alice.credits == 100_000 - story.paid()


# All at once


def test_a_tenant_closes_a_whole_deployment() -> None:
    story = Story(3_600, 7_200, deposit=10_000)
    story.activate(0, 1)
    story.block(story.alice.does(CloseDeployment(deployment=story.deployment, reason=7)), after_ms=10_000)
    assert story.state == DeploymentState.CLOSED
    assert [story.world.lease(lease).reason for lease in story.leases] == [7, 7]
    assert (story.paid(0), story.paid(1)) == (10, 20)
    assert story.alice.credits == 100_000 - 30


def test_it_leaves_leases_that_have_ended_as_they_are() -> None:
    story = Story(3_600, 7_200, deposit=10_000)
    story.activate(0, 1)
    closing = story.alice.does(CloseDeployment(deployment=story.deployment, reason=7))
    assert story.block(story.alice.closes(story.leases[0], reason=3), closing, closing) == [
        "",
        "",
        "deployment.closed",
    ]
    assert [story.world.lease(lease).reason for lease in story.leases] == [3, 7]


def test_nobody_else_closes_a_deployment_and_the_reason_is_the_tenants() -> None:
    story = Story(3_600)
    assert story.block(story.bob.does(CloseDeployment(deployment=story.deployment, reason=0))) == [
        "deployment.tenant"
    ]
    assert story.block(story.alice.does(CloseDeployment(deployment=story.deployment, reason=10_000))) == [
        "lease.reason"
    ]
    nothing = DeploymentId(bytes(32))
    assert story.block(story.alice.does(CloseDeployment(deployment=nothing, reason=0))) == ["deployment.unknown"]


# With notice


def test_a_provider_that_promised_notice_reclaims_and_the_ledger_closes() -> None:
    story = Story(3_600, deposit=50_000, window_ms=HOUR)
    story.activate()
    assert story.block(story.paul.closes(story.leases[0], reason=10_000)) == ["lease.reclamation"]
    reclaiming = story.paul.does(Reclaim(lease=story.leases[0], reason=reasons.DECOMMISSION))
    assert story.block(reclaiming) == [""]
    at = story.world.now + HOUR
    (event,) = of_kind(story.events, LeaseReclaimed)
    assert (event.at, event.reason) == (at, reasons.DECOMMISSION)
    assert story.world.lease(story.leases[0]).reclamation == Reclamation(
        at=Millis(at), reason=reasons.DECOMMISSION
    )
    assert story.world.ledger.next_due_moment() == at
    assert story.block(reclaiming) == ["lease.reclaimed"]
    story.block(after_ms=2 * HOUR)
    lease = story.world.lease(story.leases[0])
    assert (lease.state, lease.closed_at, lease.reason) == (LeaseState.CLOSED, at, reasons.DECOMMISSION)
    assert lease.activated_at is not None
    assert story.paid() == (at - lease.activated_at) // 1_000, "served and paid until then, and no longer"
    assert of_kind(story.events, LeaseClosed) != []


def test_the_tenant_may_close_before_the_window_is_over() -> None:
    story = Story(3_600, deposit=50_000, window_ms=HOUR)
    story.activate()
    story.block(story.paul.does(Reclaim(lease=story.leases[0], reason=10_000)))
    assert story.block(story.alice.closes(story.leases[0])) == [""]
    assert story.world.ledger.next_due_moment() is None


def test_an_escrow_that_runs_dry_in_the_window_ends_the_lease_by_itself() -> None:
    story = Story(3_600_000, deposit=10_000, window_ms=HOUR, grace_ms=MINUTE)
    story.activate()
    story.block(story.paul.does(Reclaim(lease=story.leases[0], reason=10_000)))
    story.block(after_ms=30 * MINUTE)
    assert story.world.lease(story.leases[0]).reason == reasons.INSUFFICIENT_FUNDS


@pytest.mark.parametrize(
    ("who", "reason", "window_ms", "code"),
    [
        ("alice", 10_000, HOUR, "lease.provider"),
        ("paul", 0, HOUR, "lease.reason"),
        ("paul", 20_000, HOUR, "lease.reason"),
        ("paul", 10_000, 0, "lease.window"),
    ],
)
def test_what_is_no_reclamation_is_refused(who: str, reason: int, window_ms: int, code: str) -> None:
    story = Story(3_600, deposit=50_000, window_ms=window_ms)
    story.activate()
    (actor,) = story.world.actors(who)
    assert story.block(actor.does(Reclaim(lease=story.leases[0], reason=reason))) == [code]


def test_what_has_ended_is_not_reclaimed_or_closed_again() -> None:
    story = Story(3_600, deposit=50_000, window_ms=HOUR)
    story.block(story.alice.closes(story.leases[0]))
    assert story.block(story.paul.does(Reclaim(lease=story.leases[0], reason=10_000))) == ["lease.closed"]
    assert story.block(story.paul.does(CloseLease(lease=story.leases[0], reason=10_000))) == ["lease.closed"]


# Before the hand-off


def test_a_tenant_that_lets_its_provider_wait_pays_for_the_wait_when_it_closes() -> None:
    story = Story(3_600_000, deposit=50_000, handoff_fee_cap=30_000)
    story.block(story.alice.closes(story.leases[0]), after_ms=10_000)
    assert story.alice.credits == 100_000 - 10_000
    assert of_kind(story.events, HandoffLapsed)[0].fee == 10_000


def test_no_more_than_the_cap_and_nothing_where_the_provider_closes() -> None:
    story = Story(3_600_000, 3_600_000, deposit=50_000, handoff_fee_cap=7)
    story.block(story.paul.closes(story.leases[0], reason=reasons.MANIFEST_TIMEOUT), after_ms=10_000)
    assert of_kind(story.events, HandoffLapsed) == []
    story.block(story.alice.closes(story.leases[1]))
    assert story.alice.credits == 100_000 - 7


def test_reasons_have_names() -> None:
    assert reasons.describe(reasons.FAULT) == "fault (20002, the network)"
    assert reasons.describe(10_000) == "unstable (10000, the provider)"
    assert reasons.describe(17) == "17 (the tenant)"
