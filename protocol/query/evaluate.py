"""Whether a query holds of a subject, and what of it does not."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from typing import Protocol, assert_never

from fondaco.protocol.query.syntax import Amount, And, Comparison, Flag, Not, Or, Pattern, Query, Value

Known = str | int | Fraction | bool | Collection[str] | Collection[int] | Collection[Fraction]
"""A value or several; numbers in the unit of their field's kind."""


class Subject(Protocol):
    """What is known of one offer, bid or provider: a dictionary, or what looks things up when asked."""

    def get(self, field: str, /) -> Known | None:
        """By the field's name; None is "not known"."""
        ...


def matches(query: Query, subject: Subject) -> bool:
    """Whether `query` is known to hold of `subject`."""
    return _holds(query, subject) is True


def failures(query: Query, subject: Subject) -> list[str]:
    """For each comparison that turns `subject` down, what was asked and what is there; empty if it matches."""
    if isinstance(query, And):
        return [line for part in query.parts for line in failures(part, subject)]
    if _holds(query, subject) is True:
        return []
    match query:
        case Comparison():
            return [f"{query}: {_shown(_values(query, subject))}"]
        case Not():
            return [f"{query}"]
        case Or():
            return [f"none of {' or '.join(line for part in query.parts for line in failures(part, subject))}"]
        case _:
            assert_never(query)


def _holds(query: Query, subject: Subject) -> bool | None:
    """Kleene's logic: None is "not known"."""
    match query:
        case Comparison():
            return _compare(query, subject)
        case And():
            return _first(False, query.parts, subject)
        case Or():
            return _first(True, query.parts, subject)
        case Not():
            inner = _holds(query.part, subject)
            return None if inner is None else not inner
        case _:
            assert_never(query)


def _first(settling: bool, parts: tuple[Query, ...], subject: Subject) -> bool | None:
    """What the parts come to where one that is `settling` decides: that, "not known", or its contrary."""
    unknown = False
    for part in parts:
        found = _holds(part, subject)
        if found is settling:
            return settling
        unknown = unknown or found is None
    return None if unknown else not settling


def _values(comparison: Comparison, subject: Subject) -> tuple[str | int | Fraction | bool, ...] | None:
    """What is known of the field; None if nothing is."""
    known = subject.get(comparison.field.name)
    if known is None:
        return None
    return (known,) if isinstance(known, str | int | Fraction) else tuple(known)


def _compare(comparison: Comparison, subject: Subject) -> bool | None:
    values = _values(comparison, subject)
    if values is None:
        return None
    if comparison.sign == "known":
        return any(values)
    if comparison.range is not None:
        low, high = comparison.range.low, comparison.range.high
        return any((low is None or low.value <= one) and (high is None or one <= high.value) for one in values)  # type: ignore[operator]
    if comparison.sign == "!=":
        return not any(_equal(one, comparison.values[0]) for one in values)
    if comparison.sign in ("=", "in"):
        return any(_equal(one, wanted) for one in values for wanted in comparison.values)
    wanted = comparison.values[0]
    assert isinstance(wanted, Amount), "only what has an order is compared by it"
    return any(_ordered(comparison.sign, one, wanted.value) for one in values)  # type: ignore[arg-type]


def _ordered(sign: str, value: Fraction, wanted: Fraction) -> bool:
    match sign:
        case "<":
            return value < wanted
        case "<=":
            return value <= wanted
        case ">":
            return value > wanted
        case _:
            return value >= wanted


def _equal(value: object, wanted: Value) -> bool:
    match wanted:
        case Pattern(glob=False):
            return str(value).lower() == wanted.text
        case Pattern():
            return _globs(wanted.text, str(value).lower())
        case Amount():
            return value == wanted.value
        case Flag():
            return value is wanted.value
        case _:
            assert_never(wanted)


def _globs(glob: str, text: str) -> bool:
    """Whether `*` can stand for something that makes `glob` into `text`; each part is looked for once."""
    first, *middle, last = glob.split("*")
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _shown(values: tuple[object, ...] | None) -> str:
    if values is None:
        return "not known"
    return f"it is {', '.join(map(_plain, values))}" if values else "there is none"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Fraction):
        return str(value.numerator) if value.denominator == 1 else f"{float(value):g}"
    return str(value)
