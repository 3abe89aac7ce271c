"""Canonical msgpack: one value, one byte string.

A message is a frozen dataclass; on the wire it is an array of its fields in order, led by its `TAG` where it
has one. A union is decoded by the tag. There are no maps, no floats and no extension types, so the shortest
msgpack form is the only form; `decode` packs what it read again and refuses bytes that differ. Types, ranges
and lengths come from the annotations (`scalars.BOUNDS`, `limits`) and are checked on the way in.

    >>> decode(encode(vote), Vote) == vote
    True
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

import msgpack

from fondaco.protocol import limits
from fondaco.protocol.errors import Malformed
from fondaco.protocol.scalars import BOUNDS, INT_MAX

T = TypeVar("T")
Plain = Any
"""What msgpack knows: None, bool, int, str, bytes, list."""
Reader = Callable[[Plain], Any]
Writer = Callable[[Any], Plain]
_PACKER = msgpack.Packer(use_bin_type=True)
"""One for all: to make one costs more than to pack a small message, and packing is one step to all threads."""


def encode(message: object) -> bytes:
    """Pack a message (or a tuple, text, bytes, integer of messages) into its canonical bytes."""
    return pack(_plain(message))


def decode(data: bytes, kind: type[T], *, limit: int = limits.MESSAGE_BYTES) -> T:
    """Unpack canonical bytes into a message of `kind`.

    Raises `Malformed` with `codec.size`, `codec.syntax`, `codec.not_canonical`, `codec.type` or `codec.range`.
    """
    return typing.cast(T, reader(typing.cast(Any, kind))(unpack(data, limit=limit)))


def decode_union(data: bytes, kinds: object, *, limit: int = limits.MESSAGE_BYTES) -> Any:
    """Like `decode` for a union of tagged messages, which `type[T]` cannot name."""
    return reader(kinds)(unpack(data, limit=limit))


def pack(plain: Plain) -> bytes:
    """Pack plain values; the shortest form msgpack has."""
    packed = _PACKER.pack(plain)
    assert isinstance(packed, bytes)
    return packed


def unpack(data: bytes, *, limit: int = limits.MESSAGE_BYTES) -> Plain:
    """Unpack into plain values, refusing anything that packing would write differently."""
    if len(data) > limit:
        raise Malformed("codec.size", f"{len(data)} bytes, at most {limit} allowed")
    try:
        plain = msgpack.unpackb(
            data,
            raw=False,
            object_pairs_hook=_refuse,
            ext_hook=_refuse,
            list_hook=_counter() if len(data) > limits.MESSAGE_ITEMS else None,
            max_array_len=limits.LIST_ITEMS,
            max_ext_len=0,  # timestamps never reach the hook
        )
        again = pack(plain)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(
            "codec.syntax", f"not msgpack, or more than one message may hold: {type(error).__name__}"
        ) from None
    if again != data:
        raise Malformed("codec.not_canonical", "these bytes are not the canonical form of what they say")
    return plain


def _refuse(*_: object) -> NoReturn:
    raise ValueError("maps and extension types do not exist here")


def _counter() -> Callable[[list[Plain]], list[Plain]]:
    """Counts what one message holds: empty lists take one byte each on the wire, and seventy in memory."""
    items = 0

    def count(found: list[Plain]) -> list[Plain]:
        nonlocal items
        items += 1 + len(found)
        if items > limits.MESSAGE_ITEMS:
            raise ValueError("too many items")
        return found

    return count


def _plain(value: Any) -> Plain:
    if type(value) is tuple:
        return [_plain(item) for item in value]
    return writer(typing.cast(Any, type(value)))(value)


@functools.cache
def writer(kind: Any) -> Writer:
    """The function that turns a `kind` into plain values; `_as_is` where msgpack writes it as it is.

    msgpack knows integers, members of an `IntEnum`, text, bytes and None, and writes a tuple as a list: what is
    made of those alone takes no step for each value.
    """
    if isinstance(kind, typing.NewType):
        return writer(kind.__supertype__)
    if kind in _PLAIN_KINDS:
        return _as_is
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union_writer({argument: writer(argument) for argument in arguments})
    if origin is tuple:
        return _tuple_writer(arguments)
    if isinstance(kind, type) and issubclass(kind, enum.IntEnum):
        return _as_is
    return _message_writer(kind)


_PLAIN_KINDS = frozenset((int, bool, str, bytes, types.NoneType))


def _as_is(value: Plain) -> Plain:
    return value


def _union_writer(members: dict[Any, Writer]) -> Writer:
    if all(write is _as_is for write in members.values()):
        return _as_is
    others = [write for member, write in members.items() if member is not types.NoneType]
    if len(others) == 1:
        (only,) = others
        return lambda value: None if value is None else only(value)
    return lambda value: members[type(value)](value)


def _tuple_writer(arguments: tuple[Any, ...]) -> Writer:
    writers = [writer(argument) for argument in arguments if argument is not Ellipsis]
    if all(write is _as_is for write in writers):
        return _as_is
    if arguments[-1] is Ellipsis:
        (item,) = writers
        return lambda value: [item(one) for one in value]
    return lambda value: [write(one) for write, one in zip(writers, value, strict=True)]


def _message_writer(kind: Any) -> Writer:
    assert dataclasses.is_dataclass(kind), f"{kind!r} is not a message"
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    head = (kind.TAG,) if hasattr(kind, "TAG") else ()
    writers = [(place, writer(hints[name])) for place, name in enumerate(names, start=len(head))]
    others = [(place, write) for place, write in writers if write is not _as_is]
    fields = _getter(names)

    def write(message: Any) -> Plain:
        values = [*head, *fields(message)]
        for place, write_field in others:
            values[place] = write_field(values[place])
        return values

    return write


def _getter(names: list[str]) -> Callable[[Any], Iterable[Any]]:
    """All these attributes at once; `attrgetter` gives no tuple for fewer than two."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda message: [getattr(message, name) for name in names]


