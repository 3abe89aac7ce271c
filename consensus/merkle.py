"""The authenticated root: a compact sparse Merkle tree over the records.

A record sits at the path sha256(key), bit by bit; a subtree holding one record is that record's leaf, an empty
one is thirty-two zero bytes. So a proof is about log2(records) hashes, for presence and for absence alike.

    leaf  = sha256(0x00 || sha256(key) || sha256(value))
    inner = sha256(0x01 || left || right)

Nodes live in the ledger's store under their path and are overwritten in place: only the newest state can be
proven, which is all that anybody asks a running node for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from fondaco.protocol.scalars import Hash
from fondaco.protocol.signing import sha256

EMPTY = Hash(bytes(32))
LEAF = b"\x00"
INNER = b"\x01"
DEPTH_MAX = 256

ReadNode = Callable[[bytes], bytes | None]
"""From a node's path to its bytes: a tag and two hashes."""
Change = tuple[Hash, Hash | None]
"""Path of a record, and the hash of its new value or None for its removal."""
C = TypeVar("C", bound=tuple[Hash, Hash | None])


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The way from the root to where a key's record is, or would be."""

    TAG: ClassVar[int] = 100
    siblings: tuple[Hash, ...]
    """From the root downwards."""
    leaf: tuple[Hash, Hash] | None
    """(path, value hash) of the leaf found there; None where the subtree is empty."""


def node_path(depth: int, path: bytes) -> bytes:
    """Where a node is stored: its depth and the bits above it, the rest zeroed."""
    whole, bits = divmod(depth, 8)
    prefix = path[:whole]
    if bits:
        prefix += bytes((path[whole] & (0xFF00 >> bits) & 0xFF,))
    return depth.to_bytes(2, "big") + prefix


def root_of(read: ReadNode) -> Hash:
    return _hash(read(node_path(0, b"")))


def update(read: ReadNode, changes: Mapping[bytes, bytes | None]) -> dict[bytes, bytes | None]:
    """The nodes to write (None: remove) so that the tree holds `changes`, a value or None for each record key."""
    hashed = sorted((sha256(key), None if value is None else sha256(value)) for key, value in changes.items())
    writes: dict[bytes, bytes | None] = {}
    top = node_path(0, b"")
    before = read(top)
    after = _Update(read, writes).subtree(0, b"", before, hashed)
    if after != before:
        writes[top] = after
    return writes


class _Update:
    """One walk down the tree with all changes at once: shared upper nodes are hashed once."""

    def __init__(self, read: ReadNode, writes: dict[bytes, bytes | None]) -> None:
        self.read = read
        self.writes = writes

    def subtree(self, depth: int, prefix: bytes, node: bytes | None, changes: list[Change]) -> bytes | None:
        """The node standing at `prefix` after the changes; its descendants are written on the way."""
        if not changes:
            return node
        if node is None or node[:1] == LEAF:
            return self._build(depth, _merge(node, changes))
        return self._descend(depth, prefix, node, changes)

    def _descend(self, depth: int, prefix: bytes, node: bytes, changes: list[Change]) -> bytes | None:
        hashes = [node[1:33], node[33:65]]
        kept: list[bytes | None] = [None, None]
        for side, part in enumerate(_split(depth, changes)):
            if not part:
                continue
            where = node_path(depth + 1, part[0][0])
            before = None if hashes[side] == EMPTY else self.read(where)
            after = self.subtree(depth + 1, where[2:], before, part)
            if after != before:
                self.writes[where] = after
            kept[side] = after
            hashes[side] = _hash(after)
        if EMPTY in hashes:
            return self._collapse(depth, prefix, hashes, kept)
        return INNER + hashes[0] + hashes[1]

    def _collapse(self, depth: int, prefix: bytes, hashes: list[bytes], kept: list[bytes | None]) -> bytes | None:
        """A subtree left with one record is that record's leaf, moved up from below."""
        if hashes == [EMPTY, EMPTY]:
            return None
        side = 0 if hashes[1] == EMPTY else 1
        where = node_path(depth + 1, _child(depth, prefix, side))
        only = kept[side] or self.read(where)
        assert only is not None, "the tree names a node that the store does not hold"
        if only[:1] == INNER:
            return INNER + hashes[0] + hashes[1]
        self.writes[where] = None
        return only

    def _build(self, depth: int, leaves: list[tuple[Hash, Hash]]) -> bytes | None:
        """A fresh subtree over sorted leaves."""
        if not leaves:
            return None
        if len(leaves) == 1:
            return LEAF + leaves[0][0] + leaves[0][1]
        hashes: list[bytes] = []
        for part in _split(depth, leaves):
            child = self._build(depth + 1, part)
            if child is not None:
                self.writes[node_path(depth + 1, part[0][0])] = child
            hashes.append(_hash(child))
        return INNER + hashes[0] + hashes[1]


def _child(depth: int, prefix: bytes, side: int) -> bytes:
    padded = bytearray(prefix.ljust(depth // 8 + 1, b"\x00"))
    if side:
        padded[depth // 8] |= 0x80 >> depth % 8
    return bytes(padded)


def _split(depth: int, sorted_by_path: list[C]) -> tuple[list[C], list[C]]:
    for index, change in enumerate(sorted_by_path):
        if _bit(change[0], depth):
            return sorted_by_path[:index], sorted_by_path[index:]
    return sorted_by_path, []


def _merge(leaf: bytes | None, changes: list[Change]) -> list[tuple[Hash, Hash]]:
    values = {} if leaf is None else {Hash(leaf[1:33]): Hash(leaf[33:65])}
    for path, value in changes:
        if value is None:
            values.pop(path, None)
        else:
            values[path] = value
    return sorted(values.items())


def _bit(path: bytes, depth: int) -> int:
    return path[depth // 8] >> (7 - depth % 8) & 1


def _hash(node: bytes | None) -> Hash:
    return EMPTY if node is None else sha256(node)


def prove(read: ReadNode, key: bytes) -> Proof:
    """Show what the tree holds at `key`: its record's hash, or that there is none."""
    path = sha256(key)
    siblings: list[Hash] = []
    node = read(node_path(0, b""))
    while node is not None and node[:1] == INNER:
        depth = len(siblings)
        ours, theirs = (33, 1) if _bit(path, depth) else (1, 33)
        siblings.append(Hash(node[theirs : theirs + 32]))
        node = None if node[ours : ours + 32] == EMPTY else read(node_path(depth + 1, path))
    leaf = None if node is None else (Hash(node[1:33]), Hash(node[33:65]))
    return Proof(siblings=tuple(siblings), leaf=leaf)


def holds(root: Hash, key: bytes, value: bytes | None, proof: Proof) -> bool:
    """Whether `proof` shows that `key` has `value` (None: has no record) under `root`."""
    path = sha256(key)
    depth = len(proof.siblings)
    if depth > DEPTH_MAX:
        return False
    if value is not None and proof.leaf != (path, sha256(value)):
        return False
    if value is None and proof.leaf is not None:
        found = proof.leaf[0]
        if found == path or node_path(depth, found) != node_path(depth, path):
            return False
    reached = EMPTY if proof.leaf is None else sha256(LEAF + proof.leaf[0] + proof.leaf[1])
    for level in range(depth - 1, -1, -1):
        sibling = proof.siblings[level]
        pair = sibling + reached if _bit(path, level) else reached + sibling
        reached = sha256(INNER + pair)
    return reached == root
