"""Whose turn it is, and what the log is told."""

import logging

import pytest
import trio

from fondaco.node.gossip.counters import SAID_EVERY_S, GossipCounters, ShedLog
from fondaco.node.gossip.inbox import GIVE_WAY_MS, Inbox, Turns
from fondaco.protocol.gossip.router import Deliver, Peer, message_id


def batch(number: int, source: str = "") -> Deliver:
    """Each from a neighbour of its own, unless told."""
    data = b"%d" % number
    return Deliver(topic="t", data=data, message_id=message_id(data), source=Peer(source or f"peer {number}"))


def test_a_full_inbox_turns_newcomers_away_and_keeps_half_its_room_for_them() -> None:
    inbox = Inbox(1, capacity=4)
    assert [inbox.put(batch(number)) for number in range(5)] == [True] * 4 + [False]
    assert inbox.room == -2
    assert [inbox.pop().data for _ in range(3)] == [b"0", b"1", b"2"]
    assert inbox.room == 1


def test_half_an_inbox_is_for_others_than_any_one_neighbour() -> None:
    inbox = Inbox(1, capacity=4)
    assert [inbox.put(batch(number, "a")) for number in range(3)] == [True, True, False]
    assert [inbox.put(batch(number, "b")) for number in range(3, 6)] == [True, True, False]
    inbox.pop()
    assert inbox.put(batch(6, "a"))


async def test_a_lighter_topic_waits_for_heavier_ones_and_not_for_ever(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    turns, heavy, light = Turns(), Inbox(1), Inbox(2)
    heavy.put(batch(1))
    began, passed = trio.current_time(), list[float]()

    async def pass_() -> None:
        await turns.take(light, (heavy, light))
        passed.append(trio.current_time() - began)

    nursery.start_soon(pass_)
    await trio.testing.wait_all_tasks_blocked()
    assert not passed
    turns.done()  # of something else
    await trio.testing.wait_all_tasks_blocked()
    assert not passed
    heavy.pop()
    turns.done()
    await trio.testing.wait_all_tasks_blocked()
    assert passed == [0]
    heavy.put(batch(2))
    await pass_()
    assert passed[1] == pytest.approx(GIVE_WAY_MS / 1_000)
    await turns.take(heavy, (heavy, light))


def test_the_log_says_each_topic_and_reason_once_in_a_while_and_leaves_nothing_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    counters, shed_log = GossipCounters(), ShedLog()
    shed_log.tell(counters, 0.0)
    counters.of("orders").shed_slow_peer = 3
    shed_log.tell(counters, 0.0)
    counters.of("orders").shed_slow_peer = 5
    counters.of("bids").lost = 1
    shed_log.tell(counters, SAID_EVERY_S / 2)
    shed_log.tell(counters, SAID_EVERY_S)
    shed_log.tell(counters, 3 * SAID_EVERY_S)
    assert caplog.messages == [
        "gossip of orders: 3 messages not sent, a neighbour is too slow",
        "gossip of bids: 1 messages lost, they did not come again",
        "gossip of orders: 2 messages not sent, a neighbour is too slow",
    ]
