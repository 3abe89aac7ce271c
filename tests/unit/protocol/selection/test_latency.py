"""Percentiles of round trips, in which what was lost counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.bids import NOW, about, bid
from tests.support.workloads import group, key

from fondaco.protocol.query import BIDS, fields_of, parse
from fondaco.protocol.scalars import Millis
from fondaco.protocol.selection import STRATEGIES, Knowledge, Latency, ProviderFacts, rank, summarise, worst
from fondaco.protocol.selection.latency import Sample, percentile

answered = st.integers(1, 2_000).map(Millis)
samples = st.lists(st.none() | answered, min_size=1, max_size=200)
percents = st.integers(1, 100)


def millis(*values: int | None) -> list[Sample]:
    return [None if one is None else Millis(one) for one in values]


def least(found: list[Sample], percent: int) -> float:
    """By the definition: the least value that at least so many of 100 samples do not exceed."""
    values = sorted(float("inf") if one is None else one for one in found)
    return next(one for one in values if sum(each <= one for each in values) * 100 >= percent * len(values))


@given(found=samples, percent=percents)
def test_a_percentile_is_the_least_sample_that_so_many_do_not_exceed(found: list[Sample], percent: int) -> None:
    value = percentile(found, percent)
    assert (float("inf") if value is None else value) == least(found, percent)


@given(found=samples, order=st.randoms())
def test_the_order_of_samples_is_nothing_to_it(found: list[Sample], order: object) -> None:
    shuffled = list(found)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert summarise(shuffled) == summarise(found)


@given(found=samples, percent=percents)
def test_one_more_loss_never_makes_anybody_look_faster(found: list[Sample], percent: int) -> None:
    before, after = percentile(found, percent), percentile([*found, None], percent)
    assert after is None or (before is not None and before <= after)


@given(found=samples)
def test_percentiles_ascend_and_a_lost_one_is_followed_by_none(found: list[Sample]) -> None:
    known = summarise(found)
    for low, high in ((known.p50, known.p95), (known.p95, known.p99)):
        assert high is None or (low is not None and low <= high)


def test_three_fast_answers_of_twenty_make_nobody_fast() -> None:
    known = summarise(millis(1, 1, 1, *[None] * 17))
    assert (known.p50, known.p95, known.p99) == (None, None, None)
    assert (known.samples, known.lost) == (20, 17)
    assert str(known) == "p50 lost, p95 lost, p99 lost; 17 of 20 probes lost"


def test_one_loss_of_twenty_leaves_the_95th() -> None:
    known = summarise(millis(*range(1, 20), None))
    assert (known.p50, known.p95, known.p99) == (10, 19, None)


@given(several=st.lists(samples.map(summarise), min_size=1, max_size=5), bound=answered)
def test_a_bound_on_the_worst_holds_wherever_it_was_measured(several: list[Latency], bound: Millis) -> None:
    whole = worst(several)
    for name in ("p50", "p95", "p99"):
        values = [one.percentile(name) for one in several]
        value = whole.percentile(name)
        assert (value is not None and value <= bound) == all(one is not None and one <= bound for one in values)


def test_the_worst_says_from_where_it_is() -> None:
    near = summarise(millis(3, 4), vantage="paris")
    far = summarise(millis(90, None, 80), vantage="tokyo")
    assert worst([near, summarise(millis(70), vantage="rome")]).told == "70 ms for 95 of 100 from rome"
    assert worst([far, near]).told == "1 of 5 probes lost from tokyo"
    assert str(worst([far, near])) == "p50 90 ms, p95 lost, p99 lost; 1 of 5 probes lost from tokyo"


def test_a_query_says_which_fields_it_asks_about() -> None:
    asked = fields_of(parse("price < 1 (not latency.p95 > 50 or region = us-*) audited", BIDS))
    assert asked == {"price", "latency.p95", "region", "audited"}


def knowing(*found: Latency | None) -> Knowledge:
    return Knowledge(
        providers={key(number): ProviderFacts(latency=one) for number, one in enumerate(found, start=1)}
    )


def test_fastest_puts_those_that_lose_probes_after_those_that_do_not_and_the_silent_with_the_unknown() -> None:
    silent, half, few = millis(None, None), millis(1, 1, None, None), millis(1, 1, 1, None)
    known = knowing(summarise(silent), summarise(half), summarise(few), summarise(millis(1_900)))
    bids = [bid(number, 1_000_000 - number) for number in range(1, 6)]
    ranking = rank(group(), bids, now=NOW, strategy=STRATEGIES["fastest"], known=known)
    assert [one.reason.partition(",")[0] for one in ranking.ranked] == [
        "1900 ms for 95 of 100",
        "1 of 4 probes lost",
        "2 of 4 probes lost",
        "never measured",
        "2 of 2 probes lost",
    ]


@pytest.mark.parametrize("query", ["latency.p95 < 50", "latency.p95 > 50", "not latency.p95 < 50"])
def test_a_percentile_that_was_lost_matches_no_comparison_and_it_is_said_why(query: str) -> None:
    known = knowing(summarise(millis(1, 1, 1, None)))
    ranking = rank(group(), [bid(1, 1)], now=NOW, known=known, where=parse(query, BIDS))
    (aside,) = ranking.set_aside
    assert aside.reason.endswith("; measured: p50 1 ms, p95 lost, p99 lost; 1 of 4 probes lost")


def test_whoever_is_too_slow_is_told_the_figure_and_whoever_is_too_dear_only_the_price() -> None:
    known = knowing(summarise(millis(12, 67), vantage="tokyo"), None)
    bids = [bid(1, 1), bid(2, 2)]
    ranking = rank(group(), bids, now=NOW, known=known, where=parse("latency.p95 < 50", BIDS))
    assert {one.candidate.provider: one.reason for one in ranking.set_aside} == {
        key(
            1
        ): "latency.p95 < 50: it is 67; measured: p50 12 ms, p95 67 ms, p99 67 ms; 0 of 2 probes lost from tokyo",
        key(2): "latency.p95 < 50: not known",
    }
    (dear,) = rank(group(), bids[:1], now=NOW, known=known, where=parse("price > 1", BIDS)).set_aside
    assert dear.reason == "price > 1: it is 1e-06"


def test_balanced_tells_the_figure_it_weighed() -> None:
    known = Knowledge(providers={key(1): about(p95=30), key(2): about()})
    ranking = rank(
        group(), [bid(1, 500_000), bid(2, 500_000)], now=NOW, strategy=STRATEGIES["balanced"], known=known
    )
    assert "latency 0 (30 ms for 95 of 100), reliability" in ranking.ranked[0].reason
    assert "latency 1000, reliability" in ranking.ranked[1].reason


def test_a_millisecond_more_is_not_all_the_difference_there_can_be() -> None:
    def weighed(*took: int) -> list[str]:
        known = knowing(*(summarise(millis(one)) for one in took))
        bids = [bid(number, 500_000) for number in range(1, len(took) + 1)]
        ranking = rank(group(), bids, now=NOW, strategy=STRATEGIES["balanced"], known=known)
        return [one.reason.partition("latency ")[2].partition(" (")[0] for one in ranking.ranked]

    assert weighed(2, 3) == ["0", "50"]
    assert weighed(2, 22, 12) == ["0", "500", "1000"]
    assert weighed(2, 202, 22) == ["0", "100", "1000"]
