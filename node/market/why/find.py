"""What an id, or the beginning of one, stands for."""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.node.market.why.sources import Sources
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused

LEAST = 4
"""Characters of an id that are needed."""
HEX = "0123456789abcdef"
IN_HEX = {
    "order": ("orders.id", "deployments.id"),
    "bid": ("bids.id",),
    "decline": ("declines.id",),
    "lease": ("leases.id",),
    "transaction": ("transactions.id",),
    "block": ("blocks.hash",),
}
ACCOUNTS = (
    "transactions.sender",
    "mentions.id",
    "orders.tenant",
    "bids.provider",
    "declines.provider",
    "blocks.proposer",
)
KINDS = ("account", *IN_HEX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something that has an id."""

    kind: str
    id: str
    """Of a block its height."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


class Ambiguous(Refused):
    """Several have an id that begins so."""

    def __init__(self, text: str, candidates: list[Candidate]) -> None:
        self.candidates = candidates[: limits.WHY_CANDIDATES]
        more = ", and more" if len(candidates) > limits.WHY_CANDIDATES else ""
        super().__init__(
            "why.ambiguous",
            f"{text!r} may be {', '.join(map(str, self.candidates))}{more}",
            hint="give more of it, or KIND:ID as here",
        )


def find(sources: Sources, text: str) -> Candidate:
    """What `text` stands for: an id, its beginning, a height, or any of these behind `KIND:`.

    Raises `Ambiguous`, or `Refused` `why.syntax` or `why.unknown`.
    """
    kind, colon, rest = text.partition(":")
    if not colon:
        kind, rest = "", text
    rest = rest.lower()
    is_height = rest.isascii() and rest.isdigit() and len(rest) < 16
    is_hex = LEAST <= len(rest) <= 64 and not set(rest) - set(HEX)
    is_account = rest.startswith("fond1") and rest.isascii() and rest.isalnum() and len(rest) <= 100
    if (kind and kind not in KINDS) or not (is_height or is_hex or is_account):
        raise Refused(
            "why.syntax",
            f"{text[:100]!r} is not an id",
            hint=f"a height, an address, or {LEAST} hexadecimal digits at least; KIND is {', '.join(KINDS)}",
        )
    found: list[Candidate] = []
    if is_account:
        found += _beginning(sources, "account", ACCOUNTS, rest)
    if is_height and sources.row("SELECT 1 FROM blocks WHERE height = ?", int(rest)):
        found.append(Candidate(kind="block", id=str(int(rest))))
    if is_hex:
        for name, columns in IN_HEX.items():
            found += _beginning(sources, name, columns, rest)
    found = [one for one in found if not kind or one.kind == kind]
    if not found:
        start = sources.row("SELECT value FROM meta WHERE key = 'start_height'")
        raise Refused(
            "why.unknown",
            f"nothing that begins with {rest!r} is known here",
            hint=f"the log begins at height {start['value']}" if start else "the log is empty",
        )
    if len(found) > 1:
        raise Ambiguous(text, found)
    return found[0]


def _beginning(sources: Sources, kind: str, columns: tuple[str, ...], prefix: str) -> list[Candidate]:
    """Everything of a kind whose id begins so, though not much more than is shown."""
    parts = []
    for column in columns:
        table, _, name = column.partition(".")
        what = f"{'height' if kind == 'block' else name} AS id"
        many = f"LIMIT {limits.WHY_CANDIDATES + 1}"
        parts.append(f"SELECT * FROM (SELECT DISTINCT {what} FROM {table} WHERE {name} GLOB ?1 {many})")
    rows = sources.rows(f"{' UNION '.join(parts)} ORDER BY id", f"{prefix}*")
    return [Candidate(kind=kind, id=str(row["id"])) for row in rows]
