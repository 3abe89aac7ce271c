"""How providers go, with or without leases, and how what ended leaves the state."""

from __future__ import annotations

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.heirs import heritage
from tests.support.ledger import FREE, HOUR, MINUTE, RICH, World, of_kind
from tests.support.stories import Story

from fondaco.consensus.ledger.recount import count_again
from fondaco.protocol import limits, reasons
from fondaco.protocol.events import (
    AttestationLost,
    LeaseClosed,
    LeaseReclaimed,
    Loss,
    ProviderRetired,
    ProviderRetiring,
)
from fondaco.protocol.records import (
    Deployment,
    Lease,
    LeaseState,
    Provider,
    Reclamation,
    SignsOfLife,
    key_alive,
    key_deployment,
    key_lease,
    key_provider,
)
from fondaco.protocol.scalars import Millis

LONG = {"min_runway_ms": 1_000, "handoff_window_ms": HOUR * 24}


# Retiring


def test_a_provider_without_leases_goes_and_its_bond_comes_back() -> None:
    story = Story(3_600)
    assert story.petra.stake == RICH - 1_000_000
    assert story.block(story.petra.retires()) == [""]
    assert story.petra.stake == RICH
    (event,) = of_kind(story.events, ProviderRetired)
    assert (event.provider, event.bond) == (story.petra.key, 1_000_000)
    state = story.world.ledger.state()
    assert state.get(key_provider(story.petra.key), Provider) is None
    assert state.get(key_alive(story.petra.key), SignsOfLife) is None
    assert story.block(story.petra.retires(), story.petra.lives()) == ["provider.unknown"] * 2


def test_what_was_attested_of_it_dies_as_it_goes() -> None:
    story = Story(3_600)
    story.block(story.petra.registers(attributes=[("region", "eu")]))
    assert story.block(story.bob.attests(story.petra, [("region", "eu")])) == [""]
    assert story.block(story.petra.retires()) == [""]
    (lost,) = of_kind(story.events, AttestationLost)
    assert (lost.auditor, lost.cause) == (story.bob.key, Loss.CHANGED)


def test_a_chain_goes_on_with_a_provider_that_is_about_to_go() -> None:
    story = Story(3_600, 3_600, 3_600, deposit=90_000, window_ms=HOUR)
    story.block(story.alice.closes(story.leases[1]))
    assert story.block(story.paul.retires(reclaim=True)) == [""]
    genesis, records = heritage(story.world)
    assert count_again(genesis, records).records["retiring"] == 1


def test_a_retired_provider_gets_no_lease_and_may_come_back() -> None:
    story = Story(3_600)
    story.block(story.petra.retires())
    assert story.block(story.bob.leases((story.petra, 3_600), deposit=10_000)) == ["provider.unknown"]
    assert story.block(story.petra.registers()) == [""]
    assert story.block(story.bob.leases((story.petra, 3_600), deposit=10_000)) == [""]


@pytest.mark.parametrize("activated", [False, True])
def test_with_a_live_lease_it_is_refused(activated: bool) -> None:
    story = Story(3_600)
    if activated:
        story.activate()
    assert story.block(story.paul.retires()) == ["provider.leases"]
    assert story.paul.stake == RICH - 1_000_000
    story.block(story.alice.closes(story.leases[0]))
    assert story.block(story.paul.retires()) == [""]


def test_without_a_promise_of_notice_its_leases_end_at_once() -> None:
    story = Story(3_600)
    story.activate()
    assert story.block(story.paul.retires(reclaim=True), after_ms=10_000) == [""]
    (closed,) = of_kind(story.events, LeaseClosed)
    assert (closed.reason, closed.paid) == (reasons.DECOMMISSION, 10)
    assert len(of_kind(story.events, ProviderRetired)) == 1
    assert story.alice.credits == 100_000 - 10


