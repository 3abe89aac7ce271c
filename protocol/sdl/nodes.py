"""YAML text as a tree that still knows its lines.

libyaml reads, and every bound is checked while its events arrive: libyaml's own composer overruns the stack at
some 100,000 nested brackets, and an alias bomb of 2 KB costs it a second.  Aliases share nodes; a node's `weight`
counts what they expand to.  Scalars stay raw text; `Node.sort` resolves them as YAML 1.2 with Go's yaml.v3
habits (`yes` is text, `0777` octal), since that decides what the reference parser accepts.
"""

from __future__ import annotations

import enum
import math
import re
from typing import Any, NoReturn

import yaml

from fondaco.protocol import limits
from fondaco.protocol.sdl.problems import Problem, SdlError


class Sort(enum.Enum):
    """What a node is once resolved."""

    NULL = "null"
    BOOL = "a boolean"
    INT = "an integer"
    FLOAT = "a number"
    TEXT = "text"
    MAP = "a mapping"
    LIST = "a list"


MERGE = "<<"
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
TRUES = frozenset(("true", "True", "TRUE"))
FALSES = frozenset(("false", "False", "FALSE"))
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_INTEGER = re.compile(
    r"[-+]?(?:(?P<hex>0[xX][0-9a-fA-F]+)|(?P<bin>0[bB][01]+)|(?P<oct>0[oO]?[0-7]+)|(?P<dec>0|[1-9][0-9]*))"
)
_STR_TAGS = ("!", "tag:yaml.org,2002:str")
_CORE_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))


class Node:
    """A scalar, mapping or list, with its place in the text."""

    __slots__ = (
        "_merged",
        "_sort",
        "children",
        "column",
        "duplicates",
        "height",
        "line",
        "pairs",
        "text",
        "weight",
    )

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.text = ""
        """A scalar's raw text."""
        self.children: list[Node] = []
        """A list's items."""
        self.pairs: list[tuple[Node, Node]] = []
        """A mapping's entries, as written: duplicates and merge keys are still there."""
        self.weight = 1
        """How many nodes this is with all aliases expanded."""
        self.height = 1
        self.duplicates: list[Node] = []
        """Keys that `entries` found written twice."""
        self._sort: Sort | None = None
        self._merged: list[Entry] | None = None

    def entries(self) -> list[Entry]:
        """A mapping's entries by key, with `<<` merged in: what is written here wins over what is merged."""
        if self._merged is None:
            self._merged = self._merge()
        return self._merged

    def _merge(self) -> list[Entry]:
        own: dict[str, Entry] = {}
        merged: list[Node] = []
        for key, value in self.pairs:
            if key.text == MERGE:
                merged.extend(value.children if value.sort is Sort.LIST else [value])
            elif key.text in own and key.sort not in (Sort.MAP, Sort.LIST):
                self.duplicates.append(key)
            else:
                own[key.text] = (key.text, key, value)
        for source in merged:
            for entry in source.entries():
                own.setdefault(entry[0], entry)
        return list(own.values())

    @property
    def sort(self) -> Sort:
        if self._sort is None:
            self._sort = resolve(self.text)
        return self._sort

    def take(self, child: Node) -> None:
        self.weight += child.weight
        self.height = max(self.height, 1 + child.height)


Entry = tuple[str, Node, Node]
"""A mapping's key as text, the key and the value."""


def resolve(text: str) -> Sort:
    """What an unquoted scalar is."""
    if text in _NULLS:
        return Sort.NULL
    if text in TRUES or text in FALSES:
        return Sort.BOOL
    if text[0] in "0123456789+-.":
        if integer(text) is not None:
            return Sort.INT
        plain = text.replace("_", "")
        # A number too large for a double is text, as it is to the reference.
        if _FLOAT.fullmatch(plain):
            return Sort.FLOAT if math.isfinite(float(plain)) else Sort.TEXT
        if _SPECIAL_FLOAT.fullmatch(text):
            return Sort.FLOAT
    return Sort.TEXT


def integer(text: str) -> int | None:
    """The integer a plain scalar means, in any base Go reads; None if it means none that fits 64 bits."""
    plain = text.replace("_", "")
    if len(plain) > 80:
        return None
    match = _INTEGER.fullmatch(plain)
    if match is None:
        return None
    digits = plain.lstrip("+-")
    base = {"hex": 16, "bin": 2, "oct": 8, "dec": 10}[str(match.lastgroup)]
    value = int(digits.lower().removeprefix("0o"), base)
    value = -value if plain.startswith("-") else value
    return value if -(2**63) <= value < 2**64 else None


