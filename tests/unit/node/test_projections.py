"""What will become of a deployment: reckoned by hand, and held against what the ledger then does."""

from __future__ import annotations

from tests.support.ledger import FREE, HOUR, MINUTE, World

from fondaco.node.projections import Due, Projection, project
from fondaco.protocol.records import DeploymentState, LeaseState
from fondaco.protocol.scalars import DeploymentId


def test_each_thing_that_happens_by_itself_is_foretold() -> None:
    world = World("alice", "paul", "petra", **FREE | {"grace_ms": 2 * HOUR})
    alice, paul, petra = world.actors("alice", "paul", "petra")
    world.block(paul.registers(), petra.registers())
    draft = alice.leases((paul, 1_000), (petra, 3_000), deposit=10_000)
    opened = world.block(draft).block.header.time
    one, two = draft.leases

    def projected() -> Projection:
        found = project(world.ledger.state(), draft.deployment, now=world.now)
        assert found is not None
        return found

    found = projected()
    assert (found.next_due, found.next_due_at) == (Due.HANDOFF_LAPSES, opened + 5 * MINUTE)
    assert (found.funds, found.runway_ms, found.dry_at) == (10_000, None, None)
    world.block(paul.activates(one, receipt_of=alice), petra.activates(two, receipt_of=alice))
    start = world.now
    world.block(paul.withdraws(one), after_ms=HOUR)
    world.block(after_ms=HOUR // 2)
    found = projected()
    assert (found.next_due, found.next_due_at) == (Due.RUNS_DRY, start + 5 * HOUR // 2)
    assert (found.price_per_hour, found.funds, found.runway_ms) == (4_000, 4_000, HOUR)
    by_lease = {each.lease: (each.earned, each.paid, each.state) for each in found.leases}
    assert by_lease == {one: (1_500, 1_000, LeaseState.ACTIVE), two: (4_500, 3_000, LeaseState.ACTIVE)}
    world.block(after_ms=2 * HOUR)
    found = projected()
    assert (found.state, found.next_due) == (DeploymentState.GRACE, Due.GRACE_ENDS)
    assert (found.dry_at, found.next_due_at) == (start + 5 * HOUR // 2, start + 9 * HOUR // 2)
    assert (found.funds, found.runway_ms, found.price_per_hour) == (0, None, 0)
    world.block(after_ms=2 * HOUR)
    found = projected()
    assert (found.state, found.next_due, found.next_due_at) == (DeploymentState.CLOSED, None, None)


def test_the_moment_foretold_is_the_moment_it_happens() -> None:
    world = World("alice", "paul", **FREE)
    alice, paul = world.actors("alice", "paul")
    world.block(paul.registers())
    draft = alice.leases((paul, 777), deposit=1_234)
    world.block(draft)
    world.block(paul.activates(draft.lease, receipt_of=alice))
    found = project(world.ledger.state(), draft.deployment, now=world.now)
    assert found is not None
    assert found.runway_ms is not None
    world.block(after_ms=found.runway_ms - 1)
    assert world.deployment(draft.deployment).state == DeploymentState.OPEN
    world.block(after_ms=1)
    assert world.deployment(draft.deployment).dry_at == found.dry_at


def test_of_what_is_not_there_nothing_is_foretold() -> None:
    world = World("alice", **FREE)
    world.block()
    assert project(world.ledger.state(), DeploymentId(bytes(32)), now=world.now) is None
