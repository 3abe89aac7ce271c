"""A Merkle tree over a list, as RFC 6962 builds it: what a header commits to in one hash.

Leaves are hashed behind a 0 byte and nodes behind a 1, so neither can pass for the other; a list splits at
the largest power of two below its length, so its length is part of its shape. The empty list hashes to
SHA-256 of nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from fondaco.protocol.scalars import Hash

EMPTY = Hash(sha256(b"").digest())
HASH_BYTES = 32


def leaf_hash(leaf: bytes) -> Hash:
    return Hash(sha256(b"\0" + leaf).digest())


def node_hash(left: bytes, right: bytes) -> Hash:
    return Hash(sha256(b"\1" + left + right).digest())


def root(leaves: Sequence[bytes]) -> Hash:
    """The root over `leaves`."""
    return root_of_hashes([leaf_hash(leaf) for leaf in leaves])


def root_of_hashes(hashes: Sequence[Hash]) -> Hash:
    """The root over leaves whose `leaf_hash`es these are.

    Joined level by level, an odd one out rising unchanged: the same tree as splitting at the largest power
    of two, without recursion.
    """
    level = list(hashes)
    if not level:
        return EMPTY
    while len(level) > 1:
        joined = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            joined.append(level[-1])
        level = joined
    return level[0]


class Tree:
    """Every hash over one list, level by level, for many proofs of it."""

    def __init__(self, hashes: bytes) -> None:
        """Over leaves whose `leaf_hash`es these are, one behind the other."""
        self.count = len(hashes) // HASH_BYTES
        self._levels = [hashes]
        width = self.count
        while width > 1:
            below = self._levels[-1]
            pairs = (below[at : at + 2 * HASH_BYTES] for at in range(0, len(below), 2 * HASH_BYTES))
            self._levels.append(
                b"".join(
                    pair if len(pair) == HASH_BYTES else node_hash(pair[:HASH_BYTES], pair[HASH_BYTES:])
                    for pair in pairs
                )
            )
            width = (width + 1) // 2

    @property
    def root(self) -> Hash:
        return Hash(self._levels[-1]) if self.count else EMPTY

    def prove(self, index: int) -> tuple[Hash, ...]:
        """The siblings on the way from leaf `index` to the root, lowest first."""
        assert 0 <= index < self.count, f"leaf {index} of {self.count}"
        path: list[Hash] = []
        for level in self._levels[:-1]:
            sibling = (index ^ 1) * HASH_BYTES
            if sibling < len(level):
                path.append(Hash(level[sibling : sibling + HASH_BYTES]))
            index //= 2
        return tuple(path)


def prove(leaves: Sequence[bytes], index: int) -> tuple[Hash, ...]:
    """Likewise, of one leaf and no more."""
    return Tree(b"".join(map(leaf_hash, leaves))).prove(index)


def holds(leaf: bytes, index: int, count: int, path: Sequence[Hash], expected: Hash) -> bool:
    """Whether `leaf` is number `index` of the `count` leaves under the root `expected`."""
    if not 0 <= index < count:
        return False
    found, siblings, width = leaf_hash(leaf), list(path), count
    while width > 1:
        if index ^ 1 < width:
            if not siblings:
                return False
            sibling = siblings.pop(0)
            found = node_hash(sibling, found) if index % 2 else node_hash(found, sibling)
        index, width = index // 2, (width + 1) // 2
    return not siblings and found == expected
