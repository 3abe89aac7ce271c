"""From text to a query, by recursive descent.

query      = alternative {"or" alternative}
alternative = term {["and"] term}
term       = "not" term | "(" query ")" | comparison
comparison = FIELD | FIELD sign value | FIELD "in" "[" value {"," value} "]" | FIELD "in" range
           | "audited" "by" value
range      = [value] ".." [value]
"""

from __future__ import annotations

from fondaco.protocol.query import bounds
from fondaco.protocol.query.fields import Field, Kind, Schema, read_amount
from fondaco.protocol.query.syntax import Amount, And, Comparison, Flag, Not, Or, Pattern, Query, Range, Value
from fondaco.protocol.query.tokens import Token, TokenKind, tokens, wrong
from fondaco.protocol.spelling import nearest

SIGNS = ("=", "==", "!=", "<", "<=", ">", ">=")
KEYWORDS = ("and", "or", "not", "in", "by")
YES, NO = ("yes", "true"), ("no", "false")


def parse(text: str, schema: Schema) -> Query:
    """The query that `text` says about subjects of `schema`; an empty text matches all.

    Raises `Refused`: `query.syntax`, `query.field` for one that there is not, `query.value` for what the field
    cannot hold, `query.sign` for a comparison that makes no sense of it, `query.too_long`, `query.too_deep`.
    """
    parser = _Parser(tokens(text), schema)
    if parser.peek().kind is TokenKind.END:
        return And(())
    query = parser.query()
    if parser.peek().kind is not TokenKind.END:
        raise wrong("query.syntax", parser.peek().column, f"{parser.peek()} is one too many")
    return query


class _Parser:
    def __init__(self, found: list[Token], schema: Schema) -> None:
        self._tokens = found
        self._at = 0
        self._schema = schema
        self._depth = 0

    def peek(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self.peek()
        self._at += token.kind is not TokenKind.END
        return token

    def query(self) -> Query:
        parts = [self._alternative()]
        while self.peek().is_word("or"):
            self._take()
            parts.append(self._alternative())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _alternative(self) -> Query:
        parts = [self._term()]
        while True:
            if self.peek().is_word("and"):
                self._take()
            elif self.peek().kind is TokenKind.END or self.peek().is_word("or") or self.peek().is_sign(")"):
                return parts[0] if len(parts) == 1 else And(tuple(parts))
            parts.append(self._term())

    def _term(self) -> Query:
        self._depth += 1
        if self._depth > bounds.QUERY_DEPTH:
            raise wrong("query.too_deep", self.peek().column, f"nested deeper than {bounds.QUERY_DEPTH}")
        try:
            if self.peek().is_word("not"):
                self._take()
                return Not(self._term())
            if self.peek().is_sign("("):
                opened = self._take()
                inner = self.query()
                if not self._take().is_sign(")"):
                    raise wrong("query.syntax", opened.column, "this bracket is never closed")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Query:
        field = self._field()
        sign = self.peek()
        if field.name == "audited" and sign.is_word("by"):
            self._take()
            return Comparison(field=field, sign="=", values=(self._value(field),))
        if sign.is_word("in"):
            self._take()
            return self._among(field)
        if sign.is_sign(*SIGNS):
            self._take()
            return self._compared(field, sign)
        return Comparison(field=field, sign="known")

    def _field(self) -> Field:
        token = self._take()
        if token.kind is not TokenKind.WORD or token.text.lower() in KEYWORDS:
            raise wrong("query.syntax", token.column, f"a field belongs here, not {token}", hint=self._some())
        field = self._schema.find(token.text)
        if field is None:
            meant = self._schema.nearest(token.text)
            hint = f"did you mean {meant}?" if meant else self._some()
            raise wrong("query.field", token.column, f"{self._schema.name} have no field {token}", hint=hint)
        return field

    def _some(self) -> str:
        return f"fields are {', '.join(self._schema.fields)}"

    def _compared(self, field: Field, sign: Token) -> Query:
        if sign.text not in ("=", "==", "!=") and not field.kind.ordered:
            raise wrong("query.sign", sign.column, f"{field.name} has no order; use = or in")
        value = self._value(field)
        return Comparison(field=field, sign="=" if sign.text == "==" else sign.text, values=(value,))

    def _among(self, field: Field) -> Query:
        if self.peek().is_sign("["):
            return self._list(field)
        low = None if self.peek().is_sign("..") else self._amount(field)
        dots = self._take()
        if not dots.is_sign(".."):
            raise wrong("query.syntax", dots.column, f"`in` wants [x, y] or x..y, not {dots}")
        high = self._amount(field) if self.peek().kind is TokenKind.WORD and self._is_number(field) else None
        if low is None and high is None:
            raise wrong("query.syntax", dots.column, "a range wants one end at least")
        if low is not None and high is not None and low.value > high.value:
            raise wrong("query.value", dots.column, f"nothing is in {low}..{high}", hint=f"write {high}..{low}")
        return Comparison(field=field, sign="in", range=Range(low=low, high=high))

    def _is_number(self, field: Field) -> bool:
        return not field.kind.ordered or read_amount(field.kind, self.peek().text) is not None

    def _list(self, field: Field) -> Query:
        opened = self._take()
        values = [self._value(field)]
        while self.peek().is_sign(","):
            self._take()
            values.append(self._value(field))
        if not self._take().is_sign("]"):
            raise wrong("query.syntax", opened.column, "this list is never closed", hint="write [x, y]")
        return Comparison(field=field, sign="in", values=tuple(values))

    def _amount(self, field: Field) -> Amount:
        if not field.kind.ordered:
            raise wrong("query.sign", self.peek().column, f"{field.name} has no order; use = or in [x, y]")
        value = self._value(field)
        assert isinstance(value, Amount), "what has an order is read as a number"
        return value

    def _value(self, field: Field) -> Value:
        token = self._take()
        if token.kind not in (TokenKind.WORD, TokenKind.QUOTED):
            raise wrong("query.syntax", token.column, f"a value of {field.name} belongs here, not {token}")
        if field.kind is Kind.TEXT:
            glob = token.kind is TokenKind.WORD and "*" in token.text
            return Pattern(text=token.text.lower(), glob=glob)
        if field.kind is Kind.FLAG:
            return _flag(token, field)
        amount = read_amount(field.kind, token.text)
        if amount is None:
            raise wrong("query.value", token.column, f"{token} is no value of {field.name}: {field.kind.value}")
        return Amount(value=amount, written=token.text)


def _flag(token: Token, field: Field) -> Flag:
    word = token.text.lower()
    if word not in YES + NO:
        meant = nearest(word, YES + NO)
        hint = f"did you mean {meant}?" if meant else ""
        raise wrong("query.value", token.column, f"{field.name} is yes or no, not {token}", hint=hint)
    return Flag(value=word in YES)
