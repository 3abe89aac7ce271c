"""Nodes to typed values, as the reference parser's YAML library does it.

Text takes any scalar's raw text; integers take plain numbers only (`"80"` is refused, `80.9` is 80); a null leaves
the default and vanishes from lists. Each method reports what it cannot read and returns a default, so that one
pass finds several problems.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fondaco.protocol.sdl.nodes import FALSES, TRUES, Entry, Node, Sort, integer
from fondaco.protocol.sdl.problems import Path, Report, nearest
from fondaco.protocol.sdl.quantities import Unreadable

T = TypeVar("T")

_SAID_YES = TRUES | {"y", "Y", "yes", "on"}
_SAID_NO = FALSES | {"n", "N", "no", "off"}
UINT32 = 2**32 - 1


class Decoder:
    """Reads nodes and reports into one `Report`."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def wrong_type(self, node: Node, path: Path, wanted: str) -> None:
        found = node.text[:60] if node.text else node.sort.value
        self.report.problem("type", node, path, f"wanted {wanted}, found {found!r}", found=found, wanted=wanted)

    def text(self, node: Node, path: Path) -> str:
        if node.sort in (Sort.MAP, Sort.LIST):
            self.wrong_type(node, path, "text")
        return "" if node.sort is Sort.NULL else node.text

    def texts(self, node: Node, path: Path) -> tuple[str, ...] | None:
        if node.sort is Sort.NULL:
            return None
        if node.sort is not Sort.LIST:
            self.wrong_type(node, path, "a list of texts")
            return None
        return tuple(
            self.text(item, (*path, place))
            for place, item in enumerate(node.children)
            if item.sort is not Sort.NULL
        )

    def boolean(self, node: Node, path: Path) -> bool:
        # A quoted "true" is text to the reference parser, while "yes" is taken quoted or not.
        is_word = node.sort in (Sort.BOOL, Sort.TEXT)
        quoted = node.sort is Sort.TEXT and (node.text in TRUES or node.text in FALSES)
        if node.sort is Sort.NULL:
            return False
        if not is_word or quoted or not (node.text in _SAID_YES or node.text in _SAID_NO):
            self.wrong_type(node, path, "true or false")
        return node.text in _SAID_YES

    def integer(self, node: Node, path: Path) -> int:
        """An unsigned 32-bit integer."""
        value: int | None = None
        if node.sort is Sort.NULL:
            return 0
        if node.sort is Sort.INT:
            value = integer(node.text)
        elif node.sort is Sort.FLOAT and node.text[-1:] not in "fFnN":
            number = float(node.text.replace("_", ""))
            value = int(number) if 0 <= number <= UINT32 else None
        if value is None or not 0 <= value <= UINT32:
            self.wrong_type(node, path, f"an integer 0..{UINT32}")
            return 0
        return value

    def quantity(self, node: Node, path: Path, read: Callable[[str], T], default: T, code: str) -> T:
        """A scalar read by `read`, whose `Unreadable` becomes a problem with `code`."""
        if node.sort is Sort.NULL:
            return default
        if node.sort in (Sort.MAP, Sort.LIST):
            self.wrong_type(node, path, "a quantity")
            return default
        try:
            return read(node.text)
        except Unreadable as error:
            self.report.problem(
                code, node, path, str(error), found=node.text, wanted="a quantity", suggestion=error.suggestion
            )
            return default

    def entries(self, node: Node, path: Path) -> list[Entry]:
        """A mapping's entries; none for a null."""
        if node.sort is Sort.NULL:
            return []
        if node.sort is not Sort.MAP:
            self.wrong_type(node, path, "a mapping")
            return []
        entries = node.entries()
        for key in node.duplicates:
            name = key.text
            self.report.problem("key.duplicate", key, (*path, name), f"the key {name[:60]!r} is there twice")
        for name, key, _ in entries:
            if key.sort in (Sort.MAP, Sort.LIST):
                self.wrong_type(key, (*path, name), "a key that is text")
        return entries

    def fields(self, node: Node, path: Path) -> dict[str, Node]:
        """A mapping whose unknown keys do not matter."""
        return {name: value for name, _, value in self.entries(node, path)}

    def strict_fields(self, node: Node, path: Path, known: tuple[str, ...]) -> dict[str, Node]:
        """A mapping where even the reference parser refuses unknown keys, and merges none in."""
        fields: dict[str, Node] = {}
        for key, value in node.pairs:
            if key.text not in known:
                self.report.problem(
                    "key.unknown",
                    key,
                    (*path, key.text),
                    f"unknown key {key.text[:60]!r}",
                    found=key.text,
                    wanted=", ".join(known),
                    suggestion=nearest(key.text, known),
                )
            elif key.text in fields:
                self.report.problem(
                    "key.duplicate", key, (*path, key.text), f"the key {key.text!r} is there twice"
                )
            else:
                fields[key.text] = value
        return fields

    def each(self, node: Node, path: Path, read: Callable[[Node, Path], T]) -> list[T]:
        """A list's items, without the nulls."""
        if node.sort is Sort.NULL:
            return []
        if node.sort is not Sort.LIST:
            self.wrong_type(node, path, "a list")
            return []
        return [
            read(item, (*path, place)) for place, item in enumerate(node.children) if item.sort is not Sort.NULL
        ]
