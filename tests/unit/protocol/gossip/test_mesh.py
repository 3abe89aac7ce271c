"""The mesh's rules, one by one: GRAFT, PRUNE, heartbeats, thresholds, fan-out, gossip."""

from dataclasses import replace
from typing import Any

import pytest

from fondaco.protocol.gossip.control import Control, IHave, PeerInfo, Prune
from fondaco.protocol.gossip.parameters import RouterConfig, ScoreConfig, TopicScore
from fondaco.protocol.gossip.router import (
    Deliver,
    Effect,
    MessageId,
    Peer,
    Punish,
    Router,
    SendRpc,
    Suggest,
    Verdict,
    message_id,
)
from fondaco.protocol.gossip.wire import Message, Rpc, Subscription
from fondaco.protocol.scalars import Millis

SMALL = RouterConfig(degree=3, degree_low=2, degree_high=4, degree_score=2, degree_out=1, degree_lazy=2)
HELLO = Message(topic="t", data=b"hello")
ID = message_id(b"hello")


def name(number: int) -> Peer:
    return Peer(f"p{number}")


def wants(*topics: str, subscribe: bool = True) -> Rpc:
    return Rpc(subscriptions=tuple(Subscription(topic=topic, subscribe=subscribe) for topic in topics))


def graft(topic: str = "t") -> Rpc:
    return Rpc(control=Control(graft=(topic,)))


def prune(topic: str = "t", **fields: Any) -> Rpc:
    return Rpc(control=Control(prune=(Prune(topic=topic, **fields),)))


def offers(*ids: bytes, topic: str = "t") -> Rpc:
    return Rpc(control=Control(ihave=(IHave(topic=topic, ids=ids),)))


def asks(*ids: bytes) -> Rpc:
    return Rpc(control=Control(iwant=ids))


def says(data: bytes = b"hello") -> Rpc:
    return Rpc(messages=(Message(topic="t", data=data),))


def router(count: int, *, joined: bool = True, outbound: int = 0, **changes: Any) -> Router:
    """One with so many neighbours that want "t", the first of which it dialled."""
    made = Router(replace(SMALL, **changes), now=Millis(0), seed=1)
    if joined:
        made.subscribe("t")
    for number in range(count):
        made.peer_added(name(number), outbound=number < outbound, identity=b"%d" % number)
        made.received(name(number), wants("t"))
    return made


def members(made: Router) -> set[Peer]:
    return set(made.mesh.topics["t"])


def controls(effects: list[Effect]) -> dict[Peer, Control]:
    return {peer: e.rpc.control for e in effects if isinstance(e, SendRpc) and e.rpc.control for peer in e.peers}


def beat(made: Router, seconds: int = 1) -> list[Effect]:
    return made.heartbeat(Millis(made._now + 1_000 * seconds))


# Joining and leaving


def test_the_mesh_is_everybody_while_they_are_few_and_some_when_they_are_many() -> None:
    assert len(members(router(4))) == 4
    many = router(20)
    assert len(members(many)) == 4
    beat(many)
    assert len(members(many)) == 4


def test_joining_grafts_at_once_and_leaving_prunes_with_a_shorter_back_off() -> None:
    made = router(6, joined=False)
    effects = made.subscribe("t")
    grafted = [peer for peer, control in controls(effects).items() if control.graft == ("t",)]
    assert len(grafted) == 3
    assert sum(len(effect.peers) for effect in effects if isinstance(effect, SendRpc)) == 6
    told = controls(made.unsubscribe("t"))
    assert list(told) == grafted
    assert all(control.prune[0].backoff_s == 10 for control in told.values())
    assert made.topics == ()
    made.subscribe("t")
    assert not members(made) & set(grafted)


def test_who_leaves_names_others_to_whom_it_left_unless_their_score_is_bad() -> None:
    made = router(4)
    made.scores.application(name(0), -1.0)
    told = controls(made.unsubscribe("t"))
    assert told[name(0)].prune[0].peers == ()
    assert {info.identity for info in told[name(1)].prune[0].peers} == {b"2", b"3"}


def test_a_neighbour_that_comes_again_is_told_of_the_mesh_again() -> None:
    made = router(1)
    (effect,) = made.peer_added(name(0))
    assert isinstance(effect, SendRpc)
    assert effect.rpc == Rpc(subscriptions=wants("t").subscriptions, control=Control(graft=("t",)))


def test_who_wants_a_topic_no_longer_or_is_gone_is_in_no_mesh() -> None:
    made = router(3)
    made.received(name(0), wants("t", subscribe=False))
    made.received(name(0), wants("other", subscribe=False))
    made.peer_removed(name(1))
    assert members(made) == {name(2)}


# GRAFT and PRUNE


def test_a_graft_is_accepted_while_there_is_room_and_refused_with_others_named_when_there_is_none() -> None:
    made = router(9)
    assert len(members(made)) == 4
    outsider = next(name(number) for number in range(9) if name(number) not in members(made))
    (told,) = controls(made.received(outsider, graft())).values()
    (refusal,) = told.prune
    assert refusal.backoff_s == 60
    assert len(refusal.peers) == 8
    assert outsider not in members(made)
    made = router(2)
    made.mesh.topics["t"].clear()
    assert made.received(name(0), graft()) == []
    assert members(made) == {name(0)}
    assert made.received(name(0), graft()) == []


