"""Whether a query holds of a subject, and what of it does not."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, Protocol, assert_never

from fondaco.protocol.query.fields import Kind, Number
from fondaco.protocol.query.syntax import Amount, And, Comparison, Flag, Not, Or, Pattern, Query, Range, Value

Scalar = str | Number | bool
Known = Scalar | Collection[str] | Collection[Number]
"""A value or several; numbers in the smallest unit of their field's kind."""
Test = Callable[["Subject"], bool | None]
"""Whether something holds of a subject; None is "not known"."""
_SCALARS = (str, int, Fraction)


class Subject(Protocol):
    """What is known of one offer, bid or provider: a dictionary, or what looks things up when asked."""

    def get(self, field: str, /) -> Known | None:
        """By the field's name; None is "not known"."""
        ...


def matches(query: Query, subject: Subject) -> bool:
    """Whether `query` is known to hold of `subject`."""
    return compiled(query)(subject) is True


def failures(query: Query, subject: Subject) -> list[str]:
    """For each comparison that turns `subject` down, what was asked and what is there; empty if it matches."""
    return failing(query)(subject)


def failing(query: Query) -> Callable[[Subject], list[str]]:
    """`failures` of one query, for many subjects."""
    parts = [(compiled(part), _told(part)) for part in _parts(query)]

    def ask(subject: Subject) -> list[str]:
        return [told(subject) for test, told in parts if test(subject) is not True]

    return ask


def _parts(query: Query) -> list[Query]:
    """What has to hold all together."""
    return [one for part in query.parts for one in _parts(part)] if isinstance(query, And) else [query]


def _told(query: Query) -> Callable[[Subject], str]:
    """What is said of a subject that one of those parts turns down."""
    asked = str(query)
    if isinstance(query, Comparison):
        name, kind = query.field.name, query.field.kind
        return lambda subject: f"{asked}: {_shown(subject.get(name), kind)}"
    if isinstance(query, Or):
        parts = [failing(part) for part in query.parts]
        return lambda subject: f"none of {' or '.join(line for part in parts for line in part(subject))}"
    return lambda subject: asked


def compiled(query: Query) -> Test:
    """A query as a function, for many subjects. Kleene's logic."""
    match query:
        case Comparison():
            return _comparison(query)
        case And():
            return _settled(False, [compiled(part) for part in query.parts])
        case Or():
            return _settled(True, [compiled(part) for part in query.parts])
        case Not():
            return _contrary(compiled(query.part))
        case _:
            assert_never(query)


def _contrary(inner: Test) -> Test:
    def ask(subject: Subject) -> bool | None:
        found = inner(subject)
        return None if found is None else not found

    return ask


def _settled(settling: bool, parts: list[Test]) -> Test:
    """What the parts come to where one that is `settling` decides: that, "not known", or its contrary."""

    def ask(subject: Subject) -> bool | None:
        unknown = False
        for part in parts:
            found = part(subject)
            if found is settling:
                return settling
            unknown = unknown or found is None
        return None if unknown else not settling

    return ask


def _comparison(comparison: Comparison) -> Test:
    """Of a field that holds several values, it is asked whether it holds of one of them; `!=` whether of all."""
    name, holds = comparison.field.name, _predicate(comparison)
    over = all if comparison.sign == "!=" else any

    def ask(subject: Subject) -> bool | None:
        known = subject.get(name)
        if known is None:
            return None
        return holds(known) if isinstance(known, _SCALARS) else over(map(holds, known))

    return ask


def _predicate(comparison: Comparison) -> Callable[[Any], bool]:
    """What is asked of one value."""
    if comparison.range is not None:
        return _between(comparison.range)
    if comparison.sign == "known":
        return bool
    equals = [_equal_to(wanted) for wanted in comparison.values]
    match comparison.sign:
        case "!=":
            return lambda value: not equals[0](value)
        case "=":
            return equals[0]
        case "in":
            return lambda value: any(equal(value) for equal in equals)
    wanted = comparison.values[0]
    assert isinstance(wanted, Amount), "only what has an order is compared by it"
    return partial(_TURNED[comparison.sign], wanted.value)


_TURNED: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.gt,
    "<=": operator.ge,
    ">": operator.lt,
    ">=": operator.le,
}
"""By the sign, the function of (what is wanted, what is there)."""


def _between(wanted: Range) -> Callable[[Any], bool]:
    low = None if wanted.low is None else wanted.low.value
    high = None if wanted.high is None else wanted.high.value
    return lambda value: (low is None or low <= value) and (high is None or value <= high)


def _equal_to(wanted: Value) -> Callable[[Any], bool]:
    match wanted:
        case Pattern(text=text, glob=False):
            return lambda value: str(value).lower() == text
        case Pattern(text=text):
            return lambda value: _globs(text, str(value).lower())
        case Amount(value=number):
            return partial(operator.eq, number)
        case Flag(value=flag):
            return partial(operator.is_, flag)
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


def _shown(known: Known | None, kind: Kind) -> str:
    if known is None:
        return "not known"
    if isinstance(known, _SCALARS):
        return f"it is {_plain(known, kind)}"
    return f"it is {', '.join(_plain(value, kind) for value in known)}" if known else "there is none"


def _plain(value: Scalar, kind: Kind) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    whole, rest = divmod(value, kind.scale)
    return f"{float(value) / kind.scale:g}" if rest else str(whole)
