"""Round trips over real connections: slow links, peers that answer only in part, and those that ask too much."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio
from tests.support.network import address, hosts, known_protocols, pair, until
from tests.support.slow_link import slow_link

from fondaco.node.network import ping
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.ping import PING_BYTES, PROTOCOL, round_trips
from fondaco.node.network.stream import Stream
from fondaco.protocol.errors import Unreachable

COUNT = 20
FAST_MS = 10
"""Between two pings, where no test asks for the real pace."""


async def read_exactly(stream: Stream, size: int = PING_BYTES) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.read(size - len(data))
        assert more, "the stream ended early"
        data += more
    return data


async def test_a_peer_beside_us_answers_every_ping_at_once() -> None:
    async with pair() as (one, two):
        samples = await round_trips(one, two.peer_id, COUNT, pace_ms=FAST_MS)
        answered = [took for took in samples if took is not None]
        assert len(answered) == COUNT
        assert min(answered) >= 1
        assert sorted(answered)[COUNT // 2] < 30
        assert two.pings.answered == COUNT
        await until(lambda: not two.pings.served)


async def test_a_slow_link_shows_in_every_round_trip_and_its_set_up_in_none() -> None:
    """A connection takes several round trips before the first ping; those are not counted."""
    async with hosts(2) as (one, two), slow_link(address(two), 30) as where:
        began = trio.current_time()
        await one.connect(where)
        assert trio.current_time() - began > 0.15
        samples = await round_trips(one, two.peer_id, COUNT, pace_ms=FAST_MS)
        answered = sorted(took for took in samples if took is not None)
        assert len(answered) == COUNT
        assert answered[0] >= 60
        assert answered[COUNT // 2] < 120


async def test_pings_are_sent_whether_or_not_the_last_was_answered() -> None:
    """A stall of 300 ms is seen by all the pings of that time, not by the one that happened to wait."""
    async with pair() as (one, two):
        stalled = False

        async def stall_once(stream: Stream) -> None:
            nonlocal stalled
            while True:
                got = await read_exactly(stream)
                if not stalled:
                    stalled = True
                    await trio.sleep(0.3)
                await stream.write(got)

        two.handle(PROTOCOL, stall_once)
        samples = await round_trips(one, two.peer_id, COUNT, pace_ms=FAST_MS)
        assert sum(took is not None and took > 100 for took in samples) >= 15


async def answers(host: Host, keep: Any, *, pace_ms: int = FAST_MS, count: int = COUNT) -> None:
    """Have `host` answer the pings whose numbers `keep` wants."""

    async def serve(stream: Stream) -> None:
        number = 0
        while True:
            got = await read_exactly(stream)
            if keep(number):
                await stream.write(got)
            number += 1

    host.handle(PROTOCOL, serve)


async def test_whoever_answers_three_of_twenty_lost_seventeen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "PATIENCE_MS", 300)
    async with pair() as (one, two):
        await answers(two, lambda number: number in (0, 7, 19))
        samples = await round_trips(one, two.peer_id, COUNT, pace_ms=FAST_MS)
        assert [number for number, took in enumerate(samples) if took is not None] == [0, 7, 19]


async def test_an_answer_that_comes_too_late_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "PATIENCE_MS", 40)
    async with pair() as (one, two):

        async def late(stream: Stream) -> None:
            for _ in range(3):
                got = await read_exactly(stream)
                await trio.sleep(0.1)
                await stream.write(got)

        two.handle(PROTOCOL, late)
        assert await round_trips(one, two.peer_id, 3, pace_ms=100) == [None, None, None]


async def test_answers_that_were_never_asked_for_end_it_and_count_for_nothing() -> None:
    async with pair() as (one, two):

        async def eager(stream: Stream) -> None:
            await stream.write(bytes(PING_BYTES))
            await read_exactly(stream)

        two.handle(PROTOCOL, eager)
        began = trio.current_time()
        assert await round_trips(one, two.peer_id, COUNT) == [None] * COUNT
        assert trio.current_time() - began < 1


async def test_an_answer_told_twice_is_no_second_answer() -> None:
    async with pair() as (one, two):

        async def twice(stream: Stream) -> None:
            await stream.write(2 * await read_exactly(stream))
            await trio.sleep_forever()

        two.handle(PROTOCOL, twice)
        first, *others = await round_trips(one, two.peer_id, 5)
        assert first is not None
        assert others == [None] * 4


async def test_a_peer_that_breaks_off_has_lost_the_rest() -> None:
    async with pair() as (one, two):

        async def breaks_off(stream: Stream) -> None:
            await stream.write(await read_exactly(stream))
            await stream.reset()

        two.handle(PROTOCOL, breaks_off)
        first, *others = await round_trips(one, two.peer_id, 5, pace_ms=FAST_MS)
        assert first is not None
        assert others == [None] * 4


async def test_a_peer_that_is_not_connected_has_lost_all() -> None:
    async with hosts(2) as (one, two):
        assert await round_trips(one, two.peer_id, 2) == [None, None]


# Being pinged


async def test_a_host_that_serves_nothing_of_its_own_opens_no_stream_to_tell_of_pings() -> None:
    """A push to whoever is connected costs both sides a stream; every tenant would make one at its start."""
    async with pair() as (one, two):
        await until(lambda: PROTOCOL in known_protocols(two, one.peer_id))
        before = one.counters.streams_in, two.counters.streams_in
        pushes = [host._announcer._changed.is_set() for host in (one, two)]
        assert (pushes, before) == ([False, False], (0, 0))


async def opened(host: Host, to: Host) -> Stream:
    stream = await host.open_stream(to.peer_id, PROTOCOL)
    await stream.write(bytes(PING_BYTES))
    await read_exactly(stream)
    return stream


async def is_turned_away(host: Host, to: Host) -> bool:
    with contextlib.suppress(Unreachable):
        stream = await host.open_stream(to.peer_id, PROTOCOL)
        await stream.write(bytes(PING_BYTES))
        return not await stream.read()
    return True


async def test_a_stranger_is_answered_a_burst_and_then_at_the_pace_of_whoever_measures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ping, "PINGS", (10, 20))
    async with pair() as (one, two):
        stream = await one.open_stream(two.peer_id, PROTOCOL)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, bytes(PING_BYTES) * 1_000)
            await read_exactly(stream, 20 * PING_BYTES)
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began > 0.4  # ten at once, the other ten 50 ms apart
        assert two.pings.answered < 30
        await stream.reset()
        again = await one.open_stream(two.peer_id, PROTOCOL)
        began = trio.current_time()
        await again.write(bytes(PING_BYTES) * 5)
        await read_exactly(again, 5 * PING_BYTES)
        assert trio.current_time() - began > 0.1, "another stream brings no other burst"


async def test_a_peer_pings_on_two_streams_at_a_time() -> None:
    async with pair() as (one, two):
        first, _ = [await opened(one, two) for _ in range(2)]
        assert await is_turned_away(one, two)
        await first.close()
        await until(lambda: two.pings.served == 1)
        await opened(one, two)


async def test_all_together_have_so_many_streams_and_one_that_goes_leaves_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ping, "STREAMS", 2)
    async with hosts(4) as (asked, *others):
        for other in others:
            await other.connect(address(asked))
        await opened(others[0], asked)
        await opened(others[1], asked)
        assert await is_turned_away(others[2], asked)
        await others[0].drop(asked.peer_id, "test")
        await until(lambda: asked.pings.served == 1)
        await opened(others[2], asked)


async def test_one_network_has_its_share_of_the_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "STREAMS_PER_NETWORK", 1)
    monkeypatch.setattr(ping, "block", lambda ip: "127.0.0.0/24")
    async with pair() as (one, two):
        await opened(one, two)
        assert await is_turned_away(one, two)


async def test_whoever_does_not_ping_loses_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "IDLE_S", 0.1)
    async with pair() as (one, two):
        stream = await opened(one, two)
        with trio.fail_after(5):
            assert await stream.read() == b""
        await until(lambda: not two.pings.served)


async def test_no_stream_is_pinged_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "LIFE_S", 0.2)
    async with pair() as (one, two):
        samples = await round_trips(one, two.peer_id, COUNT, pace_ms=30)
        assert samples[0] is not None
        assert samples[-1] is None


async def test_a_peer_that_is_gone_is_forgotten() -> None:
    async with open_host(bytes([7]) * 32) as asked:
        async with open_host(bytes([8]) * 32, None) as one:
            await one.connect(address(asked))
            await opened(one, asked)
            assert asked.pings._paces
        await until(lambda: not asked.pings._paces and not asked.pings.served)
