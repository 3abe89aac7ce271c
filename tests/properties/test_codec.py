from __future__ import annotations

import dataclasses
import enum
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.messages import tagged_messages, values

from fondaco.protocol import codec
from fondaco.protocol.agreement import ConsensusMessage, SignedVote, Vote
from fondaco.protocol.errors import Malformed

MESSAGES = tagged_messages()
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=9)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=12,
)


NEVER_SIGNED = {
    *("fondaco.protocol.channel_exec", "fondaco.protocol.frames", "fondaco.protocol.light", "fondaco.protocol.rpc")
}
"""Modules whose messages only frame or carry others on one stream; their tags are their own."""


def test_no_two_messages_that_could_be_signed_share_a_tag() -> None:
    by_tag: dict[int, type] = {}
    for kind in MESSAGES:
        if kind.__module__ in NEVER_SIGNED:
            continue
        tag: int = vars(kind)["TAG"]
        assert by_tag.setdefault(tag, kind) is kind, f"{kind.__name__} and {by_tag[tag].__name__}: {tag}"


def spelled_out(value: Any) -> Any:
    """What a message is on the wire, said without looking at any annotation."""
    if isinstance(value, tuple):
        return [spelled_out(item) for item in value]
    if isinstance(value, enum.IntEnum):
        return int(value)
    if not dataclasses.is_dataclass(value):
        return value
    head = [value.TAG] if hasattr(value, "TAG") else []
    return head + [spelled_out(getattr(value, field.name)) for field in dataclasses.fields(value)]


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_message_survives_its_bytes(kind: type, data: st.DataObject) -> None:
    message = data.draw(values(kind))
    packed = codec.encode(message)
    assert packed == msgpack.packb(spelled_out(message))
    back: object = codec.decode(packed, kind)
    assert back == message
    assert codec.encode(back) == packed


def accepted_is_canonical(data: bytes, kind: Any) -> None:
    """Whatever is accepted is written in the one way it can be."""
    try:
        message = codec.decode_union(data, kind)
    except Malformed:
        return
    assert codec.encode(message) == data


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_bytes_from_anywhere_are_refused_or_canonical(data: bytes) -> None:
    accepted_is_canonical(data, ConsensusMessage)


@settings(deadline=None)
@given(plain=PLAIN)
def test_msgpack_from_anywhere_is_refused_or_canonical(plain: Any) -> None:
    for kind in (Vote, ConsensusMessage, int, str, bytes, bool, tuple[int, ...], tuple[bool, bytes] | None):
        accepted_is_canonical(msgpack.packb(plain), kind)


@settings(deadline=None)
@given(message=values(SignedVote), data=st.data())
def test_a_message_changed_anywhere_is_refused_or_another(message: SignedVote, data: st.DataObject) -> None:
    packed = codec.encode(message)
    position = data.draw(st.integers(0, len(packed) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != packed[position]))
    changed = packed[:position] + bytes([byte]) + packed[position + 1 :]
    try:
        other = codec.decode(changed, SignedVote)
    except Malformed:
        return
    assert other != message
    assert codec.encode(other) == changed


@settings(deadline=None)
@given(message=values(SignedVote), data=st.data())
def test_a_value_of_an_equal_but_other_type_is_refused(message: SignedVote, data: st.DataObject) -> None:
    """1, 1.0 and True are equal in Python; on the wire they would be three spellings of one message."""

    def respelled(plain: Any) -> list[Any]:
        if isinstance(plain, list):
            return [
                [*plain[:place], other, *plain[place + 1 :]]
                for place, item in enumerate(plain)
                for other in respelled(item)
            ]
        if isinstance(plain, int):
            return [float(plain)] + ([bool(plain)] if plain in (0, 1) else [])
        return []

    for plain in respelled(codec.unpack(codec.encode(message))):
        with pytest.raises(Malformed):
            codec.decode(msgpack.packb(plain), SignedVote)
