"""Requests and server streams on loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from tests.support.network import HELLO, address, pair, port, seed, until

from fondaco.node.network.framing import Payloads, greet
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import PeerId
from fondaco.node.network.rpc import Items, RpcClient, RpcServer
from fondaco.node.network.stream import Stream
from fondaco.protocol import codec, limits
from fondaco.protocol.codec import Plain
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.frames import FrameReader, frame, hello
from fondaco.protocol.rpc import Call, Credit, End, Item, Reply
from fondaco.protocol.scalars import ChainId

PROTOCOL = "/rpc/1"


class Service:
    """The methods under test, and traces of what became of them."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.produced = 0
        self.started = 0

    async def echo(self, peer: PeerId, params: Plain) -> Plain:
        return [peer, params]

    async def refuse(self, peer: PeerId, params: Plain) -> Plain:
        raise Refused("escrow.dry", "no money is left", hint="deposit more")

    async def misbehave(self, peer: PeerId, params: Plain) -> Plain:
        raise PeerFault("test.fault", "nonsense")

    async def fail(self, peer: PeerId, params: Plain) -> Plain:
        raise RuntimeError("bug")

    async def huge(self, peer: PeerId, params: Plain) -> Plain:
        return bytes(limits.BLOB_BYTES)

    async def hang(self, peer: PeerId, params: Plain) -> Plain:
        self.started += 1
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled += 1

    async def count(self, peer: PeerId, params: Plain) -> AsyncIterator[Plain]:
        for number in range(params):
            self.produced += 1
            yield number

    async def flood(self, peer: PeerId, params: Plain) -> AsyncIterator[Plain]:
        try:
            while True:
                self.produced += 1
                yield bytes(10_000)
        finally:
            self.cancelled += 1

    async def stop(self, peer: PeerId, params: Plain) -> AsyncIterator[Plain]:
        yield 1
        raise Refused("watch.over", "there is nothing more to see")

    def serve(self, host: Host) -> RpcServer:
        names = ("echo", "refuse", "misbehave", "fail", "huge", "hang", "count", "flood", "stop")
        return RpcServer(host, PROTOCOL, {name: getattr(self, name) for name in names}, hello=HELLO)


@asynccontextmanager
async def service() -> AsyncIterator[tuple[Service, RpcClient, Host, Host]]:
    """A service at the second host, a client at the first."""
    async with pair() as (one, two):
        made = Service()
        made.serve(two)
        yield made, RpcClient(one, PROTOCOL, hello=HELLO), one, two


async def test_a_call_is_answered() -> None:
    async with service() as (_, client, one, two):
        assert await client.call(two.peer_id, "echo", [1, b"two", "three", None]) == [
            one.peer_id,
            [1, b"two", "three", None],
        ]


async def test_many_calls_share_one_stream_and_none_gets_anothers_answer() -> None:
    async with service() as (_, client, one, two):
        answers: dict[int, Plain] = {}

        async def ask(number: int) -> None:
            answers[number] = (await client.call(two.peer_id, "echo", number))[1]

        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(ask, number)
        assert answers == {number: number for number in range(500)}
        assert one.counters.streams_out == 1


async def test_what_a_handler_refuses_the_caller_sees_refused() -> None:
    async with service() as (_, client, _, two):
        with pytest.raises(Refused) as caught:
            await client.call(two.peer_id, "refuse", None)
        assert (caught.value.code, caught.value.hint) == ("escrow.dry", "deposit more")
        with pytest.raises(Refused, match=r"rpc\.method"):
            await client.call(two.peer_id, "nothing", None)
        with pytest.raises(Refused, match=r"rpc\.too_large"):
            await client.call(two.peer_id, "huge", None)
        with pytest.raises(Refused, match=r"rpc\.too_large"):
            await client.call(two.peer_id, "echo", bytes(limits.BLOB_BYTES))
        assert two.counters.handler_errors == two.counters.peer_faults == 0


