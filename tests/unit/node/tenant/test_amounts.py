"""Amounts of money are read exactly, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.node.cli.output import credits
from fondaco.node.tenant.amounts import parse_amount
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import INT_MAX


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1credit", 1_000_000),
        ("2.5credits", 2_500_000),
        ("0.000001 credits", 1),
        (" 10.10 credit ", 10_100_000),
        ("7ucredit", 7),
        ("1 ucredits", 1),
        (f"{INT_MAX}ucredit", INT_MAX),
    ],
)
def test_an_amount_with_its_unit(text: str, amount: int) -> None:
    assert parse_amount(text) == amount


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "2.5", "-1credit", "0credits", "0ucredit", "1e3credits", "0.0000001credits", ".5credits"),
        *("1.credit", "1,5credits", "1.5ucredit", "1 000credits", "\u0661credits"),
        *(f"{INT_MAX + 1}ucredit", "9999999999999credits"),
    ],
)
def test_what_could_be_meant_otherwise_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse_amount(text)
    assert refusal.value.code == "wallet.amount"


@given(st.integers(1, INT_MAX))
def test_what_is_shown_is_read_back(amount: int) -> None:
    assert parse_amount(credits(amount)) == amount
