"""A query's text in words and signs, each with its place."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from fondaco.protocol.errors import Refused
from fondaco.protocol.query import bounds


class TokenKind(enum.Enum):
    WORD = enum.auto()
    """A name, a number with its unit, or a text that needs no quotes."""
    QUOTED = enum.auto()
    """A text between quotes: never a keyword, and its `*` is only a star."""
    SIGN = enum.auto()
    END = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    kind: TokenKind
    text: str
    """Of a quoted text, what is between the quotes."""
    column: int
    """From 1, in characters."""

    def is_word(self, word: str) -> bool:
        return self.kind is TokenKind.WORD and self.text.lower() == word

    def is_sign(self, *signs: str) -> bool:
        return self.kind is TokenKind.SIGN and self.text in signs

    def __str__(self) -> str:
        return "the end" if self.kind is TokenKind.END else repr(self.text)


_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<sign>!=|<=|>=|==|\.\.|[=<>()\[\],])
  | "(?P<double>[^"]*)" | '(?P<single>[^']*)'
  | (?P<word>(?:[^\s"'=<>!()\[\],.]|\.(?!\.))+)
    """,
    re.VERBOSE,
)


def wrong(code: str, column: int, message: str, *, hint: str = "") -> Refused:
    """A refusal that names its place in the query."""
    return Refused(code, f"at column {column}: {message}", hint=hint)


def tokens(text: str) -> list[Token]:
    """The words and signs of `text`, and `END`. Raises `Refused` `query.syntax` or `query.too_long`."""
    if len(text) > bounds.QUERY_CHARACTERS:
        raise Refused(
            "query.too_long", f"a query of {len(text)} characters; {bounds.QUERY_CHARACTERS} are allowed"
        )
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            lone = "this quote is never closed" if text[at] in "\"'" else f"{text[at]!r} means nothing here"
            raise wrong("query.syntax", at + 1, lone)
        if match["sign"] is not None:
            found.append(Token(kind=TokenKind.SIGN, text=match["sign"], column=at + 1))
        elif match["word"] is not None:
            found.append(Token(kind=TokenKind.WORD, text=match["word"], column=at + 1))
        elif match["space"] is None:
            quoted = match["double"] if match["double"] is not None else match["single"]
            found.append(Token(kind=TokenKind.QUOTED, text=quoted, column=at + 1))
        at = match.end()
    found.append(Token(kind=TokenKind.END, text="", column=len(text) + 1))
    return found