def test_with_a_promise_of_notice_it_stays_until_the_ledger_has_closed_them() -> None:
    story = Story(3_600, deposit=90_000, window_ms=HOUR)
    story.activate()
    assert story.block(story.paul.retires(reclaim=True)) == [""]
    assert of_kind(story.events, ProviderRetiring)
    assert of_kind(story.events, LeaseReclaimed)
    at = Millis(story.world.now + HOUR)
    assert story.world.lease(story.leases[0]).reclamation == Reclamation(at=at, reason=reasons.DECOMMISSION)
    assert story.block(story.paul.retires(reclaim=True)) == [""]
    assert not of_kind(story.events, ProviderRetiring), "said once"
    assert story.world.lease(story.leases[0]).reclamation == Reclamation(at=at, reason=reasons.DECOMMISSION)
    assert story.block(story.bob.leases((story.paul, 3_600), deposit=10_000)) == ["provider.retiring"]
    assert story.block(story.paul.retires(), after_ms=HOUR) == [""]
    assert story.paid() == 1 + 3_600, "served until the window was over, and not beyond"
    assert story.paul.stake == RICH


def test_who_registers_anew_stays() -> None:
    story = Story(3_600, deposit=90_000, window_ms=HOUR)
    story.block(story.paul.retires(reclaim=True))
    assert story.block(story.paul.registers(), story.bob.leases((story.paul, 1), deposit=100)) == ["", ""]


def test_a_lease_whose_time_was_over_holds_nobody_back_though_the_ledger_is_behind() -> None:
    world = World("alice", "bob", "paul", "petra", **FREE | {"due_per_block": 1})
    alice, bob, paul, petra = world.actors("alice", "bob", "paul", "petra")
    world.block(paul.registers(), petra.registers())
    world.block(alice.leases((petra, 3_600), deposit=1_000))
    world.block(bob.leases((paul, 3_600), deposit=1_000))
    assert world.code(paul.retires(), after_ms=6 * MINUTE) == ""
    Bookkeeper(world).count()


def test_each_message_ends_so_many_leases_and_the_last_one_pays_the_bond() -> None:
    world = World("alice", "paul", **FREE | LONG)
    books, (alice, paul) = Bookkeeper(world), world.actors("alice", "paul")
    world.block(paul.registers())
    many = 2 * limits.RETIREMENT_LEASES + 1
    drafts = [
        alice.leases((paul, 3_600), deposit=1_000, reclamation_window_ms=Millis(HOUR * (place % 2)))
        for place in range(many)
    ]
    world.block(*drafts)
    ended = []
    for _ in range(3):
        events = world.block(paul.retires(reclaim=True)).events
        books.count()
        ended.append(len(of_kind(events, LeaseClosed)) + len(of_kind(events, LeaseReclaimed)))
    assert ended == [limits.RETIREMENT_LEASES] * 2 + [1]
    world.block(after_ms=HOUR)
    assert world.code(paul.retires()) == ""
    assert paul.stake == RICH
    books.count()


# Leaving the state


def test_what_ended_leaves_the_state_after_a_while() -> None:
    story = Story(3_600, 3_600, closed_kept_ms=HOUR)
    story.block(story.alice.closes(story.leases[0]))
    story.block(after_ms=MINUTE)
    story.block(story.alice.closes(story.leases[1]))
    since = story.world.now
    story.block(after_ms=HOUR - 1)
    assert story.lease_state() == LeaseState.CLOSED
    story.block(after_ms=1)
    assert story.world.now == since + HOUR
    state = story.world.ledger.state()
    assert state.get(key_deployment(story.deployment), Deployment) is None
    assert all(state.get(key_lease(lease), Lease) is None for lease in story.leases)
    assert story.block(story.paul.withdraws(story.leases[0])) == ["lease.unknown"]
    assert story.block(story.alice.deposits(story.deployment, 5)) == ["deployment.unknown"]


def test_so_many_leave_in_one_block_and_the_oldest_first() -> None:
    world = World("alice", "paul", **FREE | {"due_per_block": 2, "closed_kept_ms": HOUR})
    books, (alice, paul) = Bookkeeper(world), world.actors("alice", "paul")
    world.block(paul.registers())
    drafts = [alice.leases((paul, 3_600), deposit=1_000) for _ in range(5)]
    world.block(*drafts)
    for draft in drafts:
        world.block(alice.closes(draft.lease))
    left = []
    for _ in range(3):
        world.block(after_ms=HOUR)
        books.count()
        state = world.ledger.state()
        left.append([draft.lease for draft in drafts if state.get(key_lease(draft.lease), Lease)])
    assert left == [[draft.lease for draft in drafts[place:]] for place in (2, 4, 5)]