async def test_a_call_without_an_answer_ends_in_time_and_its_handler_with_it() -> None:
    async with service() as (made, client, _, two):
        with pytest.raises(Unreachable, match=r"rpc\.(timeout|deadline)"):
            await client.call(two.peer_id, "hang", None, timeout_ms=100)
        await until(lambda: made.cancelled == 1)
        assert (await client.call(two.peer_id, "echo", 1))[1] == 1


async def test_a_cancelled_call_cancels_its_handler() -> None:
    async with service() as (made, client, _, two):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call, two.peer_id, "hang", None)
            await until(lambda: made.started == 1)
            nursery.cancel_scope.cancel()
        await until(lambda: made.cancelled == 1)


@pytest.mark.parametrize(("method", "faults", "bugs"), [("misbehave", 1, 0), ("fail", 0, 1)])
async def test_a_handler_that_fails_costs_the_stream_and_not_the_node(method: str, faults: int, bugs: int) -> None:
    async with service() as (_, client, _, two):
        with pytest.raises(Unreachable, match=r"rpc\.disconnected"):
            await client.call(two.peer_id, method, None)
        assert (two.counters.peer_faults, two.counters.handler_errors) == (faults, bugs)
        assert (await client.call(two.peer_id, "echo", 1))[1] == 1


async def test_a_stream_gives_all_its_items_in_order() -> None:
    async with service() as (_, client, _, two), client.stream(two.peer_id, "count", 30_000) as items:
        assert [number async for number in items] == list(range(30_000))


async def test_a_stream_that_is_refused_half_way_says_so_after_its_items() -> None:
    async with service() as (_, client, _, two):
        async with client.stream(two.peer_id, "stop", None) as items:
            assert await anext(items) == 1
            with pytest.raises(Refused, match=r"watch\.over"):
                await anext(items)
        async with client.stream(two.peer_id, "nothing", None) as items:
            with pytest.raises(Refused, match=r"rpc\.method"):
                await anext(items)


async def test_leaving_a_stream_cancels_its_handler() -> None:
    async with service() as (made, client, _, two):
        async with client.stream(two.peer_id, "flood", None) as items:
            await anext(items)
        await until(lambda: made.cancelled == 1)


