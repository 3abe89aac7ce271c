"""Gossipsub's RPC on the wire: a small protobuf codec for the part that is used, bounded everywhere.

    RPC      1 subscriptions*   2 publish*   3 control
    SubOpts  1 subscribe (bool) 2 topicid (string)
    Message  1 from  2 data  3 seqno  4 topic (string)  5 signature  6 key
    https://github.com/libp2p/specs/blob/master/pubsub/README.md

The signature policy is StrictNoSign: messages carry data and topic only, and one with an author, a sequence
number, a signature or a key is a fault of whoever sent it, as the specification asks. What we publish is
signed inside. Control is kept as the bytes it came as. Unknown fields are skipped, as protobuf does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fondaco.protocol import limits
from fondaco.protocol.errors import Malformed, PeerFault

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
VARINT_BYTES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A peer begins or ends to want a topic."""

    topic: str
    subscribe: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A published message; relays pass `data` on byte for byte."""

    topic: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """What one peer tells another in one go."""

    subscriptions: tuple[Subscription, ...] = ()
    messages: tuple[Message, ...] = ()
    control: bytes = b""
    """Gossipsub's mesh control, undecoded: a flooding router does without."""


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


def encode(rpc: Rpc) -> bytes:
    """The protobuf bytes of `rpc`, without a length in front."""
    parts = []
    for subscription in rpc.subscriptions:
        flag = b"\x08\x01" if subscription.subscribe else b"\x08\x00"
        parts.append(_field(1, flag + _field(2, subscription.topic.encode())))
    for message in rpc.messages:
        parts.append(_field(2, _field(2, message.data) + _field(4, message.topic.encode())))
    if rpc.control:
        parts.append(_field(3, rpc.control))
    return b"".join(parts)


def _field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def delimit(payload: bytes) -> bytes:
    """Put the length in front, as a varint."""
    return varint(len(payload)) + payload


def decode(data: bytes) -> Rpc:
    """Read `data` as an RPC.

    Raises `Malformed` for bytes that are no protobuf or break a bound, and `PeerFault` `gossip.signed` for a
    message that is not StrictNoSign.
    """
    if len(data) > limits.GOSSIP_RPC_BYTES:
        raise Malformed("gossip.size", f"{len(data)} bytes, at most {limits.GOSSIP_RPC_BYTES} allowed")
    subscriptions: list[Subscription] = []
    messages: list[Message] = []
    control = b""
    for number, value in _fields(data):
        if number == 1:
            subscriptions.append(_subscription(_blob(value)))
        elif number == 2:
            messages.append(_message(_blob(value)))
        elif number == 3:
            control = _blob(value)
        if len(subscriptions) > limits.GOSSIP_SUBSCRIPTIONS or len(messages) > limits.GOSSIP_MESSAGES_PER_RPC:
            raise Malformed("gossip.count", "too many subscriptions or messages in one RPC")
    return Rpc(subscriptions=tuple(subscriptions), messages=tuple(messages), control=control)


def _subscription(data: bytes) -> Subscription:
    subscribe, topic = False, ""
    for number, value in _fields(data):
        if number == 1:
            if isinstance(value, bytes):
                raise Malformed("gossip.field", "a subscription's flag is not a number")
            subscribe = value != 0
        elif number == 2:
            topic = _topic(value)
    return Subscription(topic=_required(topic), subscribe=subscribe)


def _message(data: bytes) -> Message:
    content, topic = b"", ""
    for number, value in _fields(data):
        if number == 2:
            content = _blob(value)
        elif number == 4:
            topic = _topic(value)
        elif number in (1, 3, 5, 6):
            raise PeerFault("gossip.signed", "messages carry data and topic only (StrictNoSign)")
    return Message(topic=_required(topic), data=content)


def _required(topic: str) -> str:
    if not topic:
        raise Malformed("gossip.topic", "no topic is given")
    return topic


def _topic(value: int | bytes) -> str:
    data = _blob(value)
    if len(data) > limits.GOSSIP_TOPIC_BYTES:
        raise Malformed("gossip.topic", f"a topic of {len(data)} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Malformed("gossip.topic", "a topic that is not UTF-8") from None


def _blob(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise Malformed("gossip.field", "a number where bytes belong")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
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


class DelimitedReader:
    """Cuts a stream of varint-delimited payloads; the counterpart of `frames.FrameReader`."""

    def __init__(self, *, limit: int = limits.GOSSIP_RPC_BYTES) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Sequence[bytes]:
        """Take in `data`; return the payloads now complete. Raises `PeerFault` beyond the limit."""
        buffer = self._buffer
        buffer += data
        payloads: list[bytes] = []
        start = 0
        while (found := read_varint(buffer, start)) is not None:
            length, body = found
            if length > self.limit:
                raise PeerFault("gossip.size", f"an RPC of {length} bytes, at most {self.limit} allowed")
            if len(buffer) - body < length:
                break
            payloads.append(bytes(buffer[body : body + length]))
            start = body + length
        if start:
            del buffer[:start]
        return payloads
