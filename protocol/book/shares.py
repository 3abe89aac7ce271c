"""Who has how much of the room in the book, and what falls away where there is no more.

Every item has an account that signed it and a source that brought it: a neighbour, or nobody but ourselves. Each
has a quota, and the whole a bound. Where one of them is passed the oldest falls away of who weighs most: of an
account beyond its quota, of the heaviest account among what a source beyond its quota brought, and of the heaviest
account of the heaviest source where the book is full. So neither can push out what the others have.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from fondaco.protocol.book.digests import ItemId
from fondaco.protocol.scalars import PublicKey

K = TypeVar("K")

OWN = ""
"""The source of what came from no neighbour; it has a weight and no quota."""


class Weights(Generic[K]):
    """Sums by key, and which is the greatest, without a look at all of them."""

    def __init__(self) -> None:
        self._of: dict[K, int] = {}
        self._heap: list[tuple[int, int, K]] = []
        """(minus a weight, number, key); of each key one at least that says no less than its weight."""
        self._number = 0

    def __len__(self) -> int:
        return len(self._of)

    def of(self, key: K) -> int:
        return self._of.get(key, 0)

    def change(self, key: K, by: int) -> None:
        weight = self.of(key) + by
        assert weight >= 0
        if weight:
            self._of[key] = weight
        else:
            self._of.pop(key, None)
        if by > 0:
            self._push(key, weight)
        if len(self._heap) > 2 * len(self._of) + 64:
            self._heap = []
            for each, weight in self._of.items():
                self._push(each, weight)

    def heaviest(self) -> K:
        """There must be one; of equals the one that has weighed so much for longest."""
        while True:
            said, _, key = self._heap[0]
            weight = self.of(key)
            if weight == -said:
                return key
            heapq.heappop(self._heap)
            if weight:
                self._push(key, weight)

    def _push(self, key: K, weight: int) -> None:
        self._number += 1
        heapq.heappush(self._heap, (-weight, self._number, key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    items: int
    size: int
    """Bytes of all items together."""
    per_account: int
    """Items; so the next."""
    per_source: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Whose an item is."""

    source: str
    account: PublicKey
    size: int
    """Bytes."""


class Shares:
    """The items of one kind, by who brought them and who signed them."""

    def __init__(self, caps: Caps) -> None:
        self.caps = caps
        self.size = 0
        """Bytes."""
        self._shares: dict[ItemId, Share] = {}
        self._of_account: dict[PublicKey, OrderedDict[ItemId, None]] = {}
        self._of_both: dict[tuple[str, PublicKey], OrderedDict[ItemId, None]] = {}
        self._source_items: dict[str, int] = {}
        self._sources: Weights[str] = Weights()
        self._accounts: dict[str, Weights[PublicKey]] = {}
        """By source."""

    def __len__(self) -> int:
        return len(self._shares)

    def __contains__(self, item: ItemId) -> bool:
        return item in self._shares

    def share(self, item: ItemId) -> Share:
        return self._shares[item]

    def of_account(self, account: PublicKey) -> int:
        """How many items."""
        return len(self._of_account.get(account, ()))

    def of_source(self, source: str) -> int:
        return self._source_items.get(source, 0)

    def add(self, item: ItemId, share: Share) -> list[ItemId]:
        """Take in an item that is not there; what falls away for it, possibly the item itself."""
        assert item not in self._shares
        self._shares[item] = share
        self.size += share.size
        self._of_account.setdefault(share.account, OrderedDict())[item] = None
        self._of_both.setdefault((share.source, share.account), OrderedDict())[item] = None
        self._source_items[share.source] = self.of_source(share.source) + 1
        self._sources.change(share.source, share.size)
        self._accounts.setdefault(share.source, Weights()).change(share.account, share.size)
        fallen: list[ItemId] = []
        while (one := self._excess(share)) is not None:
            self.remove(one)
            fallen.append(one)
        return fallen

    def remove(self, item: ItemId) -> None:
        """It must be there."""
        share = self._shares.pop(item)
        self.size -= share.size
        _drop(self._of_account, share.account, item)
        _drop(self._of_both, (share.source, share.account), item)
        self._sources.change(share.source, -share.size)
        self._accounts[share.source].change(share.account, -share.size)
        self._source_items[share.source] -= 1
        if not self._source_items[share.source]:
            del self._source_items[share.source], self._accounts[share.source]

    def _excess(self, newest: Share) -> ItemId | None:
        """What must fall away next since this came; None where all is within its bounds."""
        caps = self.caps
        if self.of_account(newest.account) > caps.per_account:
            return next(iter(self._of_account[newest.account]))
        if newest.source != OWN and self.of_source(newest.source) > caps.per_source:
            return self._oldest_of_heaviest(newest.source)
        if len(self) > caps.items or self.size > caps.size:
            return self._oldest_of_heaviest(self._sources.heaviest())
        return None

    def _oldest_of_heaviest(self, source: str) -> ItemId:
        return next(iter(self._of_both[source, self._accounts[source].heaviest()]))


def _drop(items: dict[K, OrderedDict[ItemId, None]], key: K, item: ItemId) -> None:
    del items[key][item]
    if not items[key]:
        del items[key]
