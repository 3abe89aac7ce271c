"""The authenticated root: a compact sparse Merkle tree over the records.

A record sits at the path sha256(key), bit by bit; a subtree holding one record is that record's leaf, an empty
one is thirty-two zero bytes. So a proof is about log2(records) hashes, for presence and for absence alike.

    leaf  = sha256(0x00 || sha256(key) || sha256(value))
    inner = sha256(0x01 || left || right)

It is stored in pages of four levels, one for each hexadecimal prefix of a path under which more than one record
lies. A page says for each of the sixteen next digits what is there: nothing, one record's leaf, or the hash of a
subtree that has a page of its own. The hashes between are worked out when they are needed: fifteen of them cost
less than one row more to read and write.

    page = sixteen bits for the digits with a leaf, sixteen for those with a subtree, the lowest for digit 0;
           then in the order of the digits sha256(key) || sha256(value) of a leaf, or the hash of a subtree

Pages lie in the ledger's store and are overwritten in place: only the newest state can be proven, which is all
that anybody asks a running node for.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from fondaco.protocol.scalars import Hash
from fondaco.protocol.signing import sha256

EMPTY = Hash(bytes(32))
LEAF = b"\x00"
INNER = b"\x01"
DEPTH_MAX = 256

DIGIT_BITS = 4
DIGITS = 16
NOTHING = b""
LEAF_BYTES, HASH_BYTES = 64, 32
"""What stands at a digit is told by its length: nothing, a leaf's path and value hash, or a subtree's hash."""

_VALUE = {digit: int(digit, DIGITS) for digit in "0123456789abcdef"}
_ALL = (1 << DIGITS) - 1
_HEAD_BYTES = 4
_SUBTREES_ONLY = _ALL.to_bytes(_HEAD_BYTES, "big")
_hash = hashlib.sha256

ReadPage = Callable[[bytes], bytes | None]
"""From a page's key to its bytes."""
Change = tuple[str, bytes | None]
"""Path of a record in hexadecimal, and its leaf or None for its removal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The way from the root to where a key's record is, or would be."""

    TAG: ClassVar[int] = 100
    siblings: tuple[Hash, ...]
    """From the root downwards."""
    leaf: tuple[Hash, Hash] | None
    """(path, value hash) of the leaf found there; None where the subtree is empty."""


def page_key(prefix: str) -> bytes:
    """Where the page of a prefix is stored.

    Two lengths of prefix at a time, so that a page lies beside those below it, where most of a walk's end is, and
    the few that all walks pass lie together.
    """
    return bytes((len(prefix) >> 1,)) + prefix.encode("ascii")


def root_of(read: ReadPage) -> Hash:
    return Hash(_hash_of(_fold(_unpack(read(page_key(""))))))


def update(
    read: ReadPage,
    changes: Mapping[bytes, bytes | None],
    prefetch: Callable[[list[bytes]], None] = lambda _keys: None,
) -> dict[bytes, bytes | None]:
    """The pages to write (None: remove) so that the tree holds `changes`, a value or None for each record key.

    `prefetch` is told which pages will be read next, one level after the other.
    """
    writes: dict[bytes, bytes | None] = {}
    if changes:
        pages = _descend(read, prefetch, sorted(map(_change, changes.items())))
        _Update(pages, writes).page("", NOTHING)
    return writes


def _change(item: tuple[bytes, bytes | None]) -> Change:
    key, value = item
    path = _hash(key).digest()
    return path.hex(), None if value is None else path + _hash(value).digest()


@dataclass(slots=True)
class _Page:
    """A page on the way of a walk."""

    key: bytes
    before: bytes | None
    slots: list[bytes]
    parts: list[tuple[int, list[Change]]]
    """The changes below it, by the next digit."""


