"""What the parts of `recount` share: how a record is refused, and records that must name each other."""

from __future__ import annotations

from typing import NoReturn

from fondaco.protocol import codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import BOUNDS, PublicKey

ID_BYTES = BOUNDS[PublicKey][0]
NUMBER_BYTES = 8


def wrong(key: bytes, what: str) -> NoReturn:
    """Raise `Refused` `genesis.record`, naming the record."""
    raise Refused("genesis.record", f"the record {shown(key)}: {what}")


def shown(key: bytes) -> str:
    """A key as people read it: its kind, and the rest in hexadecimal."""
    name, slash, rest = key.partition(b"/")
    return name.decode("ascii", "replace") + slash.decode() + rest.hex()


def entry(key: bytes, rest: bytes, value: bytes, *, names: int = 1) -> None:
    """Judge an entry of an index ordered by a number; `rest` is its key without the kind, and ends in ids."""
    named = rest[NUMBER_BYTES:]
    if len(named) != names * ID_BYTES or value != codec.encode(named):
        wrong(key, "this is no entry of an index")


class Pairs:
    """Keys that two records must name: one that says so, and the entry of an index."""

    def __init__(self) -> None:
        self._lone: set[bytes] = set()

    def match(self, key: bytes) -> None:
        """One of the two was seen; with the other it is settled."""
        self._lone ^= {key}

    def is_named(self, key: bytes) -> bool:
        """Whether one of the two was seen, and the other was not yet."""
        return key in self._lone

    def entry(self, key: bytes, rest: bytes, value: bytes, *, names: int = 1) -> None:
        """An entry of an index that a record must name."""
        entry(key, rest, value, names=names)
        self.match(key)

    def close(self) -> None:
        if self._lone:
            wrong(min(self._lone), "of the two records that must name this key, one is missing")
