from typing import Any

from fondaco.protocol.gossip.parameters import ScoreConfig
from fondaco.protocol.gossip.router import (
    Deliver,
    Effect,
    Peer,
    Punish,
    Router,
    RouterConfig,
    SendRpc,
    Verdict,
    message_id,
)
from fondaco.protocol.gossip.seen import SPANS
from fondaco.protocol.gossip.wire import Message, Rpc, Subscription
from fondaco.protocol.scalars import Millis

A, B, C = Peer("a"), Peer("b"), Peer("c")
HELLO = Message(topic="t", data=b"hello")


def wants(topic: str = "t") -> Rpc:
    return Rpc(subscriptions=(Subscription(topic=topic, subscribe=True),))


def router(**bounds: Any) -> Router:
    """One that wants "t", with three neighbours that want it too."""
    made = Router(RouterConfig(**bounds), now=Millis(0))
    made.subscribe("t")
    for peer in (A, B, C):
        made.peer_added(peer)
        made.received(peer, wants())
    return made


def says(message: Message) -> Rpc:
    return Rpc(messages=(message,))


def delivered(effects: list[Effect]) -> list[bytes]:
    return [effect.data for effect in effects if isinstance(effect, Deliver)]


def test_a_new_neighbour_is_told_what_we_want() -> None:
    made = Router(now=Millis(0))
    assert made.peer_added(A) == []
    assert made.subscribe("t") == [SendRpc(peers=(A,), rpc=wants())]
    assert made.subscribe("t") == []
    assert made.peer_added(B) == [SendRpc(peers=(B,), rpc=wants())]
    assert made.topics == ("t",)


def test_what_we_publish_goes_to_all_who_want_it_and_not_to_ourselves() -> None:
    made = router()
    made.received(C, Rpc(subscriptions=(Subscription(topic="t", subscribe=False),)))
    assert made.published("t", b"hello") == [SendRpc(peers=(A, B), rpc=says(HELLO))]
    assert made.published("t", b"hello") == []


def test_a_message_is_delivered_once_however_many_send_it() -> None:
    made = router()
    first = made.received(A, says(HELLO))
    assert first == [Deliver(topic="t", data=b"hello", message_id=message_id(b"hello"), source=A)]
    assert made.received(A, says(HELLO)) == []
    assert made.received(B, says(HELLO)) == []
    made.verdict(message_id(b"hello"), Verdict.ACCEPT)
    assert made.received(C, says(HELLO)) == []
    assert made.counters.duplicates == 3


def test_nothing_is_passed_on_before_its_verdict() -> None:
    made = router()
    assert not [effect for effect in made.received(A, says(HELLO)) if isinstance(effect, SendRpc)]


def test_an_accepted_message_goes_unchanged_to_those_who_did_not_send_it() -> None:
    made = router()
    made.received(A, says(HELLO))
    made.received(B, says(HELLO))
    assert made.verdict(message_id(b"hello"), Verdict.ACCEPT) == [SendRpc(peers=(C,), rpc=says(HELLO))]


def test_a_message_everybody_has_is_sent_to_nobody() -> None:
    made = router()
    for peer in (A, B, C):
        made.received(peer, says(HELLO))
    assert made.verdict(message_id(b"hello"), Verdict.ACCEPT) == []


def test_an_ignored_message_is_dropped_without_blame() -> None:
    made = router()
    made.received(A, says(HELLO))
    assert made.verdict(message_id(b"hello"), Verdict.IGNORE) == []


def test_a_rejected_message_is_dropped_and_its_source_blamed() -> None:
    made = router()
    made.received(A, says(HELLO))
    assert made.verdict(message_id(b"hello"), Verdict.REJECT) == [
        Punish(peer=A, code="gossip.rejected", message="an invalid message")
    ]


def test_whoever_says_again_what_is_known_to_be_invalid_is_blamed_every_time() -> None:
    """Once it was scored down only: 90,000 copies of one bad batch cost its sender nothing more."""
    made = router()
    made.received(A, says(HELLO))
    made.verdict(message_id(b"hello"), Verdict.REJECT)
    for peer in (A, B, B):
        (punish,) = made.received(peer, says(HELLO))
        assert isinstance(punish, Punish)
        assert (punish.peer, punish.code) == (peer, "gossip.rejected")


