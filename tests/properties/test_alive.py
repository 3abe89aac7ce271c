"""Signs of life: the clock of a provider, and that it does not matter how often one looks at it."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.ledger import FREE, MINUTE, World

from fondaco.consensus.ledger import alive
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.state import MemoryStore, State
from fondaco.protocol.messages import Alive
from fondaco.protocol.records import Deployment, Lease, SignsOfLife
from fondaco.protocol.scalars import Millis, PublicKey

pytestmark = pytest.mark.timeout(300)  # a hundred lives, on a busy machine
SOMEBODY = PublicKey(bytes(32))
COVER = 100
steps = st.lists(st.integers(1, 3 * COVER), min_size=1, max_size=12)


def covered(signs: list[int], until: int) -> list[int]:
    """For each moment up to `until`, milliseconds before it that some sign covers, counted one by one."""
    alive_then = (any(sign <= moment < sign + COVER for sign in signs) for moment in range(until))
    return list(accumulate(alive_then, initial=0))


@given(steps=steps, ahead=st.integers(0, 3 * COVER))
def test_the_clock_runs_where_signs_cover_and_stands_elsewhere(steps: list[int], ahead: int) -> None:
    state, params = State(MemoryStore()), Params(alive_cover_ms=Millis(COVER))
    signs, now = [0], 0
    alive.note(state, params, SOMEBODY, now=Millis(now))
    stretches = [0]
    for step in steps:
        now += step
        silent_ms = alive.note(state, params, SOMEBODY, now=Millis(now))
        assert silent_ms == max(0, step - COVER)
        if silent_ms:
            stretches.append(now)
        signs.append(now)
    found = alive.signs_of(state, SOMEBODY)
    assert isinstance(found, SignsOfLife)
    counted = covered(signs, now + ahead)
    for at in range((stretches[-2:] or [0])[0], now + ahead + 1):
        assert alive.reading(found, Millis(at)) == counted[at]


days = st.lists(
    st.tuples(
        st.integers(1, 25 * MINUTE),
        st.sampled_from(["nothing", "paul", "petra", "both"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=15,
)


def live(days: list[tuple[int, str, bool]], prices: tuple[int, int], deposit: int, *, often: bool) -> World:
    """Alice leases from paul and petra, who give signs of life; `often` has somebody settle meanwhile."""
    world = World("alice", "paul", "petra", **FREE | {"alive_cover_ms": 20 * MINUTE, "grace_ms": 30 * MINUTE})
    alice, paul, petra = world.actors("alice", "paul", "petra")
    world.block(paul.registers(), petra.registers())
    draft = alice.leases((paul, prices[0]), (petra, prices[1]), deposit=deposit)
    world.block(draft)
    first, second = draft.leases
    world.block(paul.activates(first, receipt_of=alice), petra.activates(second, receipt_of=alice))
    for step, who, settles in days:
        drafts = [one.does(Alive()) for one in (paul, petra) if who in (one.name, "both")]
        if settles and often:
            drafts += [paul.withdraws(first), petra.withdraws(second)]
        world.block(*drafts, after_ms=step)
    world.block(paul.withdraws(first), petra.withdraws(second))
    return world


def outcome(world: World) -> tuple[list[Deployment], list[Lease]]:
    from tests.support.bookkeeper import Bookkeeper

    books = Bookkeeper(world)
    books.count()
    return books.of[b"deployment"], books.of[b"lease"]


@settings(max_examples=150, deadline=None)
@given(
    days=days,
    prices=st.tuples(st.integers(1, 5_000), st.integers(1, 5_000)),
    deposit=st.integers(100, 3_000),
)
def test_settling_often_and_once_come_to_the_same_though_providers_fall_silent(
    days: list[tuple[int, str, bool]], prices: tuple[int, int], deposit: int
) -> None:
    """To the ucredit, and to the millisecond at which the escrow ran dry."""
    assert outcome(live(days, prices, deposit, often=True)) == outcome(live(days, prices, deposit, often=False))
