"""Each part of the score by itself, its bound, and how it fades."""

from dataclasses import replace

import pytest

from fondaco.protocol.gossip.effects import Peer
from fondaco.protocol.gossip.parameters import ScoreConfig, TopicScore
from fondaco.protocol.gossip.score import Scores
from fondaco.protocol.scalars import Millis

A, B, C = Peer("a"), Peer("b"), Peer("c")
NOTHING = TopicScore(time_weight=0.0, first_weight=0.0, invalid_weight=0.0)


def scores(terms: TopicScore = NOTHING, **config: float) -> Scores:
    """Of two neighbours; only topic "t" counts."""
    made = Scores(replace(ScoreConfig(topics={"t": terms}, other_topics=None), **config), Millis(0))  # type: ignore[arg-type]
    made.added(A, "")
    made.added(B, "")
    return made


def test_time_in_the_mesh_is_rewarded_up_to_a_cap() -> None:
    made = scores(replace(NOTHING, time_weight=0.5, time_quantum_ms=1000, time_cap=4))
    made.grafted(A, "t", Millis(0))
    made.decay(Millis(2500))
    assert made.of(A) == 1.0
    made.decay(Millis(60_000))
    assert made.of(A) == 2.0
    made.pruned(A, "t")
    assert made.of(A) == 0.0


def test_messages_brought_first_are_rewarded_up_to_a_cap_and_the_reward_fades() -> None:
    made = scores(replace(NOTHING, weight=2.0, first_weight=1.0, first_cap=3, first_decay=0.5))
    for _ in range(5):
        made.first_delivery(A, "t")
    assert made.of(A) == 6.0
    made.decay(Millis(999))
    assert made.of(A) == 6.0
    made.decay(Millis(2000))
    assert made.of(A) == 1.5
    made.decay(Millis(60_000))
    assert made.of(A) == 0.0


def owing() -> Scores:
    made = scores(
        replace(
            NOTHING,
            delivery_weight=-1.0,
            delivery_threshold=3,
            delivery_cap=4,
            delivery_decay=0.9,
            delivery_activation_ms=5000,
            failure_weight=-1.0,
            failure_decay=0.5,
        )
    )
    made.grafted(A, "t", Millis(0))
    return made


def test_a_mesh_peer_owes_deliveries_after_a_while_and_pays_by_the_square() -> None:
    made = owing()
    made.decay(Millis(5000))
    assert made.of(A) == 0.0
    made.decay(Millis(6000))
    assert made.of(A) == -9.0
    made.near_first(A, "t")
    assert made.of(A) == -4.0
    for _ in range(9):
        made.first_delivery(A, "t")
    assert made.of(A) == 0.0
    made.near_first(B, "t")
    assert made.of(B) == 0.0


def test_what_a_pruned_peer_owed_sticks_and_fades() -> None:
    made = owing()
    made.decay(Millis(6000))
    made.near_first(A, "t")
    made.pruned(A, "t")
    assert made.of(A) == -4.0
    made.pruned(A, "t")
    assert made.of(A) == -4.0
    made.decay(Millis(7000))
    assert made.of(A) == -2.0


def test_who_delivered_enough_owes_nothing_when_it_is_pruned() -> None:
    made = owing()
    made.decay(Millis(6000))
    for _ in range(4):
        made.near_first(A, "t")
    made.pruned(A, "t")
    assert made.of(A) == 0.0


def test_invalid_messages_cost_by_the_square_and_fade() -> None:
    made = scores(replace(NOTHING, invalid_weight=-10.0, invalid_decay=0.5))
    made.invalid(A, "t")
    assert made.of(A) == -10.0
    made.invalid(A, "t")
    assert made.of(A) == -40.0
    made.decay(Millis(1000))
    assert made.of(A) == -10.0


def test_the_reward_of_all_topics_has_a_cap() -> None:
    made = scores(replace(NOTHING, first_weight=10.0), topic_cap=25.0)
    for _ in range(9):
        made.first_delivery(A, "t")
    assert made.of(A) == 25.0


def test_the_application_has_its_say() -> None:
    made = scores(application_weight=2.0)
    made.application(A, -3.0)
    made.application(C, 5.0)
    assert (made.of(A), made.of(C)) == (-6.0, 0.0)


def test_too_many_at_one_address_cost_each_of_them_by_the_square() -> None:
    made = scores(colocation_threshold=2, colocation_weight=-5.0)
    for number in range(4):
        made.added(Peer(str(number)), "1.2.3.4")
    assert made.of(Peer("0")) == -20.0
    assert made.of(A) == 0.0
    made.removed(Peer("3"), Millis(0))
    assert made.of(Peer("0")) == -5.0
    made.added(Peer("2"), "5.6.7.8")
    assert made.of(Peer("0")) == 0.0
    made.added(Peer("2"), "")
    assert made.of(Peer("2")) == 0.0


def test_misdeeds_cost_by_the_square_beyond_what_is_tolerated_and_fade() -> None:
    made = scores(behaviour_threshold=2.0, behaviour_weight=-1.0, behaviour_decay=0.5)
    made.misdeed(A, 2)
    assert made.of(A) == 0.0
    made.misdeed(A, 4)
    assert made.of(A) == -16.0
    made.misdeed(C, 4)
    made.decay(Millis(1000))
    assert made.of(A) == -1.0


def test_a_bad_score_outlives_the_connection_and_does_not_fade_meanwhile() -> None:
    made = scores(replace(NOTHING, invalid_weight=-10.0, first_weight=1.0), retain_ms=10_000)
    made.first_delivery(A, "t")
    made.invalid(A, "t")
    made.removed(A, Millis(0))
    assert made.of(A) == 0.0
    made.decay(Millis(9_999))
    made.added(A, "")
    assert made.of(A) == -10.0, "what it brought is no longer to its credit"


def test_a_bad_score_is_forgotten_in_the_end_and_a_good_one_at_once() -> None:
    made = scores(replace(NOTHING, invalid_weight=-10.0, first_weight=1.0), retain_ms=10_000)
    made.first_delivery(B, "t")
    made.removed(B, Millis(0))
    made.added(B, "")
    assert made.of(B) == 0.0
    made.invalid(A, "t")
    made.removed(A, Millis(0))
    made.decay(Millis(10_000))
    made.added(A, "")
    assert made.of(A) == 0.0


def test_what_is_retained_is_bounded() -> None:
    made = scores(replace(NOTHING, invalid_weight=-10.0), retained=1)
    for peer in (A, B):
        made.invalid(peer, "t")
        made.removed(peer, Millis(0))
        made.added(peer, "")
        made.removed(peer, Millis(0))
    made.added(A, "")
    made.added(B, "")
    assert (made.of(A), made.of(B)) == (0.0, -10.0)


@pytest.mark.parametrize("act", [Scores.first_delivery, Scores.near_first, Scores.invalid, Scores.pruned])
def test_what_is_not_scored_does_not_count(act: object) -> None:
    made = scores(TopicScore())
    act(made, A, "other")  # type: ignore[operator]
    act(made, C, "t")  # type: ignore[operator]
    made.grafted(A, "other", Millis(0))
    made.decay(Millis(1000))
    assert (made.of(A), made.of(C)) == (0.0, 0.0)


def test_a_long_sleep_costs_no_long_reckoning() -> None:
    made = scores(replace(NOTHING, invalid_weight=-10.0))
    made.invalid(A, "t")
    made.decay(Millis(10**15))
    assert made.of(A) == 0.0