async def test_a_slow_application_is_waited_for_and_others_are_not() -> None:
    async with service() as (made, client, _, two), client.stream(two.peer_id, "flood", None) as items:
        await anext(items)
        assert isinstance(items, Items)
        at_most = limits.RPC_STREAM_WINDOW_BYTES + 10_000 + limits.RPC_ITEM_OVERHEAD_BYTES
        await until(lambda: items.buffered > limits.RPC_STREAM_WINDOW_BYTES // 2)
        for number in range(50):
            assert (await client.call(two.peer_id, "echo", number))[1] == number
        assert items.buffered <= at_most
        assert made.produced * 10_000 <= at_most + 20_000
        before = made.produced
        for _ in range(made.produced - 1):
            await anext(items)
        await until(lambda: made.produced > before)


async def test_a_server_that_goes_away_ends_calls_and_streams() -> None:
    async with open_host(seed(1)) as one:
        client = RpcClient(one, PROTOCOL, hello=HELLO)
        errors = []

        async def ask(peer: PeerId) -> None:
            try:
                await client.call(peer, "hang", None)
            except Unreachable as error:
                errors.append(error.code)

        async def watch(peer: PeerId) -> None:
            try:
                async with client.stream(peer, "flood", None) as items:
                    async for _ in items:
                        await trio.sleep(0)
            except Unreachable as error:
                errors.append(error.code)

        async with trio.open_nursery() as nursery, open_host(seed(2)) as two:
            number = port(two)
            made = Service()
            made.serve(two)
            await one.connect(address(two))
            nursery.start_soon(ask, two.peer_id)
            nursery.start_soon(watch, two.peer_id)
            await until(lambda: made.started and made.produced)
        assert errors == ["rpc.disconnected"] * 2
        with pytest.raises(Unreachable, match=r"network\.unreachable"):
            await client.call(two.peer_id, "echo", 1)
        async with open_host(seed(2), f"127.0.0.1:{number}") as two:
            Service().serve(two)
            await one.connect(address(two))
            assert (await client.call(two.peer_id, "echo", 1))[1] == 1


async def test_a_client_that_goes_away_ends_its_handlers() -> None:
    async with service() as (made, client, one, two):
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(Unreachable):
                    await client.call(two.peer_id, "hang", None)

            nursery.start_soon(ask)
            await until(lambda: made.started)
            await one.drop(two.peer_id, "leaving")
        await until(lambda: made.cancelled == 1)


async def test_a_service_of_another_chain_is_refused() -> None:
    async with service() as (_, _, one, two):
        stranger = RpcClient(one, PROTOCOL, hello=hello(ChainId("other-1")))
        with pytest.raises(Refused, match=r"hello\.chain"):
            await stranger.call(two.peer_id, "echo", 1)


@pytest.mark.parametrize(
    "misdeed",
    [
        [b"no message"],
        [codec.encode(End(id=1))],
        [codec.encode(Call(id=1, method="hang", timeout_ms=0, params=b"\xc0"))] * 2,
        [
            codec.encode(Call(id=1, method="hang", timeout_ms=0, params=b"\xc0")),
            codec.encode(Credit(id=1, size=1)),
        ],
        [codec.encode(Call(id=1, method="echo", timeout_ms=0, params=b"\xc1"))],
    ],
    ids=["garbage", "server's word", "id in use", "credit never used", "bad parameters"],
)
async def test_a_client_that_breaks_the_protocol_is_at_fault(misdeed: list[bytes]) -> None:
    async with service() as (_made, _, one, two):
        stream = await one.open_stream(two.peer_id, PROTOCOL)
        await greet(stream, Payloads(stream, FrameReader()), HELLO, first=True)
        await stream.write(b"".join(frame(message) for message in misdeed))
        await until(lambda: two.counters.peer_faults == 1)
        assert two.counters.handler_errors == 0


async def test_an_answer_that_is_no_value_is_the_servers_fault() -> None:
    async with pair() as (one, two):

        async def cheat(stream: Stream) -> None:
            payloads = Payloads(stream, FrameReader())
            await greet(stream, payloads, HELLO, first=False)
            await payloads.one()
            await stream.write(frame(codec.encode(Reply(id=1, result=b"\xc1"))))
            await payloads.one()

        two.handle(PROTOCOL, cheat)
        with pytest.raises(Unreachable, match=r"rpc\.garbled"):
            await RpcClient(one, PROTOCOL, hello=HELLO).call(two.peer_id, "anything", None)
        assert one.counters.peer_faults == 1


async def test_more_calls_than_are_allowed_at_once_are_turned_away() -> None:
    async with service() as (made, _, one, two):
        stream = await one.open_stream(two.peer_id, PROTOCOL)
        payloads = Payloads(stream, FrameReader())
        await greet(stream, payloads, HELLO, first=True)
        calls = range(limits.REQUESTS_IN_FLIGHT + 1)
        for number in calls:
            message = Call(id=number, method="hang", timeout_ms=0, params=b"\xc0")
            await stream.write(frame(codec.encode(message)))
        assert b"rpc.busy" in await payloads.one()
        assert made.started == limits.REQUESTS_IN_FLIGHT


@pytest.mark.parametrize(
    "misdeed",
    [
        [b"garbage"],
        [codec.encode(Item(id=99, value=b""))],
        [codec.encode(Item(id=1, value=codec.pack(bytes(500_000))))] * 4,
    ],
    ids=["garbage", "unasked", "beyond credit"],
)
async def test_a_server_that_breaks_the_protocol_is_at_fault(misdeed: list[bytes]) -> None:
    async with pair() as (one, two):

        async def cheat(stream: Stream) -> None:
            payloads = Payloads(stream, FrameReader())
            await greet(stream, payloads, HELLO, first=False)
            await payloads.one()
            await stream.write(b"".join(frame(message) for message in misdeed))
            await payloads.one()

        two.handle(PROTOCOL, cheat)
        client = RpcClient(one, PROTOCOL, hello=HELLO)
        async with client.stream(two.peer_id, "anything", None) as items:
            await until(lambda: one.counters.peer_faults == 1)
            with pytest.raises(Unreachable, match=r"rpc\.fault"):
                [item async for item in items]
