"""What a book holds, as 256 numbers that change with every item and do not depend on its order.

An id belongs to the bucket of its first byte. A bucket's sum is that of the hashes of its ids, 2,048 bits each and
modulo 2^2048: it follows an item that comes or goes without a look at the others. Whoever makes orders chooses
ids, and must not hide a bid behind them: it takes some hundred ids to make their XOR any number of 256 bits, and
some thousand, with 2^32 steps, to make their sum one (Wagner's generalised birthday). With 2,048 bits and as many
ids as a book holds that is more than 2^100 steps. What goes over the wire is a hash of the sum.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from typing import NewType

from fondaco.protocol.scalars import Hash, OrderId

ItemId = NewType("ItemId", bytes)
"""16 bytes; see the package."""

ID_BYTES = 16
BUCKETS = 256
DIGEST_BYTES = 16
"""Of one bucket, on the wire; with half of that, two sets of one's own with the same digest were found."""
ROOT_BYTES = 16
_SUM_BYTES = 256
_MODULUS = 1 << 8 * _SUM_BYTES


def item_id(message: Hash | OrderId) -> ItemId:
    """The id of what hashes to this; of an order, the beginning of its own id."""
    return ItemId(message[:ID_BYTES])


class Index:
    """A set of ids with their digests."""

    def __init__(self, ids: Iterable[ItemId] = ()) -> None:
        self._buckets: list[set[ItemId]] = [set() for _ in range(BUCKETS)]
        self._sums = [0] * BUCKETS
        self._digests = [_digest(0, 0)] * BUCKETS
        self._changed: set[int] = set()
        self._count = 0
        for each in ids:
            self.add(each)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, item: ItemId) -> bool:
        return item in self._buckets[item[0]]

    def add(self, item: ItemId) -> None:
        """It must not be there."""
        assert item not in self
        self._buckets[item[0]].add(item)
        self._change(item, 1)

    def remove(self, item: ItemId) -> None:
        """It must be there."""
        self._buckets[item[0]].remove(item)
        self._change(item, -1)

    def _change(self, item: ItemId, sign: int) -> None:
        bucket = item[0]
        term = int.from_bytes(hashlib.shake_256(item).digest(_SUM_BYTES), "big")
        self._sums[bucket] = (self._sums[bucket] + sign * term) % _MODULUS
        self._count += sign
        self._changed.add(bucket)

    def digests(self) -> bytes:
        """`DIGEST_BYTES` of each bucket; equal where two books hold the same."""
        for bucket in self._changed:
            self._digests[bucket] = _digest(self._sums[bucket], len(self._buckets[bucket]))
        self._changed.clear()
        return b"".join(self._digests)

    def root(self) -> bytes:
        """`ROOT_BYTES` of all buckets together."""
        return hashlib.sha256(self.digests()).digest()[:ROOT_BYTES]

    def listed(self, bucket: int, point: ItemId, most: int) -> list[ItemId]:
        """Ids of a bucket in their order, from `point` round to before it; at most so many.

        Whoever asks draws the point anew each time, so of a bucket with more ids none is left out for ever.
        """
        ids = sorted(self._buckets[bucket])
        start = bisect_left(ids, point)
        return (ids[start:] + ids[:start])[:most]


def _digest(total: int, count: int) -> bytes:
    return hashlib.sha256(total.to_bytes(_SUM_BYTES, "big") + count.to_bytes(4, "big")).digest()[:DIGEST_BYTES]


def differing(ours: bytes, theirs: bytes) -> list[int]:
    """Buckets whose digests are not the same."""
    return [
        number
        for number in range(BUCKETS)
        if ours[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
        != theirs[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
    ]
