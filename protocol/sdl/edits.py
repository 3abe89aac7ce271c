"""Changes of an order in the words of the SDL file it was made of: what to write instead, and where.

An edit replaces one value. Whoever makes them all orders exactly what was meant, or less where services share a
compute profile; the highest price is said with six digits, rounded up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from fondaco.protocol import limits, matching
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import Change
from fondaco.protocol.resources import Attribute
from fondaco.protocol.sdl import quantities
from fondaco.protocol.sdl.check import uses
from fondaco.protocol.sdl.document import Deploy, PlacementEntry, Price
from fondaco.protocol.sdl.nodes import Node, load
from fondaco.protocol.sdl.problems import Path, Report, show_path
from fondaco.protocol.sdl.quantities import PRICE_DECIMALS
from fondaco.protocol.sdl.read import read_document
from fondaco.protocol.sdl.stack import PERIODS_PER_HOUR
from fondaco.protocol.selection.solver import Move

PRICE_DIGITS = 6
INTERFACES = ("", "pcie", "sxm")
"""Of GPUs, as a file may name them."""
_HOUR = PERIODS_PER_HOUR
_DURATIONS = (("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One value to write instead of another."""

    path: str
    """`deployment.web.west.count`."""
    line: int
    """Of the value, from 1."""
    column: int
    """From 1, in characters."""
    found: str
    """As written; for a list of GPU models, as it would be in one line."""
    wanted: str
    """Empty: leave the whole of it out."""

    def __str__(self) -> str:
        return f"{self.path}: {self.found} -> {self.wanted or 'nothing: leave it out'}"


@dataclass(slots=True)
class Unit:
    """A resource unit of a group, and the services it is made of."""

    id: int
    profile: str
    deploys: list[Deploy]

    @property
    def count(self) -> int:
        return sum(one.count for one in self.deploys)


