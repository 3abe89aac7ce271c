"""What a supervisor makes of what it sees: every condition, every clock, and money to the ucredit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fondaco.node.tenant.supervision import (
    DAY_MS,
    FAILED_KEPT,
    MISSES,
    PAUSE_MS,
    SHUN_MS,
    Act,
    Condition,
    Decision,
    Least,
    Memory,
    Money,
    Seen,
    Settings,
    Spent,
    attempted,
    decide,
    money,
    note,
    top_up,
)
from fondaco.node.tenant.supervisor_file import Remembered, load, save
from fondaco.protocol import reasons
from fondaco.protocol.records import Deployment, DeploymentState, EscrowDeposit, Lease, LeaseState
from fondaco.protocol.scalars import DeploymentId, GroupIndex, Hash, LeaseId, MicroCredits, Millis, PublicKey

TENANT, PAUL, PETRA = (PublicKey(bytes([number]) * 32) for number in (1, 2, 3))
HOUR = 3_600_000
T0 = 1_700_000_000_000
DEPLOYMENT = Deployment(
    id=DeploymentId(bytes(32)),
    tenant=TENANT,
    state=DeploymentState.OPEN,
    leases=(LeaseId(b"\x07" * 32),),
    deposits=(EscrowDeposit(depositor=TENANT, amount=MicroCredits(10_000)),),
    opened_at=Millis(T0),
    dry_at=None,
    due_at=None,
)
LEASE = Lease(
    id=LeaseId(b"\x07" * 32),
    deployment=DEPLOYMENT.id,
    group=GroupIndex(0),
    tenant=TENANT,
    provider=PAUL,
    price_per_hour=MicroCredits(1_000),
    units=(),
    commitment=Hash(bytes(32)),
    version=1,
    reclamation_window_ms=Millis(HOUR),
    state=LeaseState.ACTIVE,
    opened_at=Millis(T0),
    activated_at=Millis(T0),
    active_ms=Millis(0),
    accrued_to=Millis(T0),
    reading=Millis(500),
    paid=MicroCredits(0),
    debt=MicroCredits(0),
    reclamation=None,
    closed_at=None,
    reason=None,
)
GRACE = replace(DEPLOYMENT, state=DeploymentState.GRACE)
OVER = replace(DEPLOYMENT, state=DeploymentState.CLOSED)
ENDED = replace(LEASE, state=LeaseState.CLOSED, reason=reasons.UNSTABLE)
SETTINGS = Settings(away_ms=10_000, unhealthy_ms=60_000)


def seen(at_s: float, what: Condition) -> Seen:
    look = Seen(at=Millis(T0 + round(at_s * 1_000)), deployment=DEPLOYMENT, lease=LEASE)
    match what:
        case Condition.WELL:
            return replace(look, reachable=True, answers=True)
        case Condition.UNWELL:
            return replace(look, reachable=True)
        case Condition.AWAITING:
            return replace(look, reachable=True, lease=replace(LEASE, state=LeaseState.AWAITING))
        case Condition.HELD:
            return replace(look, reachable=True, deployment=GRACE)
        case Condition.PENDING:
            return replace(look, pending=True)
        case Condition.ENDED:
            return replace(look, lease=ENDED)
        case Condition.CLOSED:
            return replace(look, lease=replace(ENDED, reason=reasons.CLOSED_BY_TENANT))
        case Condition.UNKNOWN:
            return replace(look, proven=False)
        case _:
            return look


def watch(*looks: tuple[float, Condition], memory: Memory | None = None) -> tuple[Memory, list[Decision]]:
    """What is remembered in the end, and what was decided at each look."""
    memory, found = memory or Memory(), list[Decision]()
    for at_s, what in looks:
        memory, _ = note(memory, seen(at_s, what), SETTINGS)
        found.append(decide(memory, seen(at_s, what), SETTINGS))
    return memory, found


@pytest.mark.parametrize("what", list(Condition))
def test_each_look_has_its_condition(what: Condition) -> None:
    assert seen(0, what).condition is what


def test_what_the_ledger_knows_no_more_is_left_alone() -> None:
    assert replace(seen(0, Condition.WELL), lease=None).condition is Condition.CLOSED
    assert replace(seen(0, Condition.WELL), deployment=None).condition is Condition.CLOSED


def test_a_provider_that_is_away_is_dead_after_some_time_and_some_looks() -> None:
    _, found = watch(*((at, Condition.AWAY) for at in (0, 4, 8, 12)))
    assert [one.act for one in found] == [Act.NOTHING] * 3 + [Act.REPLACE]
    assert found[-1].reason == reasons.NOT_SERVING
    assert "12.0 s" in found[-1].why


def test_a_clock_that_jumps_kills_nobody() -> None:
    assert MISSES == 3
    for what in (Condition.AWAY, Condition.UNWELL, Condition.AWAITING):
        looks = [(at, what) for at in (0, 1, 3_600, 3_601, 3_602)]
        memory, found = watch(*looks)
        assert not {Act.REPLACE} & {one.act for one in found}
        assert memory.down_since == T0, "it was down all the same"


def test_a_provider_that_answers_in_between_is_not_away() -> None:
    looks = [(at, Condition.AWAY) for at in (0, 4, 8)] + [(9, Condition.UNWELL)]
    _, found = watch(*looks, (12, Condition.AWAY), (14, Condition.AWAY), (16, Condition.AWAY))
    assert {one.act for one in found} == {Act.NOTHING}


def test_a_workload_that_fails_is_left_to_its_providers_restarts_for_a_while() -> None:
    _, found = watch(*((at, Condition.UNWELL) for at in (0, 30, 59, 60)))
    assert [one.act for one in found] == [Act.NOTHING] * 3 + [Act.REPLACE]


def test_when_nobody_proves_anything_we_are_the_ones_who_are_away() -> None:
    memory, found = watch(*((at, Condition.UNKNOWN) for at in range(0, 600, 5)))
    assert {one.act for one in found} == {Act.NOTHING}
    assert memory == Memory()


def test_a_held_workload_is_never_replaced_and_has_its_time_again_when_it_goes_on() -> None:
    looks = [(float(at), Condition.HELD) for at in range(0, 600, 5)]
    _, found = watch(*looks, (601, Condition.UNWELL), (640, Condition.UNWELL))
    assert {one.act for one in found} == {Act.NOTHING}


def test_what_awaits_its_hand_off_gets_it_and_is_replaced_when_nothing_helps() -> None:
    memory, found = watch((0, Condition.AWAITING), (2, Condition.AWAITING), (3, Condition.AWAITING))
    assert [one.act for one in found] == [Act.NOTHING, Act.NOTHING, Act.HAND_OVER]
    _, found = watch((32, Condition.AWAITING), (61, Condition.AWAITING), memory=memory)
    assert found[1].act is Act.REPLACE
    away = replace(seen(0, Condition.AWAITING), reachable=False)
    memory = Memory()
    for at in (0, 5, 11):
        look = replace(away, at=Millis(T0 + at * 1_000))
        memory, _ = note(memory, look, SETTINGS)
    assert decide(memory, look, SETTINGS).act is Act.REPLACE


def test_a_lease_that_ended_is_replaced_or_ordered_anew_and_one_that_was_closed_is_not() -> None:
    _, found = watch((0, Condition.ENDED), (1, Condition.CLOSED), (2, Condition.PENDING))
    assert [one.act for one in found] == [Act.REPLACE, Act.NOTHING, Act.NOTHING]
    look = replace(seen(0, Condition.ENDED), deployment=OVER)
    memory, _ = note(Memory(), look, SETTINGS)
    assert decide(memory, look, SETTINGS).act is Act.ORDER


def test_downtime_is_from_the_first_bad_look_to_the_first_good_one_over_replacements() -> None:
    memory, _ = watch((0, Condition.WELL), (5, Condition.AWAY), (9, Condition.AWAY))
    moved = replace(LEASE, id=LeaseId(b"\x08" * 32), provider=PETRA)
    memory, downtime = note(memory, replace(seen(12, Condition.UNWELL), lease=moved), SETTINGS)
    assert downtime is None
    assert (memory.misses, memory.lease) == (0, moved.id)
    assert memory.unwell_since == T0 + 12_000, "another lease has its own time"
    memory, downtime = note(memory, replace(seen(14, Condition.WELL), lease=moved), SETTINGS)
    assert downtime == 9_000, "as the clients saw it"
    memory, downtime = note(memory, replace(seen(15, Condition.WELL), lease=moved), SETTINGS)
    assert downtime is None


def test_attempts_become_rarer_until_it_is_well_and_who_failed_is_remembered() -> None:
    memory, pauses = Memory(), list[int]()
    for _ in range(8):
        look = seen(100, Condition.ENDED)
        memory, _ = note(memory, look, SETTINGS)
        memory = attempted(memory, Decision(act=Act.REPLACE), look)
        pauses.append(memory.not_before - look.at)
    assert pauses[:3] == [PAUSE_MS[0], 2 * PAUSE_MS[0], 4 * PAUSE_MS[0]]
    assert pauses[-1] == PAUSE_MS[1]
    assert decide(memory, seen(101, Condition.ENDED), SETTINGS).act is Act.NOTHING
    assert decide(memory, seen(100 + PAUSE_MS[1] / 1_000, Condition.ENDED), SETTINGS).act is Act.REPLACE
    assert memory.shunned(T0 + 100_000) == {PAUL}
    assert memory.shunned(T0 + 100_000 + SHUN_MS) == set()
    handed = attempted(Memory(), Decision(act=Act.HAND_OVER), seen(0, Condition.AWAITING))
    assert handed.failed == {}
    memory, _ = note(memory, seen(102, Condition.WELL), SETTINGS)
    assert (memory.attempts, memory.not_before, memory.shunned(T0 + 102_000)) == (0, 0, {PAUL})


def test_only_so_many_failures_are_remembered() -> None:
    memory = Memory()
    for number in range(2 * FAILED_KEPT):
        lease = replace(ENDED, provider=PublicKey(bytes([number]) * 32))
        memory = attempted(memory, Decision(act=Act.REPLACE), replace(seen(number, Condition.ENDED), lease=lease))
    assert sorted(key[0] for key in memory.failed) == list(range(FAILED_KEPT, 2 * FAILED_KEPT))


# Money


def test_what_is_left_counts_what_is_owed_by_now() -> None:
    assert money(DEPLOYMENT, [LEASE], at=Millis(T0)) == Money(left=10_000, rate=1_000)
    held = money(DEPLOYMENT, [LEASE, ENDED], at=Millis(T0 + 2 * HOUR))
    assert held == Money(left=8_000, rate=1_000)
    assert held.runway_ms == 8 * HOUR
    paid = replace(LEASE, active_ms=Millis(HOUR), accrued_to=Millis(T0 + HOUR), paid=MicroCredits(1_000))
    assert money(DEPLOYMENT, [paid], at=Millis(T0 + 2 * HOUR)).left == 9_000
    waiting = replace(LEASE, state=LeaseState.AWAITING)
    assert money(DEPLOYMENT, [waiting], at=Millis(T0 + 2 * HOUR)) == Money(left=10_000, rate=1_000)
    assert money(DEPLOYMENT, [ENDED], at=Millis(T0)).runway_ms is None
    dry = replace(GRACE, deposits=())
    assert money(dry, [replace(LEASE, debt=MicroCredits(7))], at=Millis(T0 + HOUR)) == Money(left=-7, rate=1_000)


PAYING = Settings(runway_ms=(2 * HOUR, 6 * HOUR), budget=10_000)
LEAST = Least(deposit=100, runway_ms=HOUR // 2)


def paid(
    held: Money, *, spent: int = 0, dry: bool = False, settings: Settings = PAYING, replacing: bool = False
) -> tuple[int, bool]:
    before = Spent(day=T0 // DAY_MS, amount=spent)
    deployment = GRACE if dry else DEPLOYMENT
    return top_up(deployment, held, settings, before, now=Millis(T0), least=LEAST, replacing=replacing)


def test_an_escrow_is_filled_to_the_window_when_it_falls_under_it() -> None:
    assert paid(Money(left=2_000, rate=1_000)) == (0, False)
    assert paid(Money(left=1_999, rate=1_000)) == (4_001, False)
    assert paid(Money(left=0, rate=0)) == (0, False)
    assert paid(Money(left=0, rate=1_000), settings=Settings()) == (0, False)
    narrow = replace(PAYING, runway_ms=(HOUR, HOUR))
    assert paid(Money(left=990, rate=1_000), settings=narrow) == (100, False), "the least that a deposit may be"


def test_the_budget_of_a_day_is_never_overdrawn() -> None:
    assert paid(Money(left=0, rate=1_000), spent=4_000) == (6_000, False)
    assert paid(Money(left=0, rate=1_000), spent=5_000) == (5_000, True)
    assert paid(Money(left=0, rate=1_000), spent=9_950) == (0, True), "less than a deposit may be"
    assert paid(Money(left=0, rate=1_000), spent=20_000) == (0, True)
    spent = Spent().add(300, T0).add(200, T0 + 1)
    assert spent.left(1_000, T0) == 500
    assert spent.left(1_000, T0 + DAY_MS) == 1_000
    assert spent.add(-200, T0).amount == 300
    assert Spent(day=T0 // DAY_MS, amount=100).add(-200, T0).amount == 0


def test_a_grace_is_ended_with_the_debts_and_the_least_runway_or_not_at_all() -> None:
    assert paid(Money(left=-7, rate=1_000), dry=True) == (6_007, False)
    assert paid(Money(left=-7, rate=1_000), dry=True, spent=9_493) == (507, True)
    assert paid(Money(left=-7, rate=1_000), dry=True, spent=9_494) == (0, True), "it would help nobody"


def test_before_a_replacement_the_escrow_holds_what_the_chain_asks_for() -> None:
    narrow = replace(PAYING, runway_ms=(HOUR // 10, HOUR))
    assert paid(Money(left=300, rate=1_000), settings=narrow) == (0, False)
    assert paid(Money(left=300, rate=1_000), settings=narrow, replacing=True) == (700, False)


# On disk


def test_what_is_remembered_is_the_same_after_a_restart_but_for_counted_looks(tmp_path) -> None:  # type: ignore[no-untyped-def]
    memory, _ = watch((0, Condition.WELL), (5, Condition.AWAY), (9, Condition.AWAY))
    memory = attempted(memory, Decision(act=Act.REPLACE), seen(9, Condition.AWAY))
    remembered = Remembered(spent=Spent(day=19_000, amount=77), replicas={"app.0": memory, "app.1": Memory()})
    assert load(tmp_path / "service") == Remembered()
    save(tmp_path / "service", remembered)
    after = load(tmp_path / "service")
    assert after == replace(remembered, replicas={"app.0": replace(memory, misses=0), "app.1": Memory()})
    assert not after.worth_saving(remembered)
    assert after.worth_saving(replace(remembered, spent=Spent()))
