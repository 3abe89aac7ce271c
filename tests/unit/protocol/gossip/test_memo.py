"""The same bytes are decoded once while their copies come, and not held for longer."""

import pytest
from tests.unit.protocol.gossip.test_router import HELLO, says

from fondaco.protocol.errors import Malformed
from fondaco.protocol.gossip import wire
from fondaco.protocol.gossip.memo import Memo
from fondaco.protocol.gossip.wire import Message, Rpc, Subscription

DATA = wire.encode(says(HELLO))
FRAMES = [wire.encode(says(Message(topic="t", data=bytes([number]) * 1_000))) for number in range(4)]


def test_the_same_bytes_are_decoded_once() -> None:
    memo = Memo()
    assert memo.decode(DATA) is memo.decode(bytes(bytearray(DATA)))
    assert (memo.hits, len(memo)) == (1, 1)


def test_what_carries_no_message_is_not_kept() -> None:
    memo = Memo()
    hello = wire.encode(Rpc(subscriptions=(Subscription(topic="t", subscribe=True),)))
    assert memo.decode(hello) == memo.decode(hello)
    assert (memo.hits, len(memo)) == (0, 0)
    with pytest.raises(Malformed):
        memo.decode(b"\xff")


def test_what_came_two_turns_ago_is_forgotten() -> None:
    memo = Memo()
    memo.decode(DATA)
    memo.turn()
    memo.decode(DATA)
    assert memo.hits == 1
    memo.turn()
    assert len(memo) == 0


def test_the_memo_is_bounded_in_bytes() -> None:
    memo = Memo(max_bytes=2 * len(FRAMES[0]))
    for data in FRAMES:
        memo.decode(data)
    assert len(memo) == 2
    memo.decode(FRAMES[3])
    memo.decode(FRAMES[2])
    memo.decode(FRAMES[1])
    assert memo.hits == 2, "the oldest go first"
    large = wire.encode(says(Message(topic="t", data=bytes(2_000))))
    assert memo.decode(large) == memo.decode(large)
    assert memo.hits == 2, "what is larger than a turn is not kept"
