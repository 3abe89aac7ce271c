from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, ClassVar

import msgpack
import pytest

from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Malformed
from fondaco.protocol.scalars import INT_MAX, ChainId, Hash, Height, Priority


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: int
    y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    TAG: ClassVar[int] = 1
    colour: Colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    TAG: ClassVar[int] = 3
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Knot:
    TAG: ClassVar[int] = 4
    inner: Knot | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    TAG: ClassVar[int] = 2
    left: Leaf | Branch | None
    right: Leaf | None
    points: tuple[Point, ...]
    pair: tuple[bool, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    arms: tuple[int, Leaf, tuple[Point, ...] | None]


LEAF = Leaf(colour=Colour.BLUE)
TREE = Tree(left=LEAF, right=None, points=(Point(x=1, y=2),), pair=(True, "ok"))


def code_of(data: bytes, kind: Any, **options: int) -> str:
    with pytest.raises(Malformed) as caught:
        codec.decode_union(data, kind, **options)
    return caught.value.code


def packed(plain: object) -> bytes:
    data: bytes = msgpack.packb(plain)
    return data


def test_a_message_is_its_tag_and_fields_in_order() -> None:
    assert codec.unpack(codec.encode(TREE)) == [2, [1, 300], None, [[1, 2]], [True, "ok"]]
    assert codec.encode(LEAF).hex() == "9201cd012c", "these very bytes are signed: they never change"


def test_a_tuple_of_unlike_things_is_a_list_of_them() -> None:
    for points, plain in ((None, None), ((Point(x=1, y=2),), [[1, 2]])):
        fork = Fork(arms=(7, LEAF, points))
        assert codec.unpack(codec.encode(fork)) == [[7, [1, 300], plain]]
        assert codec.decode(codec.encode(fork), Fork) == fork


def test_messages_nest_but_never_in_themselves() -> None:
    nested = Tree(left=Branch(leaves=(LEAF, LEAF)), right=LEAF, points=(), pair=(False, ""))
    assert codec.decode(codec.encode(nested), Tree) == nested
    with pytest.raises(RecursionError):
        codec.reader(Knot)


def test_a_union_is_told_apart_by_its_tag() -> None:
    for message in (TREE, LEAF):
        assert codec.decode_union(codec.encode(message), Tree | Leaf) == message
    assert codec.decode_union(codec.encode(None), Tree | Leaf | None) is None
    for wrong in (None, [], [9], ["1"], [True, 1], [1.0, 1], 1):
        assert code_of(packed(wrong), Tree | Leaf) == "codec.type"


@pytest.mark.parametrize("plain", [None, 1, [], [1], [2, 1], [1, 1, 1], [True, 1], [1.0, 1], ["1", 1], {1: 1}])
def test_anything_but_the_fields_behind_the_tag_is_refused(plain: object) -> None:
    assert code_of(packed(plain), Leaf).startswith("codec.")


@pytest.mark.parametrize(
    ("plain", "kind"),
    [
        (True, int),
        (1.0, int),
        (None, int),
        (1, bool),
        (0, bool),
        ("a", bytes),
        (b"a", str),
        (1, Colour),
        (None, tuple[int, ...]),
        ([1, None], tuple[int, ...]),
        ([1], tuple[int, int]),
        ([1, 2, 3], tuple[int, int]),
        (b"12", tuple[int, int]),
        ("", int | None),
    ],
)
def test_values_of_another_type_are_refused(plain: object, kind: Any) -> None:
    if kind is Colour:
        for wrong in (2, True, 1.0, None):
            assert code_of(packed(wrong), kind) == "codec.type"
        assert codec.decode(packed(plain), Colour) is Colour.RED
        return
    assert code_of(packed(plain), kind) == "codec.type"


@pytest.mark.parametrize(
    ("inside", "outside", "kind"),
    [
        (0, -1, int),
        (INT_MAX, INT_MAX + 1, int),
        (INT_MAX, INT_MAX + 1, Height),
        (-INT_MAX, -INT_MAX - 1, Priority),
        (bytes(32), bytes(31), Hash),
        (bytes(32), bytes(33), Hash),
        ("x", "", ChainId),
        ("x" * 64, "x" * 65, ChainId),
        ("é" * 32, "é" * 33, ChainId),
        ("x" * limits.TEXT_BYTES, "x" * (limits.TEXT_BYTES + 1), str),
        (bytes(limits.BLOB_BYTES), bytes(limits.BLOB_BYTES + 1), bytes),
    ],
)
def test_bounds_are_inclusive_and_in_bytes(inside: object, outside: object, kind: Any) -> None:
    assert codec.decode(packed(inside), kind) == inside
    assert code_of(packed(outside), kind) == "codec.range"


@pytest.mark.parametrize(
    "data",
    [
        b"\xcc\x01",  # one, in two bytes
        b"\xd0\x01",
        b"\xd9\x01a",  # text with a longer head
        b"\xdc\x00\x00",  # an empty list with a longer head
        b"\xca\x00\x00\x00\x00",  # a short float; packing writes the long one
    ],
)
def test_a_longer_way_to_say_the_same_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        codec.unpack(data)
    assert caught.value.code == "codec.not_canonical"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x92\x01",  # cut short
        b"\x01\x01",  # something behind
        b"\xc1",  # never used
        b"\xa1\xff",  # not UTF-8
        b"\xa3\xed\xa0\x80",  # a lone surrogate
        b"\x80",  # an empty map
        b"\x81\x01\x01",  # a map
        b"\xd4\x05\x00",  # an extension
        b"\xd6\xff\x00\x00\x00\x00",  # a timestamp
        b"\xdd\xff\xff\xff\xff",  # a list said to be of four thousand million
        b"\xc6\xff\xff\xff\xff",  # as many bytes
        b"\x91" * 5_000 + b"\x90",  # deeper than any message
    ],
)
def test_what_is_not_in_the_language_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        codec.unpack(data)
    assert caught.value.code == "codec.syntax"


def test_a_message_has_a_largest_size() -> None:
    data = packed(bytes(100))
    assert codec.decode(data, bytes, limit=len(data)) == bytes(100)
    assert code_of(data, bytes, limit=len(data) - 1) == "codec.size"
    assert code_of(bytes(limits.MESSAGE_BYTES + 1), bytes) == "codec.size"


def test_a_list_and_a_message_have_a_largest_number_of_items() -> None:
    most = packed([0] * limits.LIST_ITEMS)
    assert len(codec.decode(most, tuple[int, ...])) == limits.LIST_ITEMS
    assert code_of(packed([0] * (limits.LIST_ITEMS + 1)), tuple[int, ...]) == "codec.syntax"
    lists = limits.MESSAGE_ITEMS // (limits.LIST_ITEMS + 2)
    nested = [[0] * limits.LIST_ITEMS] * lists
    assert codec.unpack(packed(nested)) == nested
    # Few bytes of wire, much memory: empty lists in lists.
    assert code_of(packed([[[]] * 1_000] * 100), tuple[int, ...]) == "codec.syntax"


def test_what_no_rule_covers_is_a_bug_of_ours() -> None:
    with pytest.raises(AssertionError, match="not a message"):
        codec.encode([1])
    with pytest.raises(AssertionError, match="no rule"):
        codec.reader(float)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Impostor:
        TAG: ClassVar[int] = 1

    with pytest.raises(AssertionError, match="share a tag"):
        codec.reader(Leaf | Impostor)
