from typing import cast

import pytest
import trio

from fondaco.node.network.outbox import Outbox
from fondaco.node.network.stream import Stream
from fondaco.protocol import limits
from fondaco.protocol.errors import Unreachable


class Sink:
    """A stream that keeps what is written, and can be held up or broken."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.open = trio.Event()
        self.broken = False

    async def write(self, data: bytes) -> None:
        await self.open.wait()
        if self.broken:
            raise Unreachable("stream.reset", "gone")
        self.written.append(data)


def sink() -> tuple[Sink, Stream]:
    made = Sink()
    return made, cast(Stream, made)


async def test_a_burst_is_one_write(nursery: trio.Nursery, autojump_clock: object) -> None:
    written, stream = sink()
    written.open.set()
    outbox = Outbox()
    for number in range(100):
        outbox.put(b"%03d" % number)
    nursery.start_soon(outbox.drain, stream)
    await trio.testing.wait_all_tasks_blocked()
    assert written.written == [b"".join(b"%03d" % number for number in range(100))]
    assert (outbox.sent, outbox.writes, outbox.size, len(outbox)) == (100, 1, 0, 0)
    outbox.put(b"later")
    await trio.testing.wait_all_tasks_blocked()
    assert written.written[1:] == [b"later"]


async def test_large_frames_are_written_by_themselves(nursery: trio.Nursery, autojump_clock: object) -> None:
    written, stream = sink()
    written.open.set()
    outbox = Outbox()
    large = bytes(limits.WRITE_COALESCE_BYTES)
    for data in (b"a", large, b"b"):
        outbox.put(data)
    nursery.start_soon(outbox.drain, stream)
    await trio.testing.wait_all_tasks_blocked()
    assert written.written == [b"a", large, b"b"]


def test_the_oldest_is_shed_and_counted_when_a_peer_is_too_slow() -> None:
    outbox = Outbox(max_bytes=10)
    for data in (b"aaaa", b"bbbb", b"cccc"):
        outbox.put(data)
    assert outbox.shed == {0: 1}
    assert outbox._take() == b"bbbbcccc"


def test_the_number_of_frames_is_bounded_as_well_as_their_bytes() -> None:
    outbox = Outbox(max_frames=2)
    for data in (b"a", b"b", b"c"):
        outbox.put(data)
    assert (len(outbox), outbox.shed, outbox.size) == (2, {0: 1}, 2)


def test_the_newest_frame_stays_even_when_it_is_larger_than_the_queue() -> None:
    outbox = Outbox(max_bytes=3)
    outbox.put(b"small")
    outbox.put(b"larger")
    assert outbox._take() == b"larger"


async def test_who_is_patient_waits_for_room(nursery: trio.Nursery, autojump_clock: object) -> None:
    written, stream = sink()
    outbox = Outbox(max_bytes=4)
    nursery.start_soon(outbox.drain, stream)
    done = 0

    async def say() -> None:
        nonlocal done
        for _ in range(10):
            await outbox.put_patiently(b"word")
            done += 1

    nursery.start_soon(say)
    await trio.testing.wait_all_tasks_blocked()
    assert done == 2  # one is being written, one waits
    written.open.set()
    await trio.testing.wait_all_tasks_blocked()
    assert b"".join(written.written) == b"word" * 10


async def test_a_broken_stream_ends_the_drain(autojump_clock: object) -> None:
    written, stream = sink()
    written.broken = True
    written.open.set()
    outbox = Outbox()
    outbox.put(b"lost")
    with pytest.raises(Unreachable):
        await outbox.drain(stream)


def test_lower_ranks_leave_first_and_in_order() -> None:
    outbox = Outbox()
    for data, rank in ((b"s1", 4), (b"t1", 1), (b"s2", 4), (b"o1", 2), (b"t2", 1), (b"c", 0)):
        outbox.put(data, rank)
    assert outbox._take() == b"ct1t2o1s1s2"
    assert (len(outbox), outbox.size, outbox.shed) == (0, 0, {})


def test_the_highest_rank_is_shed_first_and_of_it_the_oldest() -> None:
    outbox = Outbox(max_frames=3)
    for data, rank in ((b"t1", 1), (b"s1", 4), (b"s2", 4), (b"t2", 1), (b"t3", 1), (b"s3", 4), (b"t4", 1)):
        outbox.put(data, rank)
    assert outbox.shed == {4: 3, 1: 1}
    assert outbox._take() == b"t2t3t4"


def test_a_frame_that_is_too_large_for_the_queue_does_not_drive_out_heavier_ones() -> None:
    outbox = Outbox(max_bytes=10)
    outbox.put(b"weighty", 1)
    outbox.put(bytes(20), 2)
    assert outbox._take() == b"weighty"
    assert outbox.shed == {2: 1}
