"""As much of protobuf as gossipsub needs: varints, fields with a length, and skipping all else."""

from __future__ import annotations

from collections.abc import Iterator

from fondaco.protocol import limits
from fondaco.protocol.errors import Malformed

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
VARINT_BYTES = 10


def varint(number: int) -> bytes:
    """An unsigned number in base 128, lowest group first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """The number at `start` and where it ends; None if `data` stops within it. Raises `Malformed`."""
    if start < len(data) and data[start] < 0x80:  # nearly all are that short
        return data[start], start + 1
    number = shift = 0
    for position in range(start, min(len(data), start + VARINT_BYTES)):
        byte = data[position]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number >= 1 << 64:
                break
            return number, position + 1
        shift += 7
    else:
        if len(data) - start < VARINT_BYTES:
            return None
    raise Malformed("gossip.varint", "a number longer than 64 bits")


def field(number: int, value: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields in order: (number, value). Raises `Malformed` for groups, bad keys and bytes cut off."""
    position = 0
    while position < len(data):
        key, position = _number(data, position)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise Malformed("gossip.field", "field number zero")
        if kind == VARINT:
            value, position = _number(data, position)
            yield number, value
            continue
        if kind == BYTES:
            length, position = _number(data, position)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise Malformed("gossip.field", f"wire type {kind}")
        if length > len(data) - position:
            raise Malformed("gossip.field", "a field longer than what holds it")
        yield number, data[position : position + length]
        position += length


def _number(data: bytes, position: int) -> tuple[int, int]:
    found = read_varint(data, position)
    if found is None:
        raise Malformed("gossip.varint", "a number cut off")
    return found


def blob(value: int | bytes) -> bytes:
    """A field's value where bytes belong. Raises `Malformed`."""
    if isinstance(value, int):
        raise Malformed("gossip.field", "a number where bytes belong")
    return value


def number(value: int | bytes) -> int:
    """A field's value where a number belongs. Raises `Malformed`."""
    if isinstance(value, bytes):
        raise Malformed("gossip.field", "bytes where a number belongs")
    return value


def topic_of(value: int | bytes) -> str:
    """A field's value where a topic belongs. Raises `Malformed`."""
    data = blob(value)
    if len(data) > limits.GOSSIP_TOPIC_BYTES:
        raise Malformed("gossip.topic", f"a topic of {len(data)} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Malformed("gossip.topic", "a topic that is not UTF-8") from None


def required(topic: str) -> str:
    """Raises `Malformed` for the empty topic."""
    if not topic:
        raise Malformed("gossip.topic", "no topic is given")
    return topic
