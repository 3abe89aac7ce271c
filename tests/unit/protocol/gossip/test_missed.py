"""Messages there was no room for: not seen, asked for again, and counted if they never come."""

from tests.unit.protocol.gossip.test_router import HELLO, A, B, C, delivered, router, says

from fondaco.protocol.gossip.control import Control
from fondaco.protocol.gossip.effects import MessageId, message_id
from fondaco.protocol.gossip.missed import Missed
from fondaco.protocol.gossip.router import SendRpc, Verdict
from fondaco.protocol.gossip.wire import Rpc
from fondaco.protocol.scalars import Millis

ID = message_id(HELLO.data)
ONE, TWO, THREE = (MessageId(bytes([number]) * 20) for number in (1, 2, 3))


def test_what_there_was_no_room_for_counts_as_not_seen() -> None:
    made = router()
    made.received(A, says(HELLO))
    made.no_room(ID)
    made.no_room(ID)
    assert (made.counters.no_room, len(made.missed)) == (1, 1)
    assert delivered(made.received(B, says(HELLO))) == [b"hello"]
    assert (made.counters.recovered, len(made.missed)) == (1, 0)
    sent = made.verdict(ID, Verdict.ACCEPT)
    assert sent == [SendRpc(peers=(A, C), rpc=says(HELLO))], "it never was passed on, not even to its first sender"


def test_it_is_asked_for_of_a_neighbour_that_sent_it_and_is_still_there() -> None:
    made = router()
    made.received(A, says(HELLO))
    made.received(B, says(HELLO))
    made.no_room(ID, now=Millis(10))
    made.peer_removed(A)
    assert made.recall("other", 5) == []
    assert made.recall("t", 0) == []
    assert made.recall("t", 5) == [SendRpc(peers=(B,), rpc=Rpc(control=Control(iwant=(ID,))))]
    assert made.recall("t", 5) == [], "each is asked for once"
    assert made.counters.recalled == 1
    assert delivered(made.received(B, says(HELLO))) == [b"hello"]


def test_nobody_is_blamed_who_no_longer_has_it_and_it_is_lost_when_nobody_can() -> None:
    made = router()
    made.received(A, says(HELLO))
    made.no_room(ID, now=Millis(0))
    made.recall("t", 5)
    for now in range(1_000, 4_000, 1_000):
        made.heartbeat(Millis(now))
    assert len(made.missed) == 1
    made.heartbeat(Millis(4_000))
    assert (len(made.missed), made.missed.lost) == (0, {"t": 1})
    assert made.scores.of(A) >= 0
    assert made.counters.promises_broken == 0


def test_no_more_is_asked_for_than_there_is_room_with_what_is_under_way() -> None:
    missed = Missed(10, 1_000)
    for identity in (ONE, TWO, THREE):
        missed.add(identity, "t", (A,), Millis(0))
    assert missed.recall("t", 2, {A}) == {A: [ONE, TWO]}
    assert missed.recall("t", 2, {A}) == {}
    assert missed.came(ONE)
    assert not missed.came(ONE)
    assert missed.recall("t", 2, {B}) == {}, "nobody is there who has it"
    assert missed.recall("t", 2, {A}) == {A: [THREE]}
    missed.expire(Millis(1_000))
    assert missed.lost == {"t": 2}
    missed.add(ONE, "t", (A,), Millis(1_000))
    assert missed.recall("t", 1, {A}) == {A: [ONE]}, "what was lost is not under way"


def test_the_oldest_is_lost_where_there_is_no_room() -> None:
    missed = Missed(2, 1_000)
    for identity in (ONE, TWO, THREE):
        missed.add(identity, "t", (A,), Millis(0))
    assert (len(missed), missed.lost) == (2, {"t": 1})
    assert missed.recall("t", 5, {A}) == {A: [TWO, THREE]}
