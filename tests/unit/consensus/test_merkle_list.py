from __future__ import annotations

from hashlib import sha256

import pytest

from fondaco.consensus import merkle_list
from fondaco.protocol.scalars import Hash

LEAVES = [b"%d" % number for number in range(11)]


def _by_the_book(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\1" + _by_the_book(leaves[:split]) + _by_the_book(leaves[split:])).digest()


@pytest.mark.parametrize("count", range(12))
def test_roots_are_rfc_6962s(count: int) -> None:
    leaves = LEAVES[:count]
    assert merkle_list.root(leaves) == _by_the_book(leaves)
    assert merkle_list.Tree(b"".join(map(merkle_list.leaf_hash, leaves))).root == _by_the_book(leaves)


@pytest.mark.parametrize("count", range(1, 12))
def test_every_leaf_can_be_proved_and_nothing_else(count: int) -> None:
    leaves = LEAVES[:count]
    root = merkle_list.root(leaves)
    for index, leaf in enumerate(leaves):
        path = merkle_list.prove(leaves, index)
        assert merkle_list.holds(leaf, index, count, path, root)
        assert not merkle_list.holds(b"another", index, count, path, root)
        assert not merkle_list.holds(leaf, count, count, path, root)
        assert not merkle_list.holds(leaf, index, count, (*path, Hash(bytes(32))), root)
        if path:
            assert not merkle_list.holds(leaf, index, count, path[:-1], root)
            assert not merkle_list.holds(leaf, index ^ 1, count, path, root)
