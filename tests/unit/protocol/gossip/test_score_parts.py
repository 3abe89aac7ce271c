"""A score taken apart: its parts are the score, and back-offs and topics are counted as they are."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.protocol.gossip.backoff import Backoffs
from fondaco.protocol.gossip.counters import TopicCounters
from fondaco.protocol.gossip.effects import Peer, message_id
from fondaco.protocol.gossip.parameters import ScoreConfig, TopicScore
from fondaco.protocol.gossip.router import Router, RouterConfig, Verdict
from fondaco.protocol.gossip.score import Scores
from fondaco.protocol.gossip.wire import Message, Rpc, Subscription
from fondaco.protocol.scalars import Millis

A, B = Peer("a"), Peer("b")
TERMS = TopicScore(
    weight=0.5, delivery_weight=-1.0, failure_weight=-0.25, time_quantum_ms=1_000, delivery_activation_ms=2_000
)
DEEDS = ("grafted", "pruned", "first", "near", "invalid", "misdeed", "application", "decay")


@given(deeds=st.lists(st.tuples(st.sampled_from(DEEDS), st.sampled_from("tu"), st.integers(0, 9)), max_size=40))
def test_the_parts_add_up_to_the_score_whatever_happened(deeds: list[tuple[str, str, int]]) -> None:
    config = ScoreConfig(topics={"t": TERMS, "u": TopicScore()}, colocation_threshold=1, topic_cap=5.0)
    made, now = Scores(config, Millis(0)), Millis(0)
    for peer in (A, B):
        made.added(peer, "198.51.100.1")
    for deed, topic, amount in deeds:
        match deed:
            case "grafted":
                made.grafted(A, topic, now)
            case "pruned":
                made.pruned(A, topic)
            case "first":
                made.first_delivery(A, topic)
            case "near":
                made.near_first(A, topic)
            case "invalid":
                made.invalid(A, topic)
            case "misdeed":
                made.misdeed(A, amount)
            case "application":
                made.application(A, float(amount))
            case _:
                now = Millis(now + 1_000 * amount)
                made.decay(now)
    assert sum(made.parts(A).named().values()) == pytest.approx(made.of(A))


def test_the_parts_say_what_pulls_a_score_down_and_a_stranger_has_none() -> None:
    made = Scores(replace(ScoreConfig(), topics={"t": TopicScore()}), Millis(0))
    made.added(A, "")
    made.grafted(A, "t", Millis(7))
    made.invalid(A, "t")
    assert made.parts(A).named() | {"p4": 0.0} == dict.fromkeys(made.parts(A).named(), 0.0)
    assert made.parts(A).named()["p4"] == -20.0
    assert made.parts(A).topics["t"].grafted_at == 7
    assert made.parts(B).named() == dict.fromkeys(made.parts(A).named(), 0.0)


def test_back_offs_that_are_over_are_not_pending() -> None:
    backoffs = Backoffs(10, longest_ms=1_000, slack_ms=50)
    backoffs.add("t", A, Millis(0), 100)
    backoffs.add("t", B, Millis(0), 200)
    assert backoffs.pending(Millis(150)) == [("t", B, 50)]


def test_each_topic_is_counted_by_itself_and_strangers_topics_are_not() -> None:
    router = Router(RouterConfig(pending=3), now=Millis(0))
    for topic in "tu":
        router.subscribe(topic)
    router.peer_added(A)
    router.received(A, Rpc(subscriptions=(Subscription(topic="t", subscribe=True),)))
    assert router.wanted() == {A: ("t",)}
    router.published("t", b"ours")
    messages = tuple(Message(topic="t", data=bytes([number])) for number in range(3))
    router.received(A, Rpc(messages=(*messages, messages[0], Message(topic="x", data=b"x"))))
    router.received(A, Rpc(messages=(Message(topic="t", data=b"too many"),)))
    for message, verdict in zip(messages, Verdict, strict=True):
        router.verdict(message_id(message.data), verdict)
    router.received(A, Rpc(messages=(Message(topic="u", data=b"other"),)))
    assert router.by_topic == {
        "t": TopicCounters(published=1, duplicates=1, delivered=3, accepted=1, ignored=1, rejected=1, shed=1),
        "u": TopicCounters(delivered=1),
    }
