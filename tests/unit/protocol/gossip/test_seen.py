"""Each key is new once in its life, however often it is seen; the oldest make room."""

from fondaco.protocol.gossip.seen import SPANS, SeenCache
from fondaco.protocol.scalars import Millis

LIFE = 1_000
SPAN = LIFE // SPANS


def test_a_key_is_new_once() -> None:
    seen: SeenCache[bytes] = SeenCache(10, LIFE)
    assert seen.add(b"a", Millis(0))
    assert not seen.add(b"a", Millis(LIFE - 1))
    assert seen.has(b"a", Millis(LIFE - 1))


def test_a_key_lives_no_shorter_than_its_life_and_at_most_one_span_longer() -> None:
    for at in range(0, 2 * SPAN, 10):
        seen: SeenCache[bytes] = SeenCache(10, LIFE)
        seen.add(b"a", Millis(at))
        assert seen.has(b"a", Millis(at + LIFE - 1))
        assert not seen.has(b"a", Millis(at + LIFE + SPAN))


def test_a_key_is_new_again_when_its_time_is_over_however_often_it_was_repeated() -> None:
    seen: SeenCache[bytes] = SeenCache(10, LIFE)
    for now in range(0, LIFE, 100):
        seen.add(b"a", Millis(now))
    assert seen.add(b"a", Millis(LIFE + SPAN))


def test_the_oldest_go_where_there_is_no_room() -> None:
    capacity = 10 * (SPANS + 1)
    seen: SeenCache[int] = SeenCache(capacity, LIFE)
    for key in range(3 * capacity):
        assert seen.add(key, Millis(0))
        assert len(seen) <= capacity
    held = [key for key in range(3 * capacity) if seen.has(key, Millis(0))]
    assert held == list(range(2 * capacity, 3 * capacity))


def test_what_is_over_is_dropped_without_being_asked_for() -> None:
    seen: SeenCache[bytes] = SeenCache(10, LIFE)
    seen.add(b"a", Millis(0))
    seen.add(b"b", Millis(2 * SPAN))
    seen.expire(Millis(LIFE + SPAN))
    assert len(seen) == 1
    seen.expire(Millis(50 * LIFE))
    assert len(seen) == 0
    assert seen.add(b"b", Millis(50 * LIFE))
    assert seen.has(b"b", Millis(51 * LIFE - 1))


def test_a_key_can_be_forgotten() -> None:
    seen: SeenCache[bytes] = SeenCache(10, LIFE)
    seen.add(b"a", Millis(0))
    seen.forget(b"a")
    seen.forget(b"never seen")
    assert seen.add(b"a", Millis(1))
