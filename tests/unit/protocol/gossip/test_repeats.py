"""Repetition: as much as there was news is no blame, more is."""

from fondaco.protocol.gossip.effects import Peer
from fondaco.protocol.gossip.repeats import BEATS, Repeats

A, B = Peer("a"), Peer("b")


def test_who_repeats_no_more_than_there_was_in_a_minute_does_no_wrong() -> None:
    repeats = Repeats(slack=80)
    for _ in range(BEATS // 2):
        for _ in range(10):
            repeats.fresh()
        repeats.heartbeat()
    assert not any(repeats.again(A) for _ in range(80 + 300)), "a minute's worth at once, after a pause"
    assert repeats.again(A)


def test_every_so_many_repetitions_beyond_it_are_a_misdeed_of_who_says_them() -> None:
    repeats = Repeats(slack=80)
    said = [repeats.again(A) for _ in range(80 + 41)]
    assert sum(said) == 5
    assert not repeats.again(B)


def test_debts_fade_with_time_and_go_with_the_neighbour() -> None:
    repeats = Repeats(slack=120)
    for peer in (A, B):
        for _ in range(120):
            assert not repeats.again(peer)
    repeats.forget(B)
    repeats.heartbeat()
    assert [repeats.again(A) for _ in range(3)] == [False, False, True]
    assert not repeats.again(B)
    for _ in range(100):
        repeats.heartbeat()
    assert not any(repeats.again(A) for _ in range(120))
