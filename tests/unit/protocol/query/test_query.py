"""The query language: what matches, what does not, and what is said of a query that means nothing."""

from __future__ import annotations

from typing import Any

import pytest

from fondaco.protocol.errors import Refused
from fondaco.protocol.query import BIDS, OFFERS, PROVIDERS, failures, matches, parse

GIB = 2**30
SUBJECT: dict[str, Any] = {
    "provider": "fondaco1abc",
    "region": "us-west",
    "price": 2_400_000,
    "gpu.model": ("h100", "a100"),
    "gpu.ram": (80 * GIB, 40 * GIB),
    "gpu.units": 8,
    "gpu.vendor": (),
    "cpu": 500,
    "audited": ("Acme", "fondaco1xyz"),
    "latency.p95": 49,
    "uptime.7d": 999,
    "retiring": False,
    "attribute.tier": "community",
    "tee": None,
}


def holds(text: str) -> bool:
    return matches(parse(text, OFFERS), SUBJECT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpu.model in [h100, h200] and price < 2.5 and region = us-* and audited by Acme and latency.p95 < 50",
        "gpu.model in [h100, h200] price < 2.5 region = us-*",
        "price <= 2.4 and price >= 2.4 and price = 2.4 and price == 2.40",
        "price < 60/day",
        "price < 1800/month",
        "not price > 2.4",
        "price != 3",
        "gpu.ram in 24GB..80GB",
        "gpu.ram in 60GiB..",
        "gpu.ram in ..40Gi",
        "gpu.ram > 80000M",
        "gpu.units in [4, 8]",
        "cpu = 500m and cpu < 0.6",
        "region = US-WEST",
        "region = *west and region = us* and region = *s-w* and region = u*-*t and region = *",
        'region = "us-west"',
        "region != eu-*",
        "audited",
        "audited by 'acme'",
        "uptime.7d > 99.5% and uptime.7d < 1",
        "retiring = no",
        "not retiring",
        "attribute.tier = community",
        "(region = eu-* or region = us-*) and price < 3",
        "region = eu-* or region = us-* and price < 3",
        "latency.p95 in 0..50ms and latency.p95 < 1s",
        "GPU.Model = H100",
        "not not retiring = no",
    ],
)
def test_what_matches(text: str) -> None:
    assert holds(text)
    assert failures(parse(text, OFFERS), SUBJECT) == []


@pytest.mark.parametrize(
    "text",
    [
        "price < 2.4",
        "price > 2.4",
        "gpu.model = h200",
        "gpu.model != h100",
        "gpu.ram in 50GB..60GB",
        "gpu.vendor",
        "gpu.vendor = nvidia",
        "region = us",
        "region = us-west*t",
        "region = us-w*-west",
        "region = *x*",
        'region = "us-*"',
        "audited by Nobody",
        "retiring",
        "retiring = yes",
        "region = eu-* or price > 5",
        "region = us-* price > 5",
    ],
)
def test_what_does_not_match_and_says_so(text: str) -> None:
    assert not holds(text)
    assert failures(parse(text, OFFERS), SUBJECT)


@pytest.mark.parametrize("text", ["tee = tdx", "not tee = tdx", "tee != tdx", "tee", "not tee", "memory > 1GB"])
def test_what_is_not_known_matches_nothing_and_no_contrary(text: str) -> None:
    assert not holds(text)
    assert holds(f"price < 3 or {text}")
    assert not holds(f"price < 3 and {text}")
    assert not holds(f"price > 3 or {text}")


def test_failures_name_what_was_asked_and_what_is_there() -> None:
    query = parse(
        "price < 2 and region = us-* and gpu.vendor = amd and tee = tdx and retiring = yes "
        "and (gpu.units = 1 or uptime.7d = 1) and not audited and gpu.ram < 1GB",
        OFFERS,
    )
    assert failures(query, SUBJECT) == [
        "price < 2: it is 2.4",
        "gpu.vendor = amd: there is none",
        "tee = tdx: not known",
        "retiring = yes: it is no",
        "none of gpu.units = 1: it is 8 or uptime.7d = 1: it is 0.999",
        "not audited",
        f"gpu.ram < 1GB: it is {80 * GIB}, {40 * GIB}",
    ]
    whole = parse("price < 1", OFFERS)
    assert failures(whole, {"price": 2_000_000}) == ["price < 1: it is 2"]


