"""How a record that a chain cannot begin with is refused."""

from __future__ import annotations

from typing import NoReturn

from fondaco.protocol.errors import Refused


def wrong(key: bytes, what: str) -> NoReturn:
    """Raise `Refused` `genesis.record`, naming the record."""
    raise Refused("genesis.record", f"the record {shown(key)}: {what}")


def shown(key: bytes) -> str:
    """A key as people read it: its kind, and the rest in hexadecimal."""
    name, slash, rest = key.partition(b"/")
    return name.decode("ascii", "replace") + slash.decode() + rest.hex()
