"""A file of the tenant's own rules: what it does to a ranking, and what is said of one that means nothing."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from tests.support.bids import NOW, about, bid
from tests.support.workloads import group, key

from fondaco.protocol.errors import Refused
from fondaco.protocol.selection import Knowledge, Weights, rank, read_rules

RULES = """
require = "audited and price < 1.5"

[weights]
price = 100
latency = 0
reliability = 0
audits = 0

[[prefer]]
when = "region = eu-*"
points = 900

[[prefer]]
when = "outages > 2"
points = -300
"""


def test_rules_set_aside_weigh_and_prefer() -> None:
    rules = read_rules(tomllib.loads(RULES))
    bids = [bid(1, 1_000_000), bid(2, 1_400_000), bid(3, 900_000), bid(4, 1_450_000), bid(5, 1_600_000)]
    known = Knowledge(
        providers={
            key(1): about("us", audited_by=("Acme",)),
            key(2): about("eu-north", audited_by=("Acme",)),
            key(4): about("eu-south", audited_by=("Acme",), outages=3),
            key(5): about("eu-south", audited_by=("Acme",)),
        }
    )
    ranking = rank(group(), bids, now=NOW, strategy=rules.strategy(NOW), known=known, where=rules.require)
    assert [one.candidate for one in ranking.ranked] == [bids[1], bids[0], bids[3]]
    assert ranking.ranked[0].reason.startswith("-12, -900 as region = eu-*; score 888 of 1,000")
    assert ranking.ranked[2].reason.startswith("400, -900 as region = eu-*, +300 as outages > 2; score 1000")
    assert [one.reason for one in ranking.set_aside if one.candidate is bids[2]] == ["audited: there is none"]
    assert [one.reason for one in ranking.set_aside if one.candidate is bids[4]] == ["price < 1.5: it is 1.6"]


def test_an_empty_file_is_the_balanced_strategy() -> None:
    rules = read_rules({})
    assert (rules.require, rules.weights, rules.prefer) == (None, Weights(), ())


@pytest.mark.parametrize(
    ("document", "code", "says"),
    [
        ({"requires": "x"}, "rules.unknown", "did you mean require?"),
        ({"zzz": 1}, "rules.unknown", "there are: require, weights, prefer"),
        ({"require": 1}, "rules.value", "require: a query"),
        (
            {"require": "prize < 1"},
            "query.field",
            "require: at column 1: bids have no field 'prize' (did you mean price?)",
        ),
        ({"weights": 3}, "rules.value", "weights: a table"),
        ({"weights": {"prices": 3}}, "rules.unknown", "weights.prices means nothing (did you mean price?)"),
        ({"weights": {"price": -1}}, "rules.value", "weights.price: a whole number from 0"),
        ({"weights": {"price": 1.5}}, "rules.value", "weights.price"),
        ({"weights": {"price": True}}, "rules.value", "weights.price"),
        ({"weights": {"price": 0, "latency": 0, "reliability": 0, "audits": 0}}, "rules.value", "above 0"),
        ({"prefer": {}}, "rules.value", "prefer: tables"),
        ({"prefer": [{}] * 65}, "rules.value", "64 at most"),
        ({"prefer": [3]}, "rules.value", "prefer[0]: a table"),
        ({"prefer": [{"when": "audited"}]}, "rules.value", "prefer[0].points is missing"),
        ({"prefer": [{"points": 1}]}, "rules.value", "prefer[0].when is missing"),
        ({"prefer": [{"when": "audited", "points": 2_000}]}, "rules.value", "from -1000 to 1000"),
        ({"prefer": [{"when": "(", "points": 2}]}, "query.syntax", "prefer[0].when: at column"),
    ],
)
def test_rules_that_mean_nothing_are_refused_with_their_place(
    document: dict[str, Any], code: str, says: str
) -> None:
    with pytest.raises(Refused) as error:
        read_rules(document)
    assert error.value.code == code
    assert says in str(error.value)
