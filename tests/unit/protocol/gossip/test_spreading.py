"""How messages spread: to whom they are sent, for whom copies count, what is remembered of them."""

from dataclasses import replace

from tests.support.gossip_router import HELLO, ID, beat, controls, members, name, router, says, wants

from fondaco.protocol.gossip.control import Control, IHave
from fondaco.protocol.gossip.parameters import ScoreConfig, TopicScore
from fondaco.protocol.gossip.router import Deliver, Punish, SendRpc, Verdict, message_id
from fondaco.protocol.gossip.wire import Rpc
from fondaco.protocol.scalars import Millis

# Publishing


def test_what_we_publish_goes_to_all_above_the_publish_threshold() -> None:
    made = router(9)
    made.scores.application(name(0), -80.5)
    made.scores.application(name(1), -80.0)
    (effect,) = made.published("t", b"hello")
    assert isinstance(effect, SendRpc)
    assert effect.peers == tuple(name(number) for number in range(1, 9))


def test_without_flooding_it_goes_to_the_mesh() -> None:
    made = router(9, flood_publish=False)
    (effect,) = made.published("t", b"hello")
    assert isinstance(effect, SendRpc)
    assert set(effect.peers) == members(made)


def test_without_flooding_topics_that_we_do_not_want_have_a_fan_out() -> None:
    made = router(9, joined=False, flood_publish=False)
    (first,) = made.published("t", b"1")
    (second,) = made.published("t", b"2")
    assert isinstance(first, SendRpc)
    assert isinstance(second, SendRpc)
    assert first.peers == second.peers
    gone, bad, kept = first.peers
    made.peer_removed(gone)
    made.scores.application(bad, -100.0)
    told = controls(beat(made))
    fanout = set(made.mesh.fanout["t"])
    assert len(fanout) == 3
    assert kept in fanout
    assert bad not in fanout
    assert told
    assert all(control.ihave for control in told.values())
    made.scores.application(kept, -1.0)
    made.subscribe("t")
    assert len(members(made)) == 3
    assert members(made) > fanout - {kept}
    assert made.mesh.fanout == {}


def test_a_fan_out_that_is_not_used_is_forgotten() -> None:
    made = router(3, joined=False, flood_publish=False)
    made.published("t", b"1")
    beat(made, 60)
    assert made.mesh.fanout
    beat(made, 1)
    assert not made.mesh.fanout


# Messages


def test_an_accepted_message_goes_to_the_mesh_and_is_offered_to_some_others() -> None:
    made = router(12)
    source = next(iter(members(made)))
    made.received(source, says())
    (effect,) = made.verdict(ID, Verdict.ACCEPT)
    assert isinstance(effect, SendRpc)
    assert set(effect.peers) == members(made) - {source}
    told = controls(beat(made))
    assert len(told) == 2
    assert set(told.values()) == {Control(ihave=(IHave(topic="t", ids=(ID,)),))}
    assert not set(told) & members(made)


def test_the_share_of_those_gossiped_to_grows_with_their_number() -> None:
    made = router(24, gossip_factor=0.5)
    made.published("t", b"hello")
    assert len(controls(beat(made))) == 10


def test_nothing_is_offered_to_who_is_below_the_gossip_threshold() -> None:
    made = router(9)
    for number in range(9):
        if name(number) not in members(made):
            made.scores.application(name(number), -41.0)
    made.published("t", b"hello")
    assert beat(made) == []


def test_a_graylisted_peer_is_not_read_but_for_what_it_wants_and_is_named_once() -> None:
    made = router(2)
    made.scores.application(name(0), -161.0)
    assert made.received(name(0), replace(wants("other"), messages=(HELLO,))) == []
    assert made.subscribers("other") == (name(0),)
    assert made.counters.graylisted == 1
    named = Punish(peer=name(0), code="gossip.graylisted", message="its score is too low")
    assert named in beat(made)
    assert named not in beat(made)
    made.scores.application(name(0), 0.0)
    beat(made)
    assert [type(effect) for effect in made.received(name(0), says())] == [Deliver]


def test_all_who_sent_an_invalid_message_are_scored_down_even_late() -> None:
    made = router(4)
    for number in (0, 1):
        made.received(name(number), says())
    made.verdict(ID, Verdict.REJECT)
    made.received(name(2), says())
    assert [made.scores.of(name(number)) for number in range(4)] == [-20.0, -20.0, -20.0, 0.0]


def test_copies_count_for_their_senders_while_they_are_near_first() -> None:
    terms = TopicScore(first_weight=0.0, delivery_weight=-1.0, delivery_threshold=1.0, delivery_activation_ms=0)
    terms = replace(terms, delivery_decay=1.0)
    made = router(4, score=ScoreConfig(topics={"t": terms}))
    made.received(name(0), says(), now=Millis(1000))
    made.received(name(1), says(), now=Millis(1000))
    made.verdict(ID, Verdict.ACCEPT, now=Millis(1100))
    made.received(name(2), says(), now=Millis(1110))
    made.received(name(2), says(), now=Millis(1110))
    made.received(name(3), says(), now=Millis(1111))
    made.scores.decay(Millis(2000))
    assert [made.scores.of(name(number)) for number in range(4)] == [0.0, 0.0, 0.0, -1.0]


def test_a_heartbeat_between_a_message_and_its_copy_costs_the_copy_nothing() -> None:
    """The memory was once cut at the last event, not at the last heartbeat."""
    terms = TopicScore(delivery_weight=-1.0, delivery_threshold=1.0, delivery_decay=1.0, time_weight=0.0)
    terms = replace(terms, delivery_activation_ms=1_500)
    made = router(2, score=ScoreConfig(topics={"t": terms}))
    made.received(name(0), says(), now=Millis(990))
    made.verdict(ID, Verdict.ACCEPT, now=Millis(990))
    made.received(name(0), Rpc(), now=Millis(999))
    made.heartbeat(Millis(1000))
    made.received(name(1), says(), now=Millis(1000))
    made.scores.decay(Millis(2000))
    assert made.scores.of(name(1)) == 0.0


def test_copies_in_topics_that_do_not_count_do_not_count() -> None:
    made = router(2, score=ScoreConfig(other_topics=None))
    made.received(name(0), says())
    made.verdict(ID, Verdict.ACCEPT)
    made.received(name(1), says())
    made.received(name(1), says())
    assert made.scores.of(name(1)) == 0.0


def test_memory_of_accepted_messages_is_bounded() -> None:
    made = router(2, pending=1)
    for data in (b"1", b"2"):
        made.received(name(0), says(data))
        made.verdict(message_id(data), Verdict.ACCEPT)
    assert len(made._accepted) == 1
    beat(made)
    beat(made)
    assert len(made._accepted) == 0
