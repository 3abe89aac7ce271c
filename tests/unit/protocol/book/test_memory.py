"""What is remembered of items and neighbours, and for how long."""

from __future__ import annotations

from tests.support.book_ids import an_id

from fondaco.protocol.book.allowance import Allowance
from fondaco.protocol.book.memory import Memory
from fondaco.protocol.scalars import Millis


def test_an_id_is_remembered_for_its_time_and_not_less_than_was_said_before() -> None:
    memory = Memory(10)
    memory.remember(an_id(1), Millis(100))
    memory.remember(an_id(1), Millis(50))
    assert memory.has(an_id(1), Millis(99))
    assert not memory.has(an_id(1), Millis(100))
    assert len(memory) == 0, "and then it takes no room"
    assert not memory.has(an_id(2), Millis(0))


def test_where_there_is_no_room_the_first_is_forgotten() -> None:
    memory = Memory(2)
    for number in range(3):
        memory.remember(an_id(number), Millis(100))
    assert [memory.has(an_id(number), Millis(0)) for number in range(3)] == [False, True, True]


def test_who_has_drawn_all_waits_until_it_has_filled_again() -> None:
    allowance = Allowance(full=100, per_second=10, peers=2)
    assert allowance.has("peer", Millis(0))
    allowance.spend("peer", 120, Millis(0))
    assert not allowance.has("peer", Millis(2_000))
    assert allowance.has("peer", Millis(2_001))
    assert allowance.has("other", Millis(0)), "each has its own"


def test_nobody_saves_up_more_than_a_full_store() -> None:
    allowance = Allowance(full=100, per_second=10, peers=2)
    allowance.spend("peer", 50, Millis(0))
    allowance.spend("peer", 100, Millis(3_600_000))
    assert not allowance.has("peer", Millis(3_600_000))


def test_neighbours_are_forgotten_who_have_not_asked_for_longest() -> None:
    allowance = Allowance(full=100, per_second=0, peers=2)
    for peer in ("one", "two", "one", "three"):
        allowance.spend(peer, 100, Millis(0))
    assert len(allowance) == 2
    assert [allowance.has(peer, Millis(0)) for peer in ("one", "two", "three")] == [False, True, False]