def _descend(read: ReadPage, prefetch: Callable[[list[bytes]], None], changes: list[Change]) -> dict[str, _Page]:
    """All pages that stand above the changes, by their prefix."""
    pages: dict[str, _Page] = {}
    wanted, depth = {"": changes}, 0
    while wanted:
        keys = list(map(page_key, wanted))
        prefetch(keys)
        below: dict[str, list[Change]] = {}
        for key, (prefix, here) in zip(keys, wanted.items(), strict=True):
            before = read(key)
            assert before is not None or not prefix, "the tree names a page that the store does not hold"
            slots, parts = _unpack(before), _split(depth, here)
            pages[prefix] = _Page(key, before, slots, parts)
            for digit, part in parts:
                if len(slots[digit]) == HASH_BYTES:
                    below[part[0][0][: depth + 1]] = part
        wanted, depth = below, depth + 1
    return pages


class _Update:
    """The way back up with all changes at once: each page is written once."""

    def __init__(self, pages: dict[str, _Page], writes: dict[bytes, bytes | None]) -> None:
        self.pages = pages
        self.writes = writes

    def page(self, prefix: str, known: bytes) -> bytes:
        """What stands at `prefix` after the changes; before, it was the page's subtree, whose hash is `known`."""
        page, below = self.pages[prefix], len(prefix) + 1
        slots, same_kinds = page.slots, page.before is not None
        for digit, part in page.parts:
            slot = slots[digit]
            if len(slot) == HASH_BYTES:
                after = self.page(part[0][0][:below], slot)
            else:
                after = self.build(below, _merge(slot, part))
            slots[digit] = after
            same_kinds = same_kinds and len(after) == len(slot)
        packed = page.before[:_HEAD_BYTES] + b"".join(slots) if same_kinds and page.before else _pack(slots)
        if packed == page.before:
            return known
        if not same_kinds and prefix:
            held = [slot for slot in slots if slot]
            if len(held) < 2 and (not held or len(held[0]) == LEAF_BYTES):
                self.writes[page.key] = None
                return held[0] if held else NOTHING
        self.writes[page.key] = packed
        if not prefix:
            return NOTHING
        if packed is not None and packed.startswith(_SUBTREES_ONLY):
            return _fold_hashes(packed[_HEAD_BYTES:])
        return _fold(slots)

    def build(self, depth: int, leaves: list[Change]) -> bytes:
        """As `page`, where no page is yet: what stands there with just these leaves."""
        if len(leaves) < 2:
            return leaves[0][1] or NOTHING if leaves else NOTHING
        slots = [NOTHING] * DIGITS
        for digit, part in _split(depth, leaves):
            slots[digit] = self.build(depth + 1, part)
        self.writes[page_key(leaves[0][0][:depth])] = _pack(slots)
        return _fold(slots)


def _split(depth: int, changes: list[Change]) -> list[tuple[int, list[Change]]]:
    """Sorted changes by the digit they have at `depth`."""
    if len(changes) == 1:
        return [(_VALUE[changes[0][0][depth]], changes)]
    parts = groupby(changes, key=lambda change: change[0][depth])
    return [(_VALUE[digit], list(part)) for digit, part in parts]


def _merge(slot: bytes, changes: list[Change]) -> list[Change]:
    """The leaves where there was one or none, sorted; a removal alone stays for `build` to see."""
    if len(changes) == 1 and (not slot or slot[:HASH_BYTES].hex() == changes[0][0]):
        return changes
    leaves = dict(changes)
    if slot:
        leaves.setdefault(slot[:HASH_BYTES].hex(), slot)
    return sorted((path, leaf) for path, leaf in leaves.items() if leaf is not None)


def _pack(slots: list[bytes]) -> bytes | None:
    """A page's bytes; None where it would hold nothing."""
    leaves = subtrees = 0
    for digit, slot in enumerate(slots):
        if len(slot) == HASH_BYTES:
            subtrees |= 1 << digit
        elif slot:
            leaves |= 1 << digit
    if not leaves | subtrees:
        return None
    return (leaves << DIGITS | subtrees).to_bytes(_HEAD_BYTES, "big") + b"".join(slots)