@functools.cache
def reader(kind: Any) -> Reader:
    """The function that checks plain values and turns them into `kind`."""
    if isinstance(kind, typing.NewType):
        base = kind.__supertype__
        return _scalar(base, BOUNDS[kind], kind.__name__) if kind in BOUNDS else reader(base)
    if kind is bool:
        return _boolean
    if kind in _DEFAULT_BOUNDS:
        return _scalar(kind, _DEFAULT_BOUNDS[kind], kind.__name__)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _union(typing.get_args(kind))
    if origin is tuple:
        return _tuple(typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.IntEnum):
        return _enumeration(kind)
    assert dataclasses.is_dataclass(kind), f"the codec has no rule for {kind!r}"
    return _message(typing.cast(type, kind))


_DEFAULT_BOUNDS: dict[object, tuple[int, int]] = {
    int: (0, INT_MAX),
    str: (0, limits.TEXT_BYTES),
    bytes: (0, limits.BLOB_BYTES),
}


def _wrong(wanted: str, found: Plain) -> Malformed:
    return Malformed("codec.type", f"wanted {wanted}, found {type(found).__name__}")


def _boolean(value: Plain) -> bool:
    if value is True or value is False:
        return bool(value)
    raise _wrong("bool", value)


def _scalar(base: Any, bounds: tuple[int, int], name: str) -> Reader:
    low, high = bounds
    measure: Callable[[Any], int] = (lambda value: value) if base is int else len
    if base is str:
        measure = _utf8_length

    def read(value: Plain) -> Any:
        if type(value) is not base:
            raise _wrong(name, value)
        if not low <= measure(value) <= high:
            raise Malformed("codec.range", f"{name} outside {low}..{high}")
        return value

    return read


def _utf8_length(text: str) -> int:
    return len(text.encode())


def _tuple(arguments: tuple[Any, ...]) -> Reader:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        item = reader(arguments[0])

        def read_many(value: Plain) -> tuple[Any, ...]:
            if type(value) is not list:
                raise _wrong("a list", value)
            return tuple([item(one) for one in value])

        return read_many
    items = tuple(reader(argument) for argument in arguments)

    def read_fixed(value: Plain) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(items):
            raise _wrong(f"a list of {len(items)}", value)
        return tuple(read(one) for read, one in zip(items, value, strict=True))

    return read_fixed


def _enumeration(kind: type[enum.IntEnum]) -> Reader:
    members = {int(member): member for member in kind}

    def read(value: Plain) -> enum.IntEnum:
        if type(value) is not int or value not in members:
            raise _wrong(kind.__name__, value)
        return members[value]

    return read


def _union(arguments: tuple[Any, ...]) -> Reader:
    optional = type(None) in arguments
    members = [argument for argument in arguments if argument is not type(None)]
    if len(members) == 1:
        only = reader(members[0])
        return lambda value: None if value is None else only(value)
    by_tag = {member.TAG: reader(member) for member in members}
    assert len(by_tag) == len(members), f"two members of {arguments} share a tag"

    def read(value: Plain) -> Any:
        if value is None and optional:
            return None
        if type(value) is not list or not value or type(value[0]) is not int or value[0] not in by_tag:
            raise _wrong(" or ".join(member.__name__ for member in members), value)
        return by_tag[value[0]](value)

    return read


def _message(kind: type) -> Reader:
    hints = typing.get_type_hints(kind)
    # Compiled here, not at first use: a message that nests itself has no depth, so it must not exist. What it
    # would take to read one would depend on the stack of whoever reads it, and validators must not differ.
    readers = [(field.name, reader(hints[field.name])) for field in dataclasses.fields(kind)]
    tag = getattr(kind, "TAG", None)
    skip = 0 if tag is None else 1
    length = len(readers) + skip

    def read(value: Plain) -> Any:
        if type(value) is not list or len(value) != length:
            raise _wrong(kind.__name__, value)
        # By type too: 10.0 and True compare equal to a tag, and would be second spellings of one message.
        if skip and (type(value[0]) is not int or value[0] != tag):
            raise _wrong(kind.__name__, value)
        return kind(**{name: item(one) for (name, item), one in zip(readers, value[skip:], strict=True)})

    return read
