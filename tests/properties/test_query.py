"""The query language, whatever is written in it: it is understood or refused, and prints as what it means."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.protocol.errors import Refused
from fondaco.protocol.query import OFFERS, Query, failures, matches, parse

WORDS = [
    *("and", "or", "not", "in", "by", "(", ")", "[", "]", ",", "..", "=", "!=", "<", ">=", "audited", "retiring"),
    *("region", "price", "gpu.model", "latency.p95", "attribute.x"),
    *("us-*", "2.5", "50ms", "'a b'", '"', "yes", "é*"),
]
COMPARISONS = [
    *("price < 2.5", "price in 1..3", "region = us-*", 'region != "x*"', "audited", "audited by Acme"),
    *("gpu.model in [h100, a100]", "retiring = no", "latency.p95 in ..50ms", "tee = tdx", "gpu.units >= 4"),
]
SUBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "price": st.integers(0, 4_000_000),
        "region": st.sampled_from(["us-west", "eu-north", "x*"]),
        "audited": st.lists(st.sampled_from(["Acme", "Bee"]), max_size=2),
        "gpu.model": st.lists(st.sampled_from(["h100", "t4"]), max_size=2),
        "gpu.units": st.integers(0, 8),
        "retiring": st.booleans(),
        "latency.p95": st.integers(0, 100).map(Fraction),
    },
)


def joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(parts, st.sampled_from([" and ", " or ", " "]), parts).map(lambda p: f"({p[0]}{p[1]}{p[2]})")
    return pair | parts.map(lambda p: f"not {p}")


QUERIES = st.recursive(st.sampled_from(COMPARISONS), joined, max_leaves=8)


def understood(text: str) -> Query | None:
    """What `text` means; None where it is refused, in the manner of refusals."""
    with contextlib.suppress(Refused):
        return parse(text, OFFERS)
    with pytest.raises(Refused, match=r"^query\.[a-z_]+: at column [0-9]+: "):
        parse(text, OFFERS)
    return None


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join) | st.text(max_size=60))
def test_a_text_is_understood_or_refused(text: str) -> None:
    query = understood(text)
    assert query is None or str(parse(str(query), OFFERS)) == str(query)


@given(QUERIES, SUBJECTS)
def test_what_a_query_prints_means_the_same_and_failures_are_told_where_it_fails(
    text: str, subject: dict[str, object]
) -> None:
    query = parse(text, OFFERS)
    again = parse(str(query), OFFERS)
    holds = matches(query, subject)  # type: ignore[arg-type]
    assert matches(again, subject) is holds  # type: ignore[arg-type]
    assert bool(failures(query, subject)) is not holds  # type: ignore[arg-type]


@given(QUERIES, SUBJECTS)
def test_nothing_matches_a_query_and_its_contrary(text: str, subject: dict[str, object]) -> None:
    assert not (matches(parse(text, OFFERS), subject) and matches(parse(f"not ({text})", OFFERS), subject))  # type: ignore[arg-type]


@given(SUBJECTS)
def test_of_what_is_known_a_query_or_its_contrary_matches(subject: dict[str, object]) -> None:
    for text in ("price < 2.5", "region = us-*", "gpu.units >= 4"):
        if text.partition(" ")[0] in subject:
            one, other = parse(text, OFFERS), parse(f"not {text}", OFFERS)
            assert matches(one, subject) is not matches(other, subject)  # type: ignore[arg-type]
