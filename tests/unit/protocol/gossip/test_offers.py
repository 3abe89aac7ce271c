"""Gossip proper: messages that are offered (IHAVE), asked for (IWANT) and owed."""

from typing import Any

import pytest
from tests.support.gossip_router import ID, asks, beat, controls, name, offers, router, says

from fondaco.protocol.gossip.parameters import ScoreConfig
from fondaco.protocol.gossip.router import Effect, MessageId, SendRpc, message_id


def ids(*numbers: int) -> tuple[MessageId, ...]:
    return tuple(message_id(b"%d" % number) for number in numbers)


def asked_for(effects: list[Effect]) -> set[bytes]:
    return {identity for control in controls(effects).values() for identity in control.iwant}


def test_what_is_offered_and_new_is_asked_for() -> None:
    made = router(2)
    made.published("t", b"1")
    assert asked_for(made.received(name(0), offers(*ids(1, 2, 3), b"short"))) == set(ids(2, 3))
    assert made.received(name(0), offers(*ids(1))) == []
    assert made.received(name(0), offers(*ids(4), topic="unknown")) == []


def test_offers_are_limited_between_heartbeats() -> None:
    made = router(2, ihave_ids=3, ihave_messages=2)
    assert len(asked_for(made.received(name(0), offers(*ids(1, 2, 3, 4))))) == 3
    assert made.received(name(0), offers(*ids(5))) == []
    assert asked_for(made.received(name(1), offers(*ids(5)))) == set(ids(5))
    beat(made)
    assert asked_for(made.received(name(0), offers(*ids(5)))) == set(ids(5))
    made.received(name(0), offers(*ids(6)))
    assert made.received(name(0), offers(*ids(7))) == []
    assert made.counters.gossip_refused == 1


def test_gossip_of_and_to_those_below_the_threshold_is_refused() -> None:
    made = router(2)
    made.published("t", b"hello")
    made.scores.application(name(0), -41.0)
    assert made.received(name(0), offers(*ids(1))) == []
    assert made.received(name(0), asks(ID)) == []
    assert made.counters.gossip_refused == 2


def test_who_asks_is_answered_three_times_and_for_what_is_held() -> None:
    made = router(2)
    made.published("t", b"hello")
    for _ in range(3):
        assert made.received(name(0), asks(ID, *ids(9))) == [SendRpc(peers=(name(0),), rpc=says())]
    assert made.received(name(0), asks(ID)) == []
    assert made.received(name(1), asks(ID)) == [SendRpc(peers=(name(1),), rpc=says())]


@pytest.mark.parametrize("bounds", [{"answer_bytes": 1}, {"ihave_ids": 1}], ids=["bytes", "ids"])
def test_answers_are_limited_between_heartbeats(bounds: dict[str, Any]) -> None:
    made = router(2, **bounds)
    for data in (b"1", b"2"):
        made.published("t", data)
    (effect,) = made.received(name(0), asks(*ids(1, 2)))
    assert isinstance(effect, SendRpc)
    assert len(effect.rpc.messages) == 1
    beat(made)
    assert made.received(name(0), asks(*ids(2)))


def test_a_broken_promise_is_scored_down_and_one_kept_by_anybody_is_not() -> None:
    made = router(2, score=ScoreConfig(behaviour_threshold=0.0))
    made.received(name(0), offers(*ids(1)))
    made.received(name(1), offers(*ids(2)))
    made.received(name(0), says(b"2"))
    beat(made, 2)
    assert made.scores.of(name(0)) == 0.0
    beat(made, 1)
    assert made.scores.of(name(0)) < 0.0
    assert made.scores.of(name(1)) == 0.0
    assert made.counters.promises_broken == 1
