"""Links on loopback: order, backlog, faults, and peers that die and come back."""

from collections import defaultdict

import trio
from tests.support.network import HELLO, address, hosts, port, seed, until

from fondaco.node.network.host import Host, open_host
from fondaco.node.network.links import Links
from fondaco.node.network.peers import PeerId
from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.frames import Hello, frame, hello
from fondaco.protocol.scalars import ChainId

PROTOCOL = "/links/1"


class Party:
    """A host's links, and what came over them."""

    def __init__(self, host: Host, *, hello: Hello | None = HELLO, keep: tuple[Host, ...] = ()) -> None:
        self.host = host
        self.got: dict[PeerId, list[bytes]] = defaultdict(list)
        self.told: list[str] = []
        self.links = Links(
            host,
            PROTOCOL,
            self.on_frame,
            hello=hello,
            keep=[address(other) for other in keep],
            on_up=lambda peer: self.told.append("up"),
            on_down=lambda peer: self.told.append("down"),
        )

    async def on_frame(self, peer: PeerId, payload: bytes) -> None:
        if payload == b"nonsense":
            raise PeerFault("test.fault", "nonsense")
        self.got[peer].append(payload)


async def test_frames_arrive_in_order_both_ways(nursery: trio.Nursery) -> None:
    async with hosts(2) as (one, two):
        a, b = Party(one, keep=(two,)), Party(two)
        nursery.start_soon(a.links.run)
        nursery.start_soon(b.links.run)
        await until(lambda: a.links.peers() and b.links.peers())
        sent = [b"%d" % number for number in range(5000)]
        for payload in sent:
            assert a.links.send(two.peer_id, payload)
            assert b.links.broadcast(payload) == 1
        await until(lambda: len(a.got[two.peer_id]) == len(b.got[one.peer_id]) == 5000)
        assert a.got[two.peer_id] == b.got[one.peer_id] == sent
        assert a.links.frames_out == b.links.frames_in == 5000
        assert a.links.broadcast(b"", except_=[two.peer_id]) == 0
        assert not a.links.send(PeerId("nobody"), b"")
        assert a.links.queued_bytes(PeerId("nobody")) == a.links.shed_frames() == 0
        nursery.cancel_scope.cancel()


async def test_a_peer_that_dies_and_comes_back_is_linked_again(nursery: trio.Nursery) -> None:
    async with open_host(seed(1)) as one:
        async with open_host(seed(2)) as two, trio.open_nursery() as inner:
            number = port(two)
            a, b = Party(one, keep=(two,)), Party(two)
            nursery.start_soon(a.links.run)
            inner.start_soon(b.links.run)
            await until(lambda: a.links.peers() and b.links.peers())
            inner.cancel_scope.cancel()
        await until(lambda: not a.links.peers())
        assert a.told == ["up", "down"]
        async with open_host(seed(2), f"127.0.0.1:{number}") as two:
            b = Party(two)
            nursery.start_soon(b.links.run)
            await until(lambda: a.links.peers() and b.links.peers())
            a.links.broadcast(b"welcome back")
            await until(lambda: b.got[one.peer_id] == [b"welcome back"])
            assert a.told == ["up", "down", "up"]
            nursery.cancel_scope.cancel()


async def test_peers_of_another_chain_are_not_linked_and_not_at_fault(nursery: trio.Nursery) -> None:
    async with hosts(2) as (one, two):
        a, b = Party(one, keep=(two,)), Party(two, hello=hello(ChainId("other-1")))
        nursery.start_soon(a.links.run)
        nursery.start_soon(b.links.run)
        await until(lambda: one.counters.streams_out and two.counters.streams_out)
        await until(lambda: one.counters.streams_in and two.counters.streams_in)
        await trio.sleep(0.1)
        assert a.links.peers() == b.links.peers() == []
        assert one.peers() == [two.peer_id]
        assert one.counters.peer_faults == two.counters.peer_faults == 0
        nursery.cancel_scope.cancel()


async def test_a_frame_that_breaks_the_rules_resets_the_stream_and_counts(nursery: trio.Nursery) -> None:
    async with hosts(2) as (one, two):
        a, b = Party(one, keep=(two,)), Party(two)
        nursery.start_soon(a.links.run)
        nursery.start_soon(b.links.run)
        await until(a.links.peers)
        a.links.broadcast(b"nonsense")
        await until(lambda: a.told == ["up", "down", "up"])
        a.links.broadcast(b"sense")
        await until(lambda: b.got[one.peer_id] == [b"sense"])
        assert (two.counters.peer_faults, two.counters.handler_errors) == (1, 0)
        nursery.cancel_scope.cancel()


async def test_garbage_instead_of_a_hello_or_a_frame_is_a_fault(nursery: trio.Nursery) -> None:
    async with hosts(2) as (one, two):
        b = Party(two)
        nursery.start_soon(b.links.run)
        await one.connect(address(two))
        huge = (limits.FRAME_BYTES + 1).to_bytes(4, "big")
        for number, garbage in enumerate((frame(b"GET / HTTP/1.1"), frame(bytes(limits.HELLO_BYTES + 1)), huge)):
            stream = await one.open_stream(two.peer_id, PROTOCOL)
            await stream.write(garbage)
            await until(lambda expected=number + 1: two.counters.peer_faults == expected)  # type: ignore[misc]
        assert two.counters.handler_errors == 0
        nursery.cancel_scope.cancel()


async def test_a_slow_reader_costs_bounded_memory_and_the_oldest_frames(nursery: trio.Nursery) -> None:
    async with hosts(2) as (one, two):
        stalled = trio.Event()

        async def stall(peer: PeerId, payload: bytes) -> None:
            await stalled.wait()

        a = Party(one, keep=(two,))
        slow = Links(two, PROTOCOL, stall, hello=HELLO)
        nursery.start_soon(a.links.run)
        nursery.start_soon(slow.run)
        await until(a.links.peers)
        payload = bytes(100_000)
        count = 4 * limits.SEND_QUEUE_BYTES // len(payload)
        for number in range(count):
            a.links.broadcast(payload)
            if number % 10 == 0:
                await trio.sleep(0)
        assert a.links.queued_bytes(two.peer_id) <= limits.SEND_QUEUE_BYTES
        assert a.links.shed_frames() > 0
        stalled.set()
        nursery.cancel_scope.cancel()


async def test_three_parties_broadcast_to_each_other(nursery: trio.Nursery) -> None:
    async with hosts(3) as everybody:
        one, two, three = everybody
        parties = [Party(one, keep=(two, three)), Party(two, keep=(three,)), Party(three, keep=(one,))]
        for party in parties:
            nursery.start_soon(party.links.run)
        await until(lambda: all(len(party.links.peers()) == 2 for party in parties))
        for party in parties:
            assert party.links.broadcast(party.host.peer_id.encode()) == 2
        for party in parties:
            others = {host.peer_id: [host.peer_id.encode()] for host in everybody if host is not party.host}
            await until(lambda p=party, o=others: dict(p.got) == o)  # type: ignore[misc]
        nursery.cancel_scope.cancel()
