"""What was decoded once need not be decoded again, within a bound in bytes.

A cache bounded in items says little about memory where one item may be of a hundred bytes or a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from fondaco.protocol import codec, limits

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")


class Memo(Generic[K, V]):
    """Values by key; beyond `limit_bytes` the oldest go, however often they are asked for."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._values: dict[K, tuple[V, int]] = {}

    def get(self, key: K) -> V | None:
        found = self._values.get(key)
        return None if found is None else found[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Remember a value that was made from `size` bytes. One known already keeps its place."""
        size += limits.MEMO_ITEM_OVERHEAD_BYTES
        if key in self._values or size > self._limit:
            return
        self._values[key] = (value, size)
        self._held += size
        while self._held > self._limit:
            self._held -= self._values.pop(next(iter(self._values)))[1]


class Records:
    """Records by their kind and bytes: wherever these bytes stand, now or later, they are that record."""

    def __init__(self, limit_bytes: int = limits.RECORDS_DECODED_BYTES) -> None:
        self._memo = Memo[tuple[type, bytes], object](limit_bytes)

    def decode(self, raw: bytes, kind: type[T]) -> T:
        """Raises `Malformed` as the codec does."""
        known = self._memo.get((kind, raw))
        if known is not None:
            assert isinstance(known, kind)
            return known
        record = codec.decode(raw, kind)
        self._memo.put((kind, raw), record, len(raw))
        return record

    def encode(self, record: object) -> bytes:
        """The record's bytes, which are likely to be read soon."""
        raw = codec.encode(record)
        self._memo.put((type(record), raw), record, len(raw))
        return raw
