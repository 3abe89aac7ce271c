"""Ids of items that were never made."""

from __future__ import annotations

import hashlib

from fondaco.protocol.book.digests import ItemId


def an_id(number: int, *, bucket: int | None = None) -> ItemId:
    """As good as random, the same each time; in a bucket of one's choice."""
    raw = hashlib.sha256(number.to_bytes(8, "big")).digest()[:16]
    return ItemId(raw if bucket is None else bytes([bucket]) + raw[1:])