def load(text: str | bytes) -> Node:
    """Read one YAML document.  Raises `SdlError` with a `yaml.*` code, never anything else."""
    try:
        size = len(text.encode() if isinstance(text, str) else text)
        if size > limits.SDL_BYTES:
            refuse("yaml.too_large", f"{size} bytes", wanted=f"at most {limits.SDL_BYTES}")
        return _Composer(text if isinstance(text, str) else text.decode("utf-8")).document()
    except UnicodeError:
        refuse("yaml.encoding", "this is not UTF-8 text")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        refuse("yaml.syntax", str(error.problem or error.context), line=line, column=column)
    except yaml.YAMLError as error:
        refuse("yaml.syntax", " ".join(str(error).split())[:200])


def refuse(code: str, message: str, *, line: int = 0, column: int = 0, wanted: str = "") -> NoReturn:
    wish = f", {wanted} allowed" if wanted else ""
    raise SdlError([Problem(code=code, path="", line=line, column=column, message=message + wish, wanted=wanted)])


class _Composer:
    """Builds nodes from libyaml's events, under all the bounds."""

    def __init__(self, text: str) -> None:
        self._parser: Any = yaml.CSafeLoader(text)
        self._anchors: dict[str, Node | None] = {}
        """None while the anchored node is still being read: an alias to it would be endless."""
        self._events = 0

    def _next(self) -> Any:
        self._events += 1
        event = self._parser.get_event()
        if self._events > limits.SDL_EVENTS:
            self._refuse("yaml.too_large", f"more than {limits.SDL_EVENTS} YAML events", event)
        return event

    def _refuse(self, code: str, message: str, event: Any) -> NoReturn:
        mark = event.start_mark
        refuse(code, message, line=mark.line + 1, column=mark.column + 1)

    def document(self) -> Node:
        self._next()  # the stream starts
        event = self._next()
        if type(event) is yaml.StreamEndEvent:
            return Node(1, 1)  # an empty file: a null
        root = self._node(self._next(), 1)
        self._next()  # the document ends
        event = self._next()
        if type(event) is not yaml.StreamEndEvent:
            self._refuse("yaml.documents", "a second document starts here; an SDL file holds one", event)
        return root

    def _node(self, event: Any, depth: int) -> Node:
        kind = type(event)
        if kind is yaml.AliasEvent:
            known = self._anchors.get(event.anchor)
            if known is None:
                what = "contains itself" if event.anchor in self._anchors else "is not defined"
                self._refuse("yaml.alias", f"the anchor {event.anchor!r} {what}", event)
            if depth + known.height > limits.SDL_DEPTH:
                self._too_deep(event)
            return known
        if depth > limits.SDL_DEPTH:
            self._too_deep(event)
        mark = event.start_mark
        node = Node(mark.line + 1, mark.column + 1)
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        if kind is yaml.ScalarEvent:
            node.text = event.value
            if not event.implicit[0] and event.tag not in _CORE_TAGS:
                node._sort = Sort.TEXT
        elif kind is yaml.MappingStartEvent:
            node._sort = Sort.MAP
            self._mapping(node, depth)
        else:
            node._sort = Sort.LIST
            self._list(node, depth)
        if node.weight > limits.SDL_EVENTS:
            self._refuse("yaml.too_large", f"aliases expand this to more than {limits.SDL_EVENTS} nodes", event)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _too_deep(self, event: Any) -> NoReturn:
        self._refuse("yaml.too_deep", f"nested deeper than {limits.SDL_DEPTH}", event)

    def _mapping(self, node: Node, depth: int) -> None:
        while True:
            event = self._next()
            if type(event) is yaml.MappingEndEvent:
                return
            key = self._node(event, depth + 1)
            value = self._node(self._next(), depth + 1)
            node.take(key)
            node.take(value)
            node.pairs.append((key, value))

    def _list(self, node: Node, depth: int) -> None:
        while True:
            event = self._next()
            if type(event) is yaml.SequenceEndEvent:
                return
            item = self._node(event, depth + 1)
            node.take(item)
            node.children.append(item)
