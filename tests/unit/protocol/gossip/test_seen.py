from fondaco.protocol.gossip.seen import SeenCache
from fondaco.protocol.scalars import Millis


def test_a_key_is_new_once() -> None:
    seen: SeenCache[bytes] = SeenCache(10, 1000)
    assert seen.add(b"a", Millis(0))
    assert not seen.add(b"a", Millis(999))
    assert seen.has(b"a", Millis(999))


def test_a_key_is_new_again_when_its_time_is_over_however_often_it_was_repeated() -> None:
    seen: SeenCache[bytes] = SeenCache(10, 1000)
    for now in range(0, 1000, 100):
        seen.add(b"a", Millis(now))
    assert seen.add(b"a", Millis(1000))


def test_the_oldest_goes_where_there_is_no_room() -> None:
    seen: SeenCache[bytes] = SeenCache(2, 1000)
    for key in (b"a", b"b", b"c"):
        seen.add(key, Millis(0))
    assert [seen.has(key, Millis(0)) for key in (b"a", b"b", b"c")] == [False, True, True]


def test_what_is_over_is_dropped() -> None:
    seen: SeenCache[bytes] = SeenCache(10, 1000)
    seen.add(b"a", Millis(0))
    seen.add(b"b", Millis(500))
    seen.expire(Millis(1000))
    assert len(seen) == 1
    seen.expire(Millis(5000))
    assert len(seen) == 0


def test_a_key_can_be_forgotten() -> None:
    seen: SeenCache[bytes] = SeenCache(10, 1000)
    seen.add(b"a", Millis(0))
    seen.forget(b"a")
    seen.forget(b"never seen")
    assert seen.add(b"a", Millis(1))
