"""Shapes of a document as data, and the walk that compares.

Types are JSON's as a schema sees a YAML file: `80` is an integer and `"80"` is text.  `grammar` says the one shape
that matters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fondaco.protocol.sdl.nodes import Node, Sort
from fondaco.protocol.sdl.problems import Path, Report, nearest

Predicate = Callable[[Node], bool]
Schema = dict[str, Any]
"""Keywords of JSON schema, draft 7."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A leaf of one of `sorts`, for which `test` holds."""

    sorts: tuple[Sort, ...]
    wanted: str
    test: Predicate | None = None
    suggestion: str = ""
    schema: Schema | None = None
    """What `test` asks, in the words of JSON schema; None where the sorts say it all."""


@dataclass(frozen=True, slots=True)
class Many:
    """A list whose items all have one shape."""

    item: Shape
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """A mapping from free names to values of one shape."""

    value: Shape
    name: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping with known keys only."""

    known: dict[str, Shape]
    required: tuple[str, ...] = ()
    nonempty: bool = False
    rule: Callable[[dict[str, Node]], str] | None = None
    """Says what is wrong about fields taken together, or nothing."""
    rule_schema: Schema | None = None
    """The same in the words of JSON schema."""


@dataclass(frozen=True, slots=True)
class Either:
    """One shape for a mapping, another for a list."""

    mapping: Shape
    many: Shape


@dataclass(frozen=True, slots=True)
class Anything:
    """A mapping of whatever."""


Shape = Scalar | Many | Named | Fields | Either | Anything


class Checker:
    """Walks a document along its shape and reports where they part."""

    def __init__(self, report: Report, *, only_warn: bool) -> None:
        self._report = report
        self._only_warn = only_warn

    def check(self, node: Node, shape: Shape, path: Path) -> None:
        match shape:
            case Scalar():
                self._scalar(node, shape, path)
            case Many():
                self._many(node, shape, path)
            case Named():
                self._named(node, shape, path)
            case Fields():
                self._fields(node, shape, path)
            case Either():
                self.check(node, shape.many if node.sort is Sort.LIST else shape.mapping, path)
            case _:
                self._keys(node, path)

    def _say(
        self, code: str, node: Node, path: Path, message: str, *, wanted: str = "", suggestion: str = ""
    ) -> None:
        found = node.text if node.text else node.sort.value
        self._report.problem(
            code,
            node,
            path,
            message,
            found=found,
            wanted=wanted,
            suggestion=suggestion,
            only_warn=self._only_warn,
        )

    def _is(self, node: Node, sort: Sort, path: Path) -> bool:
        if node.sort is not sort:
            self._say("type", node, path, f"wanted {sort.value}, found {_describe(node)}", wanted=sort.value)
        return node.sort is sort

    def _scalar(self, node: Node, shape: Scalar, path: Path) -> None:
        if node.sort not in shape.sorts:
            suggestion = shape.suggestion
            if not suggestion and shape.sorts == (Sort.TEXT,) and node.text:
                suggestion = f'put it in quotes: "{node.text[:40]}"'
            self._say(
                "type",
                node,
                path,
                f"wanted {shape.wanted}, found {_describe(node)}",
                wanted=shape.wanted,
                suggestion=suggestion,
            )
        elif shape.test is not None and not shape.test(node):
            self._say(
                "value",
                node,
                path,
                f"wanted {shape.wanted}, found {node.text[:60]!r}",
                wanted=shape.wanted,
                suggestion=shape.suggestion,
            )

    def _many(self, node: Node, shape: Many, path: Path) -> None:
        if (shape.nullable and node.sort is Sort.NULL) or not self._is(node, Sort.LIST, path):
            return
        for place, item in enumerate(node.children):
            self.check(item, shape.item, (*path, place))

    def _keys(self, node: Node, path: Path) -> list[tuple[str, Node, Node]]:
        if not self._is(node, Sort.MAP, path):
            return []
        entries = node.entries()
        for key in node.duplicates:
            self._say("key.duplicate", key, (*path, key.text), f"the key {key.text!r} is there twice")
        for name, key, _ in entries:
            if key.sort is not Sort.TEXT:
                self._say("key.type", key, (*path, name), f"a key must be text, found {_describe(key)}")
        return entries

    def _named(self, node: Node, shape: Named, path: Path) -> None:
        for name, key, value in self._keys(node, path):
            if shape.name is not None and not shape.name.search(name):
                self._say("name", key, (*path, name), f"{name[:60]!r} is not a valid name here")
            else:
                self.check(value, shape.value, (*path, name))

    def _fields(self, node: Node, shape: Fields, path: Path) -> None:
        entries = self._keys(node, path)
        if node.sort is not Sort.MAP:
            return
        present = {}
        for name, key, value in entries:
            known = shape.known.get(name)
            if known is None:
                self._say(
                    "key.unknown",
                    key,
                    (*path, name),
                    f"unknown key {name[:60]!r}",
                    wanted=", ".join(shape.known),
                    suggestion=nearest(name, shape.known),
                )
            else:
                present[name] = value
                self.check(value, known, (*path, name))
        for name in shape.required:
            if name not in present:
                self._say("key.missing", node, (*path, name), f"the key {name!r} is missing", wanted=name)
        if shape.nonempty and not entries:
            self._say("key.missing", node, path, "this mapping may not be empty")
        wrong = shape.rule(present) if shape.rule is not None else ""
        if wrong and not self._report.concerns(path):
            self._say("combination", node, path, wrong)


def _describe(node: Node) -> str:
    if node.sort in (Sort.MAP, Sort.LIST, Sort.NULL):
        return "nothing" if node.sort is Sort.NULL else node.sort.value
    return f"{node.sort.value} {node.text[:60]!r}"
