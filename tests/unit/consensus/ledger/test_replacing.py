"""A running deployment changes: its tenant wants another manifest run, or another provider to run it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.ledger import ANYWHERE, HOUR, MINUTE, UNIT, Draft, a_group, of_kind
from tests.support.stories import Story

from fondaco.protocol import limits
from fondaco.protocol.events import HandoffLapsed, LeaseClosed, LeaseOpened, LeaseReplaced, ManifestUpdated
from fondaco.protocol.market import Replaced, lease_id
from fondaco.protocol.messages import Activate
from fondaco.protocol.records import DeploymentState, LeaseState, key_lease
from fondaco.protocol.resources import Placement
from fondaco.protocol.scalars import DeploymentId, GroupIndex, Hash, MicroCredits, Millis, TemplateId

OTHER = Hash(b"\x07" * 32)
PRICE = 3_600


def moved(story: Story, *, price: int = PRICE, **order: Any) -> Draft:
    """Group 0, from paul to petra."""
    return story.alice.moves(story.deployment, story.petra, price, **order)


# Another manifest


def test_an_update_asks_for_the_next_version_and_needs_its_own_receipt() -> None:
    story = Story(PRICE)
    assert story.block(story.alice.updates(story.deployment, OTHER)) == [""]
    (event,) = of_kind(story.events, ManifestUpdated)
    assert (event.lease, event.version, event.commitment) == (story.leases[0], 2, OTHER)
    assert story.block(story.activation()) == ["receipt.manifest"]
    receipt = story.alice.receipt(story.leases[0], version=2, commitment=OTHER)
    assert story.block(story.paul.does(Activate(receipt=receipt))) == [""]


def test_an_update_of_what_runs_changes_nothing_that_is_paid() -> None:
    story = Story(PRICE, deposit=50_000)
    story.activate()
    story.block(story.alice.updates(story.deployment, OTHER), after_ms=MINUTE)
    story.block(story.paul.withdraws(story.leases[0]), after_ms=MINUTE)
    assert story.paid() == 120
    assert story.world.lease(story.leases[0]).version == 2


def test_who_may_update_what() -> None:
    story = Story(PRICE, PRICE)
    same = story.world.lease(story.leases[0]).commitment
    nowhere = DeploymentId(bytes(32))
    assert story.block(
        story.paul.updates(story.deployment, OTHER),
        story.alice.updates(nowhere, OTHER),
        story.alice.updates(story.deployment, OTHER, group=2),
        story.alice.updates(story.deployment, same),
        story.alice.updates(story.deployment, OTHER, group=1),
        story.alice.closes(story.leases[0]),
        story.alice.updates(story.deployment, OTHER),
    ) == [
        "deployment.tenant",
        "deployment.unknown",
        "deployment.group",
        "update.same",
        "",
        "",
        "lease.closed",
    ]


# Another provider


def test_another_provider_takes_over_in_one_block_from_the_same_escrow() -> None:
    story = Story(PRICE, deposit=50_000)
    story.activate()
    assert story.block(moved(story, price=1_800), after_ms=MINUTE) == [""]
    old, new = story.world.lease(story.leases[0]), story.world.newest(story.deployment)
    assert (old.state, old.reason, old.paid) == (LeaseState.CLOSED, 2, 60)
    assert (new.state, new.provider, new.price_per_hour) == (LeaseState.AWAITING, story.petra.key, 1_800)
    assert new.id == lease_id(story.deployment, GroupIndex(0), 1)
    assert (new.generation, new.version, new.commitment) == (1, old.version, old.commitment)
    assert story.funds == 50_000 - 60
    (opened,), (gave_way,) = of_kind(story.events, LeaseOpened), of_kind(story.events, LeaseReplaced)
    assert (opened.lease, opened.deployment, opened.group) == (new.id, story.deployment, 0)
    assert opened.order != story.deployment
    assert (gave_way.lease, gave_way.by) == (old.id, new.id)
    assert len(of_kind(story.events, LeaseClosed)) == 1
    assert story.block(story.petra.activates(new.id, receipt_of=story.alice), after_ms=MINUTE) == [""]
    story.block(story.petra.withdraws(new.id), after_ms=10 * MINUTE)
    assert story.world.lease(new.id).paid == 300, "its clock begins with its own hand-off"


def test_the_version_goes_on_counting() -> None:
    story = Story(PRICE, deposit=50_000)
    story.block(story.alice.updates(story.deployment, OTHER))
    assert story.block(moved(story)) == ["order.commitment"]
    assert story.block(moved(story, commitments=(OTHER,))) == [""]
    assert story.world.newest(story.deployment).version == 2


def test_the_other_groups_notice_nothing() -> None:
    story = Story(PRICE, PRICE, deposit=50_000)
    story.activate(0, 1)
    assert story.block(story.alice.moves(story.deployment, story.paul, PRICE, group=1)) == [""]
    assert story.lease_state(0) == LeaseState.ACTIVE
    assert story.world.newest(story.deployment, 1).provider == story.paul.key
    assert story.world.deployment(story.deployment).leases == (
        story.leases[0],
        lease_id(story.deployment, GroupIndex(1), 1),
    )


def test_a_lease_that_has_ended_already_is_replaced_while_the_deployment_goes_on() -> None:
    story = Story(PRICE, PRICE, deposit=50_000, closed_kept_ms=HOUR)
    story.activate(0, 1)
    story.block(story.paul.closes(story.leases[0], reason=10_000))
    ended = story.world.lease(story.leases[0])
    assert story.block(moved(story), after_ms=MINUTE) == [""]
    assert story.world.lease(story.leases[0]) == ended
    story.block(after_ms=HOUR - MINUTE)
    assert story.world.ledger.state().get(key_lease(story.leases[0]), type(ended)) is None


def test_a_replaced_lease_leaves_by_itself_and_the_deployment_with_its_newest() -> None:
    story = Story(PRICE, deposit=50_000, closed_kept_ms=HOUR)
    story.activate()
    story.block(moved(story))
    new = story.world.newest(story.deployment)
    story.block(story.petra.activates(new.id, receipt_of=story.alice), after_ms=MINUTE)
    story.block(after_ms=HOUR)
    assert story.world.newest(story.deployment).id == new.id
    assert story.world.ledger.state().get(key_lease(story.leases[0]), type(new)) is None
    story.block(story.alice.closes(new.id))
    story.block(after_ms=HOUR)
    assert story.world.ledger.state().get(key_lease(new.id), type(new)) is None


def test_nothing_happens_to_a_lease_that_was_replaced() -> None:
    story = Story(PRICE, deposit=50_000, window_ms=HOUR)
    story.activate()
    story.block(moved(story), after_ms=MINUTE)
    before = story.world.lease(story.leases[0])
    (lease,) = story.leases
    assert story.block(
        story.paul.withdraws(lease),
        story.paul.reclaims(lease),
        story.paul.activates(lease, receipt_of=story.alice),
        story.alice.closes(lease),
        after_ms=MINUTE,
    ) == ["", "lease.closed", "lease.state", "lease.closed"]
    assert story.world.lease(lease) == before


def test_again_and_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEASE_GENERATIONS", range(1, 4))
    story = Story(PRICE, deposit=50_000)
    for _ in range(3):
        assert story.block(moved(story)) == [""]
    assert story.world.newest(story.deployment).generation == 3
    assert story.block(moved(story)) == ["order.replaces"]


def test_an_order_is_for_the_lease_that_was_there_when_it_was_made() -> None:
    story = Story(PRICE, deposit=50_000)
    late = moved(story)
    assert story.block(moved(story)) == [""]
    assert story.block(late) == ["order.replaces"], "its bidder would not know its lease"


def test_who_lets_a_provider_wait_and_takes_another_pays_for_the_wait() -> None:
    story = Story(PRICE, deposit=50_000)
    assert story.block(moved(story), after_ms=MINUTE) == [""]
    (event,) = of_kind(story.events, HandoffLapsed)
    assert (event.lease, event.fee) == (story.leases[0], 60)
    assert story.funds == 50_000 - 60


def test_a_new_provider_that_is_not_handed_the_workload_ends_the_deployment() -> None:
    story = Story(PRICE, deposit=50_000)
    story.activate()
    story.block(moved(story))
    due = story.world.ledger.next_due_moment()
    assert due is not None
    story.block(after_ms=due - story.world.now)
    assert story.state == DeploymentState.CLOSED
    assert story.world.newest(story.deployment).state == LeaseState.CLOSED


def test_an_announced_end_is_not_the_new_leases() -> None:
    story = Story(PRICE, deposit=50_000, window_ms=HOUR)
    story.activate()
    story.block(story.paul.reclaims(story.leases[0]))
    assert story.block(moved(story)) == [""]
    new = story.world.newest(story.deployment)
    assert new.reclamation is None
    story.block(story.petra.activates(new.id, receipt_of=story.alice))
    story.block(after_ms=2 * HOUR)
    assert story.world.newest(story.deployment).state == LeaseState.ACTIVE


def test_what_the_escrow_must_still_hold() -> None:
    story = Story(PRICE, deposit=100, min_runway_ms=MINUTE)
    story.activate()
    assert story.block(moved(story), after_ms=39_000) == [""]
    assert story.funds == 61
    story = Story(PRICE, deposit=100, min_runway_ms=MINUTE)
    story.activate()
    assert story.block(moved(story), after_ms=41_000) == ["escrow.runway"]
    assert story.lease_state() == LeaseState.ACTIVE
    story.block(after_ms=MINUTE)
    assert story.state == DeploymentState.GRACE
    assert story.block(moved(story)) == ["deployment.dry"]


def test_an_order_replaces_once_and_opens_nothing() -> None:
    story = Story(PRICE, deposit=50_000)
    draft = moved(story)
    order = story.alice.reorder(story.deployment, price=PRICE)
    assert story.block(draft) == [""]
    assert story.block(draft) == ["order.used"]
    assert story.block(story.alice.opens(order, story.petra.bid(order, PRICE), deposit=10_000)) == [
        "order.replaces"
    ]


def test_what_no_order_for_a_replacement_can_be() -> None:
    story = Story(PRICE, PRICE, deposit=50_000)
    story.activate(0, 1)
    alice, petra, deployment = story.alice, story.petra, story.deployment
    bigger = replace(UNIT, count=2)
    first = Replaced(deployment=deployment, group=GroupIndex(0), generation=1)
    two = alice.order(a_group("a"), a_group("b"), replaces=first)
    plain = alice.order(a_group(price=PRICE))
    whole = alice.order(a_group(units=(bigger,), price=PRICE), replaces=first)
    elsewhere = alice.reorder(deployment, group=1, price=PRICE)
    unreal = alice.reorder(deployment, group=7, price=PRICE)
    paid = alice.reorder(deployment, price=PRICE, deposit=MicroCredits(1))
    bobs = story.bob.reorder(deployment, price=PRICE)
    assert story.block(
        alice.replaces(deployment, two, petra.bid(two, PRICE)),
        alice.replaces(deployment, plain, petra.bid(plain, PRICE)),
        alice.replaces(deployment, whole, petra.bid(whole, PRICE)),
        alice.replaces(deployment, elsewhere, petra.bid(elsewhere, PRICE)),
        alice.replaces(deployment, unreal, petra.bid(unreal, PRICE), group=7),
        alice.replaces(deployment, paid, petra.bid(paid, PRICE)),
        alice.replaces(deployment, bobs, petra.bid(bobs, PRICE)),
        story.bob.replaces(deployment, bobs, petra.bid(bobs, PRICE)),
        moved(story, reason=10_000),
        moved(story, template=TemplateId(bytes(32))),
        alice.moves(DeploymentId(bytes(32)), petra, PRICE),
    ) == [
        "bid.count",
        "order.replaces",
        "order.resources",
        "order.replaces",
        "deployment.group",
        "order.replaces",
        "order.tenant",
        "deployment.tenant",
        "lease.reason",
        "order.template",
        "deployment.unknown",
    ]


def test_the_new_provider_must_fit_as_for_any_order() -> None:
    story = Story(PRICE, deposit=50_000)
    order = story.alice.reorder(story.deployment, price=PRICE)
    somewhere = Placement(attributes=ANYWHERE.attributes, all_of=(story.bob.key,), any_of=())
    picky = story.alice.order(
        a_group(price=PRICE, placement=somewhere),
        replaces=Replaced(deployment=story.deployment, group=GroupIndex(0), generation=1),
    )
    assert story.block(
        story.alice.replaces(story.deployment, order, story.petra.bid(order, PRICE + 1)),
        story.alice.replaces(story.deployment, order, story.bob.bid(order, PRICE)),
        story.alice.replaces(story.deployment, picky, story.petra.bid(picky, PRICE)),
        story.petra.retires(reclaim=True),
        story.alice.replaces(story.deployment, order, story.petra.bid(order, PRICE)),
    ) == ["price.above_maximum", "provider.unknown", "placement.unmet", "", "provider.unknown"]


def test_a_deployment_that_has_ended_cannot_be_mended() -> None:
    story = Story(PRICE, deposit=50_000)
    story.activate()
    story.block(story.alice.closes(story.leases[0]))
    assert story.block(moved(story)) == ["deployment.closed"]


def test_a_judged_replacement_is_not_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(PRICE, deposit=50_000)
    draft = moved(story)
    at = Millis(story.world.now + 1_000)
    raw = story.world.sign(draft, at=at)
    story.world.ledger.check_tx(raw, now=at)
    story.world.judged = False
    checks = []
    monkeypatch.setattr("fondaco.consensus.ledger.leasing.check_order", lambda *_, **__: checks.append(1))
    story.world.block(raw)
    assert not checks
    assert story.world.newest(story.deployment).generation == 1