def test_a_graylisted_neighbour_that_goes_on_and_on_is_blamed() -> None:
    made = router(unheard=3, score=ScoreConfig(behaviour_threshold=0.0))
    made.scores.misdeed(A, 5)
    flood = [made.received(A, says(HELLO)) for _ in range(7)]
    assert [len(effects) for effects in flood] == [0, 0, 1, 0, 0, 1, 0]
    assert flood[2] == [Punish(peer=A, code="gossip.flood", message="it is not heard, and goes on")]
    made.heartbeat(Millis(1_000))
    assert [made.received(A, says(HELLO)) for _ in range(2)] == [[], []], "it is counted from beat to beat"
    assert made.received(A, Rpc()) == made.received(A, wants()) == []
    assert made.counters.graylisted == 11


def test_who_is_graylisted_for_the_company_at_its_address_is_not_blamed() -> None:
    made = router(unheard=1, score=ScoreConfig(colocation_threshold=0, colocation_weight=-1_000.0))
    made.peer_added(A, address="203.0.113.1")
    assert made.received(A, says(HELLO)) == []
    assert made.counters.graylisted == 1
    assert made.scores.own(Peer("a stranger")) == 0.0


def test_a_second_verdict_and_one_on_nothing_have_no_effect() -> None:
    made = router()
    made.received(A, says(HELLO))
    made.verdict(message_id(b"hello"), Verdict.IGNORE)
    assert made.verdict(message_id(b"hello"), Verdict.ACCEPT) == []
    assert made.verdict(message_id(b"never came"), Verdict.REJECT) == []


def test_messages_of_topics_we_do_not_want_are_counted_and_let_go() -> None:
    made = router()
    assert made.received(A, says(Message(topic="other", data=b"x"))) == []
    assert made.counters.unwanted == 1
    assert made.unsubscribe("t") != []
    assert made.unsubscribe("t") == []
    assert made.received(A, says(HELLO)) == []


def test_a_neighbour_that_left_gets_nothing_and_what_it_sent_is_still_judged() -> None:
    made = router()
    made.received(A, says(HELLO))
    made.peer_removed(A)
    made.peer_removed(A)
    assert made.verdict(message_id(b"hello"), Verdict.ACCEPT) == [SendRpc(peers=(B, C), rpc=says(HELLO))]
    assert made.peers == (B, C)


def test_who_was_never_a_neighbour_cannot_subscribe() -> None:
    made = router()
    assert made.received(Peer("stranger"), wants()) == []
    assert made.subscribers("t") == (A, B, C)


def test_a_neighbour_that_wants_too_much_is_blamed() -> None:
    made = router(subscriptions=2)
    assert made.received(A, wants("u")) == []
    assert made.received(A, wants("u")) == []
    (punished,) = made.received(A, wants("v"))
    assert isinstance(punished, Punish)
    assert punished.peer == A


def test_too_many_messages_under_judgement_are_shed_and_may_come_again() -> None:
    made = router(pending=1)
    assert delivered(made.received(A, says(HELLO))) == [b"hello"]
    more = Message(topic="t", data=b"more")
    assert made.received(A, says(more)) == []
    assert made.counters.shed == 1
    made.verdict(message_id(b"hello"), Verdict.ACCEPT)
    assert delivered(made.received(B, says(more))) == [b"more"]


def test_ids_are_forgotten_when_their_time_is_over() -> None:
    made = router(seen_ms=1000)
    made.received(A, says(HELLO))
    made.verdict(message_id(b"hello"), Verdict.ACCEPT)
    made.heartbeat(Millis(999))
    assert made.received(B, says(HELLO)) == []
    made.heartbeat(Millis(1000 + 1000 // SPANS))
    assert delivered(made.received(B, says(HELLO))) == [b"hello"]


def test_who_says_old_things_again_and_again_loses_its_place() -> None:
    """Replays are no fault by themselves, honest neighbours overlap; but nobody has so much to repeat."""
    made = router(repetitions=80)
    made.received(A, says(HELLO))
    made.verdict(message_id(b"hello"), Verdict.ACCEPT)
    for number in range(300):
        made.received(A, says(HELLO))
        made.received(B, says(Message(topic="t", data=b"old items, batch %d" % number)))
        made.stale(B)
        made.verdict(message_id(b"old items, batch %d" % number), Verdict.IGNORE)
    made.received(C, says(HELLO))
    assert made.scores.of(A) < made.config.score.graylist_threshold
    assert made.scores.of(B) < made.config.score.graylist_threshold
    assert made.scores.of(C) >= 0
    made.peer_removed(B)
    assert made.repeats.again(B) is False