class Source:
    """A file that `sdl.parse` accepted, and the places in it."""

    def __init__(self, text: str | bytes) -> None:
        self._root = load(text)
        self._document = read_document(self._root, Report())

    def rates(self, group: str) -> dict[int, Fraction]:
        """The most for one replica of each unit, in micro-credits an hour."""
        pricing = self._placement(group).pricing
        return {
            unit.id: Fraction(pricing[unit.profile].scaled * _periods(pricing[unit.profile]), 10**PRICE_DECIMALS)
            for unit in self.units(group)
        }

    def units(self, group: str) -> list[Unit]:
        """Numbered as `build` numbers them."""
        found: list[Unit] = []
        for _, placement, deploy in uses(self._document):
            if placement != group:
                continue
            same = (one for one in found if self._document.pools_units and one.profile == deploy.profile)
            unit = next(same, None)
            if unit is None:
                found.append(Unit(id=len(found) + 1, profile=deploy.profile, deploys=[deploy]))
            else:
                unit.deploys.append(deploy)
        return found

    def edits(self, group: str, moves: Iterable[Move]) -> tuple[Edit, ...]:
        """What to write so that the group is asked as changed, in the order of the lines.

        Raises `Refused` `edit.gpu` or `edit.replicas` for what no such file can say.
        """
        made = tuple(moves)
        units = {unit.id: unit for unit in self.units(group)}
        counts = {unit.id: unit.count for unit in units.values()}
        found: list[Edit] = []
        models: dict[int, list[str]] = {}
        for move in made:
            match move.change:
                case Change.REPLICAS:
                    counts[move.unit] = move.value
                    found += _replicas(units[move.unit], move.value)
                case Change.VOLUME:
                    found.append(self._volume(units[move.unit], move))
                case Change.WINDOW:
                    found.append(self._window(move.value))
                case Change.GPU_MODEL:
                    models.setdefault(move.unit, []).append(move.subject)
                case _:  # PRICE: known once the replicas are
                    pass
        found += [self._models(units[unit], added) for unit, added in models.items()]
        changed = [move.unit for move in made if move.change is Change.REPLICAS]
        for move in made:
            if move.change is Change.PRICE:
                found.append(self._price(group, move.value, counts, changed))
        return tuple(sorted(dict.fromkeys(found), key=lambda edit: (edit.line, edit.column)))

    def _placement(self, group: str) -> PlacementEntry:
        return self._document.placement[group]

    def _volume(self, unit: Unit, move: Move) -> Edit:
        volumes = self._document.compute[unit.profile].volumes
        volume = next(one for one in volumes if one.name == move.subject)
        return _edit(volume.at.node, volume.at.path, "size", show_size(move.value))

    def _window(self, value: int) -> Edit:
        """A notice shorter than any the market knows is none."""
        node, path = _child(self._root, "reclamation"), ("reclamation",)
        if value >= limits.RECLAMATION_WINDOW_MS[0]:
            return _edit(node, path, "min_window", show_duration(value))
        asked = _child(node, "min_window").text
        return Edit(
            path="reclamation", line=node.line, column=node.column, found=f"min_window: {asked}", wanted=""
        )

    def _models(self, unit: Unit, added: list[str]) -> Edit:
        compute = self._document.compute[unit.profile]
        known = [model for one in compute.gpu_attributes if (model := matching.gpu_model(one.key)) is not None]
        more = matching.gpu_models(Attribute(key=key, value="true") for key in added)
        if any(one.vendor != "nvidia" or one.interface not in INTERFACES for one in more):
            raise Refused("edit.gpu", f"an SDL file cannot ask for {' or '.join(added)}")
        at = (*compute.at.path, "gpu", "attributes", "vendor")
        node = compute.at.node
        for step in at[len(compute.at.path) :]:
            node = _child(node, str(step))
        return _edit(node, at, "nvidia", show_models((*known, *more)), found=show_models(known))

    def _price(self, group: str, bound: int, counts: Mapping[int, int], changed: list[int]) -> Edit:
        """Of the unit whose replicas change, else of what costs most: only the sum over the group counts."""
        pricing = self._placement(group).pricing
        weights: dict[str, int] = {}
        for unit in self.units(group):
            weight = counts[unit.id] * _periods(pricing[unit.profile])
            weights[unit.profile] = weights.get(unit.profile, 0) + weight
        costs = {profile: pricing[profile].scaled * weight for profile, weight in weights.items()}
        of = {unit.id: unit.profile for unit in self.units(group)}
        chosen = of[changed[0]] if changed else max(costs, key=lambda profile: costs[profile])
        others = sum(costs.values()) - costs[chosen]
        needed = -(-(bound * 10**PRICE_DECIMALS - others) // weights[chosen])
        price = pricing[chosen]
        return _edit(price.at.node, price.at.path, "amount", show_amount(needed))


def _periods(price: Price) -> int:
    return 1 if price.hourly else _HOUR


def _child(node: Node, name: str) -> Node:
    return next(value for key, _, value in node.entries() if key == name)


def _edit(parent: Node, path: Path, name: str, wanted: str, *, found: str | None = None) -> Edit:
    node = _child(parent, name)
    return Edit(
        path=show_path((*path, name)),
        line=node.line,
        column=node.column,
        found=node.text if found is None else found,
        wanted=wanted,
    )


def _replicas(unit: Unit, value: int) -> Iterator[Edit]:
    """Services that share a unit give up replicas one by one, whoever has most; each keeps one."""
    left = [one.count for one in unit.deploys]
    if value < len(left):
        raise Refused("edit.replicas", f"{len(left)} services share {value} replicas")
    while sum(left) > value:
        left[left.index(max(left))] -= 1
    for deploy, count in zip(unit.deploys, left, strict=True):
        if count != deploy.count:
            yield _edit(deploy.at.node, deploy.at.path, "count", str(count))


def show_size(size: int) -> str:
    """Bytes as a file says them, exactly: `10Gi`, `1500`."""
    fitting = [name for name, unit in quantities.BINARY.items() if size % unit == 0 and size >= unit]
    return f"{size // quantities.BINARY[fitting[-1]]}{fitting[-1]}" if fitting else str(size)


def show_duration(value_ms: int) -> str:
    """Milliseconds as a file says them, exactly: `1h`, `90m`."""
    name, unit = next((name, unit) for name, unit in _DURATIONS if value_ms % unit == 0)
    return f"{value_ms // unit}{name}"


def show_amount(scaled: int) -> str:
    """A price with `PRICE_DIGITS` digits at most, rounded up."""
    step = 10 ** max(0, len(str(scaled)) - PRICE_DIGITS)
    whole, _, decimals = quantities.show_price(-(-scaled // step) * step).partition(".")
    return f"{whole}.{decimals}".rstrip("0").rstrip(".")


def show_models(models: Iterable[matching.GpuModel]) -> str:
    """A list of models as YAML in one line."""
    shown = []
    for one in models:
        parts = (("model", one.model), ("ram", one.ram), ("interface", one.interface))
        shown.append("{" + ", ".join(f"{name}: {value}" for name, value in parts if value) + "}")
    return f"[{', '.join(shown)}]"