@pytest.mark.parametrize(
    ("text", "code", "column", "says"),
    [
        ("prize < 2", "query.field", 1, "price"),
        ("zzzzzz < 2", "query.field", 1, "fields are provider"),
        ("attribute. = x", "query.field", 1, ""),
        ("price < cheap", "query.value", 9, "credits an hour"),
        ("gpu.ram > 10XB", "query.value", 11, "bytes"),
        ("price < " + "9" * 40, "query.value", 9, ""),
        ("latency.p95 < 5%", "query.value", 15, "milliseconds"),
        ("region < x", "query.sign", 8, "no order"),
        ("region in a..b", "query.sign", 11, "no order"),
        ("region in ..b", "query.sign", 13, "no order"),
        ("price <", "query.syntax", 8, "the end"),
        ("price < < 2", "query.syntax", 9, "'<'"),
        ("price in 2", "query.syntax", 11, "x..y"),
        ("price in ..", "query.syntax", 10, "one end"),
        ("price in 3..2", "query.value", 11, "nothing is in"),
        ("price in [1, 2", "query.syntax", 10, "never closed"),
        ("price in []", "query.syntax", 11, "a value of price"),
        ("(price < 2", "query.syntax", 1, "never closed"),
        ("price < 2)", "query.syntax", 10, "one too many"),
        ("price < 2 and", "query.syntax", 14, "a field belongs here"),
        ("and price < 2", "query.syntax", 1, "a field belongs here"),
        ("'price' < 2", "query.syntax", 1, "a field belongs here"),
        ('region = "us', "query.syntax", 10, "never closed"),
        ("price ! 2", "query.syntax", 7, "means nothing"),
        ("retiring = yess", "query.value", 12, "did you mean yes"),
        ("retiring = 17", "query.value", 12, "yes or no"),
        ("not " * 40 + "audited", "query.too_deep", 129, "deeper"),
        ("(" * 40 + "audited", "query.too_deep", 33, "deeper"),
    ],
)
def test_a_query_that_means_nothing_is_refused_with_its_place(
    text: str, code: str, column: int, says: str
) -> None:
    with pytest.raises(Refused) as error:
        parse(text, OFFERS)
    assert error.value.code == code
    assert error.value.message.startswith(f"at column {column}: ")
    assert says in str(error.value)


def test_a_query_has_a_greatest_length() -> None:
    with pytest.raises(Refused, match="allowed") as error:
        parse("audited " * 1_000, OFFERS)
    assert error.value.code == "query.too_long"


def test_each_kind_of_subject_has_fields_of_its_own() -> None:
    parse("notice > 1h and expires > 30s", BIDS)
    for schema in (OFFERS, PROVIDERS):
        with pytest.raises(Refused, match="no field 'notice'"):
            parse("notice > 1h", schema)
    with pytest.raises(Refused, match="no field"):
        parse("price < 2", PROVIDERS)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("price<2.5 region=us-*", "price < 2.5 and region = us-*"),
        ("not (a" + "udited or tee) price==1", "not (audited or tee) and price = 1"),
        ("audited by 'Acme Inc'", 'audited = "acme inc"'),
        ("audited by 'say \"hi\"'", "audited = 'say \"hi\"'"),
        ("gpu.ram in 24GB..", "gpu.ram in 24GB.."),
        ("gpu.ram in ..24GB", "gpu.ram in ..24GB"),
        ("gpu.model in [h100,'*']", 'gpu.model in [h100, "*"]'),
        ("retiring = true", "retiring = yes"),
        ("", ""),
    ],
)
def test_a_query_prints_as_it_is_understood(text: str, printed: str) -> None:
    query = parse(text, OFFERS)
    assert str(query) == printed
    assert str(parse(printed, OFFERS)) == printed
