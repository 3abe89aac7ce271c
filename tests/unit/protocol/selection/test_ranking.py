"""The cheapest bid wins, whoever was first; and every bid is told why."""

from __future__ import annotations

import itertools

from tests.support.bids import NOW, about, bid
from tests.support.workloads import group, key, unit

from fondaco.protocol.query import BIDS, parse
from fondaco.protocol.selection import Knowledge, rank, show_credits


def test_the_cheapest_wins_in_whatever_order_they_arrive() -> None:
    bids = [bid(1, 900_000), bid(2, 700_000), bid(3, 800_000)]
    for order in itertools.permutations(bids):
        ranking = rank(group(), order, now=NOW)
        assert [one.candidate.price_per_hour for one in ranking.ranked] == [700_000, 800_000, 900_000]
        assert ranking.best is bids[1]


def test_a_tie_is_broken_by_the_hash_and_not_by_arrival() -> None:
    bids = [bid(number, 500_000) for number in range(1, 6)]
    expected = min(bids, key=lambda one: one.id)
    for order in itertools.permutations(bids, 5):
        assert rank(group(), order, now=NOW).best == expected


def test_bids_that_cannot_be_taken_are_set_aside_with_a_reason() -> None:
    bids = [
        bid(1, 3_000_000),
        bid(2, 500_000, expires_at=1_000),
        bid(3, 500_000, units=(unit(cpu=10),)),
        bid(4, 500_000),
        bid(9, 100_000),
    ]
    ranking = rank(group(), bids, now=NOW, tenant=key(9))
    assert ranking.best is bids[3]
    reasons = {one.candidate.provider: one.reason for one in ranking.set_aside}
    assert reasons == {
        key(1): "3.00/h is above the maximum, 2.00/h",
        key(2): "it expired 0 ms ago",
        key(3): "unit 1 cpu_milli: asked 1000, available 10",
        key(9): "it is the tenant's own",
    }


def test_a_providers_latest_word_replaces_its_earlier_ones() -> None:
    bids = [bid(1, 900_000 - serial * 10_000, serial=serial) for serial in range(6)]
    ranking = rank(group(), [*bids, bids[-1]], now=NOW)
    assert [one.candidate for one in ranking.ranked] == [bids[-1]]
    assert [one.reason for one in ranking.set_aside] == ["the same provider bid again"] * 5


def test_the_explanation_has_a_line_for_each_bid() -> None:
    lines = rank(group(), [bid(1, 1_500_000), bid(2, 1_500_000), bid(3, 9_000_000)], now=NOW).explain()
    assert len(lines) == 3
    assert lines[0].endswith("chosen: 1.50/h, 25 % below the maximum")
    assert "no. 2, tied, its hash is higher" in lines[1]
    assert "not possible" in lines[2]


def test_no_bids_is_no_choice() -> None:
    ranking = rank(group(), [], now=NOW)
    assert ranking.best is None
    assert ranking.explain() == []


def test_a_query_sets_aside_what_does_not_match_and_says_why() -> None:
    bids = [bid(1, 500_000), bid(2, 600_000), bid(3, 1_500_000)]
    known = Knowledge(providers={key(1): about("eu-north"), key(2): about(), key(3): about()})
    ranking = rank(group(), bids, now=NOW, known=known, where=parse("region = us-* and price < 1", BIDS))
    assert [one.candidate for one in ranking.ranked] == [bids[1]]
    reasons = {one.candidate.provider: one.reason for one in ranking.set_aside}
    assert reasons == {key(1): "region = us-*: it is eu-north", key(3): "price < 1: it is 1.5"}


def test_money_reads_as_credits() -> None:
    shown = [show_credits(amount) for amount in (2_000_000, 2_350_000, 1, 123_456_789)]
    assert shown == ["2.00", "2.35", "0.000001", "123.456789"]
