"""What a book answers to a neighbour that compares itself: digests, ids, items.

========  =========================================  ========================================================
digests   [root]                                     bytes: nothing if the root is ours, or all digests
ids       [numbers of buckets, one byte each,        for each of the first of them, at least one, its ids as
          a point]                                   one row of bytes, from the point on
items     [ids in one row of bytes]                  for each of the first of them, at least one, the item;
                                                     no bytes for what is gone
========  =========================================  ========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fondaco.protocol.book import bounds
from fondaco.protocol.book.digests import ID_BYTES, ROOT_BYTES, Index, ItemId
from fondaco.protocol.codec import Plain
from fondaco.protocol.errors import Refused


def digests(index: Index, params: Plain) -> bytes:
    """Raises `Refused` `request.params`, as the others do."""
    (root,) = _arguments(params, 1)
    if len(root) != ROOT_BYTES:
        raise _wrong(f"a root is {ROOT_BYTES} bytes")
    return b"" if root == index.root() else index.digests()


def ids(index: Index, params: Plain) -> list[bytes]:
    buckets, point = _arguments(params, 2)
    if not 1 <= len(buckets) <= bounds.LISTED_BUCKETS or len(point) != ID_BYTES:
        raise _wrong(f"wanted 1..{bounds.LISTED_BUCKETS} buckets and a point of {ID_BYTES} bytes")
    room, listed = bounds.LISTED_IDS, list[bytes]()
    for bucket in buckets:
        found = index.listed(bucket, ItemId(point), bounds.LISTED_IDS)
        if listed and len(found) > room:
            break
        room -= len(found)
        listed.append(b"".join(found))
    return listed


def wanted(params: Plain) -> list[ItemId]:
    """The ids that a neighbour asks for."""
    (row,) = _arguments(params, 1)
    if not 0 < len(row) <= bounds.PULL_ITEMS * ID_BYTES or len(row) % ID_BYTES:
        raise _wrong(f"wanted 1..{bounds.PULL_ITEMS} ids")
    return split(row)


def items(asked: Sequence[ItemId], item: Callable[[ItemId], bytes]) -> list[bytes]:
    """Those of the items that fit one answer; `item` gives one as bytes, or no bytes."""
    given: list[bytes] = []
    room = bounds.PULL_BYTES
    for each in asked:
        found = item(each)
        if given and len(found) > room:
            break
        room -= len(found)
        given.append(found)
    return given


def split(row: bytes) -> list[ItemId]:
    """Ids written one after the other."""
    return [ItemId(row[start : start + ID_BYTES]) for start in range(0, len(row), ID_BYTES)]


def _arguments(params: Plain, count: int) -> list[bytes]:
    if type(params) is not list or len(params) != count or any(type(one) is not bytes for one in params):
        raise _wrong(f"wanted {count} strings of bytes")
    return params


def _wrong(message: str) -> Refused:
    return Refused("request.params", message)
