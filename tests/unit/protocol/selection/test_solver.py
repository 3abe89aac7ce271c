"""What would draw bids: from a handful of providers' words, reckoned by hand."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
from tests.support.workloads import gpu, group, key, unit, volume

from fondaco.protocol import solver_bounds as bounds
from fondaco.protocol.limits import GIB, MIB
from fondaco.protocol.market import Change, CounterOffer, Decline, Reason
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import GroupIndex, MicroCredits, Millis, OrderId
from fondaco.protocol.selection.solver import Asked, Relaxation, Solution, relaxes, solve

HOUR = 3_600_000
REASON = Reason(dimension="cpu_milli", asked="8000", available="4000")


def asked(of: Group, *, window: int = 0) -> Asked:
    """Every replica may cost as much as every other."""
    replicas = sum(one.count for one in of.units)
    rates = {one.id: Fraction(of.max_price_per_hour, replicas) for one in of.units}
    return Asked(group=of, reclamation_window_ms=Millis(window), rates=rates)


def offer(change: Change, value: int, price: int, *, unit: int = 1, subject: str = "") -> CounterOffer:
    return CounterOffer(change=change, unit=unit, subject=subject, value=value, price_per_hour=MicroCredits(price))


def dear(price: int) -> CounterOffer:
    return offer(Change.PRICE, price, price, unit=0)


def fewer(count: int, price: int, *, unit: int = 1) -> CounterOffer:
    return offer(Change.REPLICAS, count, price, unit=unit)


def decline(number: int, *offers: CounterOffer) -> Decline:
    return Decline(
        order=OrderId(bytes(32)),
        group=GroupIndex(0),
        provider=key(number),
        reasons=(REASON,),
        expires_at=Millis(0),
        counter_offers=offers,
    )


def solved(
    of: Group, *declines: Decline, bids: Mapping[int, int] | None = None, wanted: int = 1, **more: Any
) -> Solution:
    return solve(
        asked(of, **more),
        bids={key(number): MicroCredits(price) for number, price in (bids or {}).items()},
        declines={one.provider: one for one in declines},
        wanted=wanted,
    )


def words(one: Relaxation) -> tuple[list[str], int, list[int]]:
    """The moves, what they cost more, and whom they draw."""
    moves = [f"{move.change.name.lower()} {move.before}->{move.value}" for move in one.moves]
    return moves, one.extra_per_hour, [int.from_bytes(drawn.provider) for drawn in one.drawn]


TEN = group(unit(count=10), price=1_000)


def test_a_higher_price_draws_all_whose_price_is_below_it() -> None:
    found = solved(TEN, decline(1, dear(1_300)), decline(2, dear(1_200)), decline(3, dear(1_500)), wanted=2)
    (one,) = found.relaxations
    assert words(one) == (["price 1000->1300"], 300, [2, 1])
    assert all(drawn.promised for drawn in one.drawn)
    assert (found.reached, found.complete, found.unmoved) == (3, True, ())


def test_the_cheapest_change_comes_first_and_then_the_smallest() -> None:
    found = solved(TEN, decline(1, dear(1_300)), decline(2, fewer(4, 350)), decline(3, fewer(8, 790)))
    assert [words(one) for one in found.relaxations] == [
        (["replicas 10->8"], 0, [3]),
        (["replicas 10->4"], 0, [2]),
        (["price 1000->1300"], 300, [1]),
    ]


def test_fewer_replicas_may_cost_less_in_all_and_yet_more_for_each_than_the_file_allows() -> None:
    (one,) = solved(TEN, decline(1, fewer(4, 700))).relaxations
    assert words(one) == (["price 400->700", "replicas 10->4"], 0, [1])
    assert one.price_per_hour == 700


def test_fewer_replicas_at_a_price_too_small_to_be_said_are_a_price_from_nothing() -> None:
    (one,) = solved(group(unit(count=10), price=1), decline(1, fewer(4, 700))).relaxations
    assert words(one) == (["price 0->700", "replicas 10->4"], 699, [1])


def test_who_would_serve_more_serves_less_for_no_more() -> None:
    one, other = solved(TEN, decline(1, fewer(4, 300)), decline(2, fewer(8, 390)), wanted=2).relaxations[0].drawn
    assert (one.provider, one.price_per_hour, one.promised) == (key(1), 300, True)
    assert (other.provider, other.price_per_hour, other.promised) == (key(2), 390, False)


def test_changes_of_several_providers_are_put_together() -> None:
    data = volume("data", 9 * GIB)
    smaller = offer(Change.VOLUME, 2 * GIB, 900, subject="data")
    shorter = offer(Change.WINDOW, HOUR, 950, unit=0)
    of = group(unit(count=2, volumes=(data,)), price=1_000)
    found = solved(of, decline(1, smaller), decline(2, shorter), wanted=2, window=4 * HOUR)
    (one,) = found.relaxations
    assert words(one) == ([f"volume {9 * GIB}->{2 * GIB}", f"window {4 * HOUR}->{HOUR}"], 0, [1, 2])
    assert not any(drawn.promised for drawn in one.drawn), "each spoke of one of the two"


def test_another_model_is_one_more_to_choose_from() -> None:
    of = group(unit(gpus=1, models=gpu("h100")), price=1_000)
    other = offer(Change.GPU_MODEL, 1, 900, subject="vendor/nvidia/model/t4")
    third = offer(Change.GPU_MODEL, 1, 1_100, subject="vendor/nvidia/model/a100")
    found = solved(of, decline(1, other), decline(2, third), wanted=2)
    (one,) = found.relaxations
    assert words(one) == (["price 1000->1100", "gpu_model 1->1", "gpu_model 1->1"], 100, [1, 2])
    assert [move.subject for move in one.moves] == ["", third.subject, other.subject]
    (move,) = solved(of, decline(1, other)).relaxations[0].moves
    assert move.size == 1_000


def test_bids_count_and_what_a_further_one_costs_is_told_beside_the_best() -> None:
    found = solved(TEN, decline(1, dear(1_300)), decline(2, fewer(8, 600)), bids={7: 900}, wanted=2)
    assert [words(one) for one in found.relaxations] == [
        (["price 800->900", "replicas 10->8"], 0, [2, 7]),
        (["price 1000->1300"], 400, [7, 1]),
    ]
    assert solved(TEN, decline(1, dear(1_300)), bids={7: 900}).relaxations == ()
    assert solved(TEN, decline(7, dear(1_300)), bids={7: 900}, wanted=2).reached == 1, "its bid is its word"


def test_what_cannot_be_reached_is_said_and_who_offers_nothing_is_named() -> None:
    found = solved(TEN, decline(1, dear(1_300)), decline(2), wanted=2)
    assert (found.relaxations, found.reached) == ((), 1)
    (other,) = found.unmoved
    assert (other.provider, other.reasons) == (key(2), (REASON,))


T4, H100 = "vendor/nvidia/model/t4", "vendor/nvidia/model/h100"


@pytest.mark.parametrize(
    "offered",
    [
        fewer(10, 5),
        fewer(0, 5),
        fewer(1, 5, unit=9),
        offer(Change.VOLUME, GIB, 5, subject="default"),
        offer(Change.VOLUME, MIB, 5, subject="default"),
        offer(Change.VOLUME, 6 * MIB, 5, subject="other"),
        offer(Change.VOLUME, 6 * MIB, 5, unit=9, subject="default"),
        offer(Change.WINDOW, HOUR, 5),
        offer(Change.WINDOW, -1, 5),
        offer(Change.GPU_MODEL, 2, 5, subject=H100),
        offer(Change.GPU_MODEL, 1, 5, subject=T4),
        offer(Change.GPU_MODEL, 2, 5, subject="vendor/nvidia/model/h100/interface/sxm5"),
        offer(Change.GPU_MODEL, 2, 5, subject="a card"),
        offer(Change.GPU_MODEL, 2, 5, unit=9, subject=T4),
    ],
    ids=str,
)
def test_an_offer_that_is_no_relaxation_of_what_was_asked_is_passed_over(offered: CounterOffer) -> None:
    of = group(unit(count=10, gpus=2, models=gpu("h100")))
    found = solved(of, decline(1, offered), window=HOUR)
    assert found.relaxations == ()
    assert [one.provider for one in found.unmoved] == [key(1)]
    assert not relaxes(asked(of, window=HOUR), offered)
    assert relaxes(asked(of, window=HOUR), fewer(9, 5))


def test_a_list_of_models_that_is_full_is_not_added_to() -> None:
    models = gpu(*(f"m{number:02}" for number in range(62)))
    other = offer(Change.GPU_MODEL, 1, 5, subject=T4)
    assert solved(group(unit(gpus=1, models=models)), decline(1, other)).relaxations == ()
    assert solved(group(unit(gpus=1, models=models[:61])), decline(1, other)).relaxations != ()


def test_with_very_many_offers_the_cheapest_are_tried_and_it_is_said() -> None:
    many = group(unit(count=50), price=10)
    offers = [decline(number, fewer(50 - number, 100 + number)) for number in range(1, bounds.MOVES + 2)]
    assert solved(many, *offers[:-1]).complete
    found = solved(many, *offers)
    assert not found.complete
    assert len(found.relaxations) <= bounds.SHOWN
    crowd = [decline(number, dear(1_000 + number)) for number in range(bounds.OPTIONS + 1)]
    assert not solved(many, *crowd).complete
    assert solved(many, *crowd[:-1]).complete
    assert not solved(many, *offers[: bounds.AT_ONCE + 1], wanted=bounds.AT_ONCE + 1).complete
    assert solved(many, *offers[: bounds.AT_ONCE], wanted=bounds.AT_ONCE + 1).complete
