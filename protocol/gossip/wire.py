"""Gossipsub's RPC on the wire: a small protobuf codec for the part that is used, bounded everywhere.

    RPC      1 subscriptions*   2 publish*   3 control
    SubOpts  1 subscribe (bool) 2 topicid (string)
    Message  1 from  2 data  3 seqno  4 topic (string)  5 signature  6 key
    https://github.com/libp2p/specs/blob/master/pubsub/README.md

The signature policy is StrictNoSign: messages carry data and topic only, and one with an author, a sequence
number, a signature or a key is a fault of whoever sent it, as the specification asks. What we publish is
signed inside. Unknown fields are skipped, as protobuf does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fondaco.protocol import limits
from fondaco.protocol.errors import Malformed, PeerFault
from fondaco.protocol.gossip import control as controls
from fondaco.protocol.gossip.control import Control
from fondaco.protocol.gossip.protobuf import blob, field, fields, number, read_varint, required, topic_of, varint

NOTHING = Control()


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
    control: Control = NOTHING


def encode(rpc: Rpc) -> bytes:
    """The protobuf bytes of `rpc`, without a length in front."""
    parts = []
    for subscription in rpc.subscriptions:
        flag = b"\x08\x01" if subscription.subscribe else b"\x08\x00"
        parts.append(field(1, flag + field(2, subscription.topic.encode())))
    for message in rpc.messages:
        parts.append(field(2, field(2, message.data) + field(4, message.topic.encode())))
    if rpc.control:
        parts.append(field(3, controls.encode(rpc.control)))
    return b"".join(parts)


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
    control = Control()
    for key, value in fields(data):
        if key == 1:
            subscriptions.append(_subscription(blob(value)))
        elif key == 2:
            messages.append(_message(blob(value)))
        elif key == 3:
            control = controls.decode(blob(value))
        if len(subscriptions) > limits.GOSSIP_SUBSCRIPTIONS or len(messages) > limits.GOSSIP_MESSAGES_PER_RPC:
            raise Malformed("gossip.count", "too many subscriptions or messages in one RPC")
    return Rpc(subscriptions=tuple(subscriptions), messages=tuple(messages), control=control)


def _subscription(data: bytes) -> Subscription:
    subscribe, topic = False, ""
    for key, value in fields(data):
        if key == 1:
            subscribe = number(value) != 0
        elif key == 2:
            topic = topic_of(value)
    return Subscription(topic=required(topic), subscribe=subscribe)


def _message(data: bytes) -> Message:
    content, topic = b"", ""
    for key, value in fields(data):
        if key == 2:
            content = blob(value)
        elif key == 4:
            topic = topic_of(value)
        elif key in (1, 3, 5, 6):
            raise PeerFault("gossip.signed", "messages carry data and topic only (StrictNoSign)")
    return Message(topic=required(topic), data=content)


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
