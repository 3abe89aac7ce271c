"""Amounts of money as people type them, read exactly: no floating point ever touches them."""

from __future__ import annotations

import re

from fondaco.consensus.ledger.params import CREDIT
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import INT_MAX, MicroCredits

_AMOUNT = re.compile(r"([0-9]{1,13})(?:\.([0-9]{1,6}))? *(credits?)|([0-9]{1,19}) *(ucredits?)", re.ASCII)


def parse_amount(text: str) -> MicroCredits:
    """`2.5credits` or `2500000ucredit`, above nothing. Raises `Refused` `wallet.amount`.

    A unit is asked for: what is meant by a bare number would be wrong a million times over for somebody.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise _malformed(text)
    whole, part, _, ucredit, _ = match.groups()
    amount = int(ucredit) if ucredit else micro(f"{whole}.{part or 0}")
    if not 0 < amount <= INT_MAX:
        raise _malformed(text)
    return MicroCredits(amount)


def micro(credits: str) -> int:
    """Ucredit of credits as digits, with six decimals at most: `2.5`."""
    whole, _, part = credits.partition(".")
    return int(whole) * CREDIT + int(part.ljust(6, "0"))


def _malformed(text: str) -> Refused:
    return Refused(
        "wallet.amount",
        f"{text[:40]!r} is no amount to send",
        hint="write 2.5credits, with six decimals at most, or 2500000ucredit",
    )
