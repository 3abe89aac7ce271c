"""A tenant's own rules: what a bid must be, what makes it better or worse, and what counts how much.

require = "audited and uptime.7d > 99%"     # a query; bids that do not match are set aside

[weights]                                   # as in the strategy `balanced`, and its defaults
price = 60
latency = 20

[[prefer]]                                  # each that matches takes its points off the score, 0 to 1,000
when = "region = eu-*"
points = 150

[[prefer]]
when = "outages > 2"
points = -300                               # or adds them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fondaco.protocol.errors import Refused
from fondaco.protocol.query import BIDS, Query, compiled, parse
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import Millis
from fondaco.protocol.selection.candidates import Candidate
from fondaco.protocol.selection.facts import Knowledge
from fondaco.protocol.selection.strategies import Score, Weights, balanced
from fondaco.protocol.spelling import nearest

PREFERENCES = 64
POINTS = 1_000
WEIGHT = 10_000
_NAMES = ("require", "weights", "prefer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    when: Query
    points: int
    """Taken off the score of a bid that matches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    require: Query | None
    weights: Weights
    prefer: tuple[Preference, ...]

    def strategy(self, now: Millis) -> _Ruled:
        """To rank by, at this block time; `require` goes to `rank` as its query."""
        return _Ruled(rules=self, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ruled:
    rules: Rules
    now: Millis

    def __call__(self, group: Group, candidates: Sequence[Candidate], known: Knowledge) -> list[Score]:
        scores = balanced(group, candidates, known, weights=self.rules.weights)
        asked = [(rule, compiled(rule.when)) for rule in self.rules.prefer]

        def adjusted(one: Candidate, score: Score) -> Score:
            subject = one.subject(known.of(one.provider), self.now)
            return _adjusted(score, [rule for rule, holds in asked if holds(subject)])

        return [adjusted(one, score) for one, score in zip(candidates, scores, strict=True)]


def _adjusted(score: Score, hits: Sequence[Preference]) -> Score:
    mean = score.key[0] - sum(rule.points for rule in hits)
    told = "".join(f", {-rule.points:+d} as {rule.when}" for rule in hits)
    return Score(key=(mean, *score.key[1:]), reason=lambda: f"{mean}{told}; {score.why()}")


def read_rules(document: Mapping[str, Any]) -> Rules:
    """Rules from a file's contents, as `tomllib` reads them.

    Raises `Refused` `rules.unknown`, `rules.value`, or what is wrong with a query, with where it stands.
    """
    _only(document, _NAMES, "")
    require = document.get("require")
    preferences = document.get("prefer", [])
    if type(preferences) is not list or len(preferences) > PREFERENCES:
        raise Refused("rules.value", f"prefer: tables, {PREFERENCES} at most, are wanted")
    return Rules(
        require=None if require is None else _query(require, "require"),
        weights=_weights(document.get("weights", {})),
        prefer=tuple(_preference(one, f"prefer[{index}]") for index, one in enumerate(preferences)),
    )


def _weights(table: Any) -> Weights:
    names = [one.name for one in fields(Weights)]
    _only(table, names, "weights")
    weights = Weights(**{name: _number(table[name], f"weights.{name}", 0, WEIGHT) for name in table})
    if not weights.total:
        raise Refused("rules.value", "weights: one must be above 0")
    return weights


def _preference(table: Any, where: str) -> Preference:
    _only(table, ("when", "points"), where)
    for name in ("when", "points"):
        if name not in table:
            raise Refused("rules.value", f"{where}.{name} is missing")
    points = _number(table["points"], f"{where}.points", -POINTS, POINTS)
    return Preference(when=_query(table["when"], f"{where}.when"), points=points)


def _query(text: Any, where: str) -> Query:
    if type(text) is not str:
        raise Refused("rules.value", f"{where}: a query between quotes is wanted")
    try:
        return parse(text, BIDS)
    except Refused as refusal:
        raise Refused(refusal.code, f"{where}: {refusal.message}", hint=refusal.hint) from None


def _number(value: Any, where: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise Refused("rules.value", f"{where}: a whole number from {low} to {high} is wanted")
    return value


def _only(table: Any, names: Sequence[str], where: str) -> None:
    if not isinstance(table, Mapping):
        raise Refused("rules.value", f"{where}: a table is wanted")
    for name in table:
        if name not in names:
            meant = nearest(str(name), names)
            hint = f"did you mean {meant}?" if meant else f"there are: {', '.join(names)}"
            raise Refused("rules.unknown", f"{where + '.' if where else ''}{name} means nothing", hint=hint)
