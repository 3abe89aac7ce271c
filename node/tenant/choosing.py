"""How a tenant wants bids chosen, as people say it: a strategy, a rules file, a function of their own; a query."""

from __future__ import annotations

import importlib
import logging
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fondaco.node import clock
from fondaco.node.tenant import bounds, vantages
from fondaco.node.tenant.vantages import Vantage
from fondaco.protocol.errors import Refused
from fondaco.protocol.query import BIDS, And, Query, fields_of, parse
from fondaco.protocol.scalars import Millis
from fondaco.protocol.selection import STRATEGIES, Strategy, read_rules
from fondaco.protocol.selection.facts import LATENCY
from fondaco.protocol.spelling import nearest

log = logging.getLogger("fondaco.tenant")

RULES = ".toml"
"""How the path of a rules file ends."""
RULES_BYTES = 65_536
CHEAPEST = "cheapest"
BY_LATENCY = ("fastest", "balanced")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    name: str
    """As it was asked for."""
    strategy: Callable[[Millis], Strategy]
    """At this block time."""
    where: Query | None = None
    """What every bid must be."""
    by_latency: bool = False
    """Whether the strategy goes by how fast providers answer."""
    vantages: tuple[Vantage, ...] = ()
    """From where that counts; from this machine if there are none."""
    vantage_files: tuple[Path, ...] = ()
    """What they were read from, absolute."""

    @property
    def asks_latency(self) -> bool:
        """Whether it matters how fast providers answer; if not, nobody is measured."""
        return self.by_latency or (self.where is not None and _is_about_latency(self.where))

    @property
    def asks_of_providers(self) -> bool:
        """Whether more must be known than what the bids say."""
        return self.name != CHEAPEST or self.where is not None


def choice(name: str, where: str = "", files: Sequence[Path] = ()) -> Choice:
    """Read what `--select`, `--where` and `--vantage` say.

    `name` is a strategy, the path of a rules file (it ends in `.toml`), or `module:function`, a strategy of one's
    own, which is looked for in the current folder too; providers are measured for it if it has an attribute
    `by_latency` that is true. `files` are vantage files (`vantages`): a provider is as fast as from the worst of
    them. Raises `Refused` `select.unknown`, `select.function`, `rules.file`, `latency.*`, or what is wrong with
    the rules or the query.
    """
    query = parse(where, BIDS) if where else None
    found = _choice(name, query)
    if not files:
        return found
    if not found.asks_latency:
        hint = "add --select fastest, or --where 'latency.p95 < 50'"
        raise Refused("latency.unused", "nothing here asks how fast providers answer", hint=hint)
    return replace(found, vantages=_vantages(files), vantage_files=tuple(file.absolute() for file in files))


def choice_again(name: str, where: str, files: Sequence[Path]) -> Choice:
    """What was said once, long after: for what keeps a service up while nobody is there to be asked.

    Where a vantage file is gone, or too old, providers are measured from this machine instead. Raises `Refused`
    as `choice` does of the rest.
    """
    try:
        return choice(name, where, files)
    except Refused as refusal:
        if not files or not refusal.code.startswith("latency."):
            raise
        log.warning("%s; providers are measured from this machine instead", refusal)
    return choice(name, where)


def lasting(name: str) -> str:
    """The name of a choice, good in any folder."""
    return str(Path(name).absolute()) if name.endswith(RULES) else name


def _choice(name: str, query: Query | None) -> Choice:
    if name.endswith(RULES):
        return _ruled(name, query)
    if ":" in name:
        function = _function(name)
        by_latency = bool(getattr(function, "by_latency", False))
        return Choice(name=name, strategy=lambda now: function, where=query, by_latency=by_latency)
    if name not in STRATEGIES:
        meant = nearest(name, STRATEGIES)
        known = f"{', '.join(sorted(STRATEGIES))}, a rules file (.toml), or module:function"
        hint = f"did you mean {meant}?" if meant else f"choose one of: {known}"
        raise Refused("select.unknown", f"there is no strategy {name!r}", hint=hint)
    strategy = STRATEGIES[name]
    return Choice(name=name, strategy=lambda now: strategy, where=query, by_latency=name in BY_LATENCY)


def as_choice(select: str | Choice) -> Choice:
    """What a caller says, as a choice. Raises as `choice` does."""
    return choice(select) if isinstance(select, str) else select


def _ruled(name: str, query: Query | None) -> Choice:
    try:
        text = Path(name).read_bytes()[: RULES_BYTES + 1]
        document = tomllib.loads(text.decode("utf-8")) if len(text) <= RULES_BYTES else None
    except (OSError, ValueError) as error:
        raise Refused("rules.file", f"{name}: {error}") from None
    if document is None:
        raise Refused("rules.file", f"{name}: longer than {RULES_BYTES} bytes")
    rules = read_rules(document)
    wanted = [one for one in (rules.require, query) if one is not None]
    return Choice(
        name=name,
        strategy=rules.strategy,
        where=And(tuple(wanted)) if wanted else None,
        by_latency=rules.weights.latency > 0 or any(_is_about_latency(one.when) for one in rules.prefer),
    )


def _is_about_latency(query: Query) -> bool:
    return any(name.startswith(LATENCY) for name in fields_of(query))


def _vantages(files: Sequence[Path]) -> tuple[Vantage, ...]:
    if len(files) > bounds.LATENCY_VANTAGES:
        raise Refused("latency.vantage", f"{len(files)} vantages, {bounds.LATENCY_VANTAGES} are looked from")
    found: dict[str, Vantage] = {}
    for path in files:
        one = vantages.read(path, now=clock.now())
        if one.name in found:
            raise Refused("latency.vantage", f"{path}: there is a file of vantage {one.name} already")
        found[one.name] = one
    return tuple(found.values())


def _function(name: str) -> Strategy:
    """A function of the user's own: `(group, candidates, known) -> scores`, see `protocol.selection`."""
    module, _, function = name.partition(":")
    sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise Refused("select.function", f"{name}: {error}", hint="write module:function") from None
    finally:
        sys.path.remove("")
    if not callable(found):
        raise Refused("select.function", f"{name} is no function")
    strategy: Strategy = found
    return strategy