def test_others_are_named_with_their_signed_records_and_those_without_only_where_nobody_has_one() -> None:
    made = router(9)
    outsider = next(name(number) for number in range(9) if name(number) not in members(made))
    inside = sorted(members(made))[:2]
    made.peer_recorded(inside[0], b"record 1")
    made.peer_added(inside[1], identity=b"second", record=b"record 2")
    made.peer_recorded(Peer("stranger"), b"record 3")
    (told,) = controls(made.received(outsider, graft())).values()
    assert {info.record for info in told.prune[0].peers} == {b"record 1", b"record 2"}


def test_a_full_mesh_still_takes_whom_we_dialled() -> None:
    made = router(9)
    made.peer_added(Peer("dialled"), outbound=True)
    made.received(Peer("dialled"), wants("t"))
    assert made.received(Peer("dialled"), graft()) == []
    assert Peer("dialled") in members(made)


def test_grafts_for_topics_that_one_of_us_does_not_want_and_from_strangers_get_no_answer() -> None:
    made = router(1)
    made.peer_added(Peer("mute"))
    assert made.received(name(0), graft("unknown")) == []
    assert made.received(Peer("mute"), graft()) == []
    assert made.received(Peer("stranger"), graft()) == []
    assert made.counters.grafts_received == 2


def test_who_grafts_during_a_back_off_is_refused_made_to_wait_anew_and_scored_down() -> None:
    made = router(3)
    made.received(name(0), prune())
    assert name(0) not in members(made)
    (told,) = controls(made.received(name(0), graft())).values()
    assert told.prune == (Prune(topic="t", backoff_s=60),), "nobody is named to it"
    for _ in range(3):
        made.received(name(0), graft())
    assert made.scores.of(name(0)) == -40, "at once counts twice: eight, two beyond what is tolerated"
    beat(made, 59)
    before = made.counters.grafts_too_soon
    made.received(name(0), graft())
    assert made.counters.grafts_too_soon == before + 1


def test_a_late_graft_during_a_back_off_counts_once() -> None:
    made = router(1, score=ScoreConfig(behaviour_threshold=0.0, behaviour_weight=-1.0))
    made.received(name(0), prune())
    beat(made, 30)
    made.received(name(0), graft())
    assert made.scores.of(name(0)) == -1.0


def test_after_the_back_off_and_some_slack_a_peer_is_grafted_again() -> None:
    made = router(2)
    made.received(name(0), prune(backoff_s=30))
    for _ in range(31):
        assert not controls(beat(made))
    assert controls(beat(made)) == {name(0): Control(graft=("t",))}
    assert members(made) == {name(0), name(1)}


def test_who_has_a_bad_score_is_not_grafted() -> None:
    made = router(1)
    made.mesh.topics["t"].clear()
    made.scores.application(name(0), -1.0)
    (told,) = controls(made.received(name(0), graft())).values()
    assert told.prune == (Prune(topic="t", backoff_s=60),)
    assert beat(made) == []
    assert members(made) == set()


def test_a_prune_for_a_topic_we_do_not_want_is_nothing() -> None:
    assert router(1).received(name(0), prune("unknown")) == []


def test_others_are_heeded_only_from_who_earned_trust() -> None:
    others = (PeerInfo(identity=b"x"),)
    made = router(2)
    assert made.received(name(0), prune(peers=others)) == []
    made.scores.application(name(1), 30.0)
    assert made.received(name(1), prune(peers=others)) == [Suggest(peer=name(1), topic="t", others=others)]
    assert made.received(name(1), prune()) == []
    assert made.counters.suggestions == 1


# Heartbeats


def test_members_with_a_bad_score_are_pruned_and_others_grafted() -> None:
    made = router(9)
    bad = sorted(members(made))[:3]
    for peer in bad:
        made.scores.application(peer, -1.0)
    told = controls(beat(made))
    for peer in bad:
        assert told[peer].prune == (Prune(topic="t", backoff_s=60),)
    assert len(members(made)) == 3
    assert not members(made) & set(bad)


def test_too_many_members_are_cut_down_to_the_best_some_by_lot_and_some_that_we_dialled() -> None:
    made = router(9)
    made.mesh.topics["t"] = {name(number): None for number in range(8)}
    for number in (5, 6):
        made.scores.application(name(number), 10.0)
    made.peer_added(name(7), outbound=True, identity=b"7")
    told = controls(beat(made))
    assert members(made) == {name(5), name(6), name(7)}
    assert len(told) == 5
    assert all(control.prune[0].peers for control in told.values())


def test_where_enough_are_dialled_already_the_lot_decides() -> None:
    made = router(9, outbound=9)
    made.mesh.topics["t"] = {name(number): None for number in range(8)}
    beat(made)
    assert len(members(made)) == 3


def test_a_mesh_of_those_who_came_to_us_is_joined_by_one_we_dialled() -> None:
    made = router(9)
    made.peer_added(Peer("dialled"), outbound=True)
    made.received(Peer("dialled"), wants("t"))
    assert Peer("dialled") not in members(made)
    assert controls(beat(made)) == {Peer("dialled"): Control(graft=("t",))}


def test_a_poor_mesh_is_improved_now_and_then() -> None:
    made = router(9, opportunistic_heartbeats=2)
    good = [name(number) for number in range(9) if name(number) not in members(made)]
    for peer in good[:3]:
        made.scores.application(peer, 5.0)
    assert beat(made) == []
    assert set(controls(beat(made))) < set(good[:3])
    assert made.counters.opportunistic_grafts == 2


def test_a_good_mesh_is_left_alone() -> None:
    made = router(9, opportunistic_heartbeats=1)
    for number in range(9):
        made.scores.application(name(number), 5.0)
    assert beat(made) == []


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


# IHAVE and IWANT


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
