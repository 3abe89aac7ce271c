"""The mesh's rules, one by one: joining, GRAFT, PRUNE, heartbeats."""

from tests.support.gossip_router import beat, controls, graft, members, name, prune, router, wants

from fondaco.protocol.gossip.control import Control, PeerInfo, Prune
from fondaco.protocol.gossip.parameters import ScoreConfig
from fondaco.protocol.gossip.router import Peer, SendRpc, Suggest
from fondaco.protocol.gossip.wire import Rpc

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