def _unpack(page: bytes | None) -> list[bytes]:
    """What stands at each digit."""
    if page is None:
        return [NOTHING] * DIGITS
    head = page[:_HEAD_BYTES]
    if head == _SUBTREES_ONLY:
        return [page[at : at + HASH_BYTES] for at in range(_HEAD_BYTES, len(page), HASH_BYTES)]
    masks, at, slots = int.from_bytes(head, "big"), _HEAD_BYTES, [NOTHING] * DIGITS
    leaves, remaining = masks >> DIGITS, (masks | masks >> DIGITS) & _ALL
    while remaining:
        lowest = remaining & -remaining
        end = at + (LEAF_BYTES if leaves & lowest else HASH_BYTES)
        slots[lowest.bit_length() - 1] = page[at:end]
        at, remaining = end, remaining ^ lowest
    return slots


def _fold(slots: list[bytes]) -> bytes:
    """What stands where these sixteen are below."""
    while len(slots) > 1:
        slots = _pairs(slots)
    return slots[0]


def _fold_hashes(level: bytes) -> bytes:
    """As `_fold`, of sixteen hashes in a row: a third of all pages that a walk through a large tree meets."""
    while len(level) > HASH_BYTES:
        pairs = range(0, len(level), 2 * HASH_BYTES)
        level = b"".join([_hash(INNER + level[at : at + 2 * HASH_BYTES]).digest() for at in pairs])
    return level


def _pairs(slots: list[bytes]) -> list[bytes]:
    """One level higher up."""
    one = iter(slots)
    return [
        # Where there are two, or a subtree, there is a node; a leaf alone moves up, as nothing does.
        _hash(
            INNER
            + (left if len(left) == HASH_BYTES else _hash_of(left))
            + (right if len(right) == HASH_BYTES else _hash_of(right))
        ).digest()
        if (left and right) or len(left) == HASH_BYTES or len(right) == HASH_BYTES
        else left or right
        for left, right in zip(one, one, strict=True)
    ]


def _hash_of(slot: bytes) -> bytes:
    if len(slot) == HASH_BYTES:
        return slot
    return _hash(LEAF + slot).digest() if slot else EMPTY


def prove(read: ReadPage, key: bytes) -> Proof:
    """Show what the tree holds at `key`: its record's hash, or that there is none."""
    digits = sha256(key).hex()
    siblings: list[Hash] = []
    depth, found = 0, _fold(_unpack(read(page_key(""))))
    while len(found) == HASH_BYTES:
        levels = [_unpack(read(page_key(digits[:depth])))]
        while len(levels[-1]) > 2:
            levels.append(_pairs(levels[-1]))
        for bits, level in enumerate(reversed(levels), start=1):
            place = _VALUE[digits[depth]] >> DIGIT_BITS - bits
            siblings.append(Hash(_hash_of(level[place ^ 1])))
            found = level[place]
            if len(found) != HASH_BYTES:
                break
        depth += 1
    leaf = (Hash(found[:HASH_BYTES]), Hash(found[HASH_BYTES:])) if found else None
    return Proof(siblings=tuple(siblings), leaf=leaf)


def _bit(path: bytes, depth: int) -> int:
    return path[depth // 8] >> (7 - depth % 8) & 1


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
        if found == path or not _agree(found, path, depth):
            return False
    reached = EMPTY if proof.leaf is None else sha256(LEAF + proof.leaf[0] + proof.leaf[1])
    for level in range(depth - 1, -1, -1):
        sibling = proof.siblings[level]
        pair = sibling + reached if _bit(path, level) else reached + sibling
        reached = sha256(INNER + pair)
    return reached == root


def _agree(one: bytes, other: bytes, bits: int) -> bool:
    """Whether two paths begin with the same so many bits."""
    differing = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return differing >> (DEPTH_MAX - bits) == 0


def root_over(records: Iterable[tuple[bytes, bytes]]) -> Hash:
    """The root of a tree over just these records, worked out without its nodes: of a record 64 bytes are kept."""
    leaves = sorted((sha256(key), sha256(value)) for key, value in records)

    def hash_of(first: int, end: int, depth: int) -> Hash:
        if first == end:
            return EMPTY
        if end - first == 1:
            return sha256(LEAF + leaves[first][0] + leaves[first][1])
        middle = bisect_left(leaves, 1, first, end, key=lambda leaf: _bit(leaf[0], depth))
        return sha256(INNER + hash_of(first, middle, depth + 1) + hash_of(middle, end, depth + 1))

    return hash_of(0, len(leaves), 0)
