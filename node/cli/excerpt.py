"""A line of somebody's file with a caret under the place that is meant."""

from __future__ import annotations

import re
from collections.abc import Iterator

WIDTH = 100
"""Characters of a long line that are shown around the place."""
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""What ends a line in YAML 1.1, as libyaml counts them."""


def excerpt(text: str, line: int, column: int) -> Iterator[str]:
    """The line and a caret under its column, both from 1, in characters; nothing where there is no such place.

    Whatever a terminal would not print as one character is shown as one that it does.
    """
    lines = _BREAK.split(text)
    if not 1 <= line <= len(lines):
        return
    start = max(0, column - 1 - WIDTH // 2)
    shown = "".join(_printable(one) for one in lines[line - 1][start : start + WIDTH])
    yield f"{line:>6} | {shown}".rstrip()
    yield f"{'':>6} | {'':>{max(0, column - 1 - start)}}^"


def _printable(character: str) -> str:
    if character == "\t":
        return " "
    return character if character.isprintable() else "\ufffd"
