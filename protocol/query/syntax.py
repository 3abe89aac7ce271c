"""A query as a tree. It prints as text that means the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from fondaco.protocol.query.fields import Field, Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A text to compare with, in lower case; where `glob`, `*` stands for any run of characters."""

    text: str
    glob: bool

    def __str__(self) -> str:
        if self.glob or (self.text.isascii() and self.text.isalnum()):
            return self.text
        quote = "'" if '"' in self.text else '"'
        return f"{quote}{self.text}{quote}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A number in its field's smallest unit, and how it was written."""

    value: Number
    written: str

    def __str__(self) -> str:
        return self.written


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """From `low` to `high`, both included; None is open."""

    low: Amount | None
    high: Amount | None

    def __str__(self) -> str:
        return f"{self.low or ''}..{self.high or ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    value: bool

    def __str__(self) -> str:
        return "yes" if self.value else "no"


Value = Pattern | Amount | Flag


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One field against one value, any of several, or a range."""

    field: Field
    sign: str
    """`=`, `!=`, `<`, `<=`, `>`, `>=`, `in`, or `known`: whether it holds anything."""
    values: tuple[Value, ...] = ()
    """One, but for `in`."""
    range: Range | None = None

    def __str__(self) -> str:
        if self.sign == "known":
            return self.field.name
        if self.range is not None:
            return f"{self.field.name} in {self.range}"
        if self.sign == "in":
            return f"{self.field.name} in [{', '.join(map(str, self.values))}]"
        return f"{self.field.name} {self.sign} {self.values[0]}"


@dataclass(frozen=True, slots=True)
class Not:
    part: Query

    def __str__(self) -> str:
        return f"not {_inside(self.part)}"


@dataclass(frozen=True, slots=True)
class And:
    """All parts; of none, everything."""

    parts: tuple[Query, ...]

    def __str__(self) -> str:
        return " and ".join(map(_inside, self.parts))


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Query, ...]

    def __str__(self) -> str:
        return " or ".join(map(_inside, self.parts))


Query = Comparison | Not | And | Or


def fields_of(query: Query) -> frozenset[str]:
    """The names of all fields that a query asks about."""
    match query:
        case Comparison():
            return frozenset({query.field.name})
        case Not():
            return fields_of(query.part)
        case And() | Or():
            return frozenset[str]().union(*map(fields_of, query.parts))
        case _:
            assert_never(query)


def _inside(part: Query) -> str:
    return f"({part})" if isinstance(part, And | Or) else str(part)
