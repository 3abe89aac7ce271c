"""What a hostile peer can do on a connection, and that the node outlives it.

Each kind of `tests.support.abuses` runs against a live host, which must afterwards still answer an honest peer;
gossip's and the requests' own are tested with them.
"""

import contextlib
import socket
from typing import Any

import pytest
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import ConnectionClosedError
from tests.support.abuses import (
    ABUSES,
    DATA,
    GO_AWAY,
    PING_PROTOCOL,
    RST,
    SYN,
    WINDOW,
    Attack,
    header,
    on_a_new_stream,
    on_the_wire,
)
from tests.support.network import (
    PATIENCE_S,
    address,
    echo,
    echoes,
    hosts,
    pair,
    port,
    raw_connection,
    seed,
    until,
)

from fondaco.node.network.handshakes import HandshakeBudget
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import PeerId
from fondaco.protocol import limits
from fondaco.protocol.errors import Unreachable


async def served(honest: Host, node: Host) -> bool:
    """Whether an honest peer is served, dialling again where a busy machine cut its handshake short."""
    with trio.fail_after(PATIENCE_S):
        while True:
            with contextlib.suppress(Unreachable):
                return await echoes(honest, node)
            await trio.sleep(0.05)


@pytest.mark.parametrize("where", sorted({abuse.partition(":")[0] for abuse in ABUSES}))
async def test_the_node_outlives_abuse_of(where: str) -> None:
    """Every kind comes from a peer of its own, all at the same time."""
    async with hosts(2) as (node, honest), trio.open_nursery() as nursery:
        node.handle("/echo/1", echo)

        async def abuse(name: str, number: int) -> None:
            async with open_host(seed(number), None) as attacker:
                await attacker.connect(address(node))
                with contextlib.suppress(BaseLibp2pError, Unreachable):  # it may be cut off while at it
                    await ABUSES[name](attacker, node.peer_id)
                assert await served(honest, node), name

        for number, name in enumerate(ABUSES):
            if name.startswith(where + ":"):
                nursery.start_soon(abuse, name, number + 10)
    assert node.counters.handler_errors == 0


@pytest.mark.parametrize(
    "garbage", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x13/multistream/1.0.0\n\x05\xff\xfe\xfd\xfc\n"]
)
async def test_the_node_outlives_sockets_that_are_no_peers(garbage: bytes) -> None:
    async with hosts(2) as (node, honest):
        node.handle("/echo/1", echo)
        for _ in range(20):
            socket = await trio.open_tcp_stream("127.0.0.1", port(node))
            if garbage:
                await socket.send_all(garbage)
            await socket.aclose()
        assert await echoes(honest, node)
        await until(lambda: sum(node._swarm.inbound.values()) == 1)


async def test_mute_sockets_do_not_delay_a_newcomer() -> None:
    """Hardening 8. There is a cap for each address, so the honest peer comes from another."""
    async with hosts(1) as (node,), open_host(seed(9), "127.0.0.1:0") as honest:
        node.handle("/echo/1", echo)
        sockets = [await trio.open_tcp_stream("127.0.0.1", port(node)) for _ in range(200)]
        began = trio.current_time()
        assert await echoes(honest, node)
        assert trio.current_time() - began < 1.0
        for one in sockets:
            await one.aclose()


async def test_many_may_wait_to_be_accepted() -> None:
    """More than libp2p's 128, while the node is busy: or the kernel has them try again seconds later."""
    async with hosts(1) as (node,):
        sockets = [socket.socket() for _ in range(250)]
        for one in sockets:  # nothing is accepted meanwhile, for nothing here lets the node have a turn
            one.settimeout(PATIENCE_S)
            one.connect(("127.0.0.1", port(node)))
        for one in sockets:
            one.close()
        await until(lambda: not node._swarm.inbound)


async def test_one_address_holds_only_so_many_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_PER_ADDRESS", 5)
    async with hosts(1) as (node,):
        sockets = [await trio.open_tcp_stream("127.0.0.1", port(node)) for _ in range(8)]
        await until(lambda: node._swarm.turned_away == 3)
        assert node._swarm.inbound["127.0.0.1"] == 5
        for one in sockets:
            await one.aclose()
        await until(lambda: not node._swarm.inbound)


async def test_a_peer_that_ignores_the_receive_window_is_cut_off() -> None:
    """Hardening 5: upstream took 200 MB into a stream that nobody read."""
    async with pair() as (attacker, node):
        reached = trio.Event()

        async def never_read(stream: Any) -> None:
            reached.set()
            await trio.sleep_forever()

        node.handle("/stall/1", never_read)
        node.handle("/echo/1", echo)
        stream = await attacker.open_stream(node.peer_id, "/stall/1")
        await reached.wait()
        theirs, ours = raw_connection(attacker, node.peer_id), raw_connection(node, attacker.peer_id)
        stream_id = stream._muxed.stream_id
        frame = header(DATA, 0, stream_id, 60_000) + bytes(60_000)
        most = 0
        with contextlib.suppress(ConnectionClosedError):
            for _ in range(2 * limits.STREAM_WINDOW_BYTES // 60_000):
                await theirs._write_frame(frame)
                most = max(most, *(len(buffer) for buffer in ours.stream_buffers.values()), 0)
                if ours.is_closed:
                    break
        await until(lambda: not node.peers())
        assert ours.overruns == node.counters.peer_faults == 1
        assert most <= limits.STREAM_WINDOW_BYTES


async def test_credit_that_overflows_ends_the_connection_and_is_blamed() -> None:
    async with pair() as (attacker, node):
        stream = await attacker.open_stream(node.peer_id, PING_PROTOCOL)
        credit = header(WINDOW, 0, stream._muxed.stream_id, 2**32 - 1)
        with contextlib.suppress(ConnectionClosedError):
            for _ in range(2):
                await raw_connection(attacker, node.peer_id)._write_frame(credit)
        await until(lambda: not node.peers())
        assert node.counters.peer_faults == 1


async def test_who_opens_streams_far_beyond_its_limit_is_blamed() -> None:
    async with pair() as (attacker, node):
        connection = raw_connection(attacker, node.peer_id)
        for number in range(1001, 1001 + 2 * 3 * limits.STREAMS_PER_CONNECTION, 2):
            await connection._write_frame(header(WINDOW, SYN, number, 0))
        await until(lambda: node.counters.peer_faults == 2)


async def test_a_network_that_shakes_hands_too_often_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs 20 ms of processor time: 50 a second from anywhere would be all there is."""
    async with hosts(2) as (node, honest):
        node.handle("/echo/1", echo)
        node._swarm.handshakes = HandshakeBudget(burst=3, per_s=50)
        sockets = [await trio.open_tcp_stream("127.0.0.1", port(node)) for _ in range(20)]
        await until(lambda: node.turned_away > 0)
        assert await served(honest, node), "the budget grows back"
        for one in sockets:
            await one.aclose()


async def test_half_open_streams_are_bounded_and_the_rest_is_reset() -> None:
    """Hardening 6, seen from the other side: a peer may have so many streams open, and no more."""
    async with pair() as (attacker, node), open_host(seed(3)) as honest:
        node.handle("/echo/1", echo)
        connection = raw_connection(attacker, node.peer_id)
        for number in range(1001, 1001 + 2 * 1000, 2):
            await connection._write_frame(header(WINDOW, SYN, number, 0))
        await until(lambda: node.counters.streams_over_limit >= 1000 - limits.STREAMS_PER_CONNECTION)
        assert await echoes(honest, node)


async def test_streams_that_a_peer_leaves_half_open_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HALF_CLOSED_MS", 100)
    async with pair() as (attacker, node):

        async def one_answer(stream: Any) -> None:
            await stream.write(b"done")

        node.handle("/answer/1", one_answer)
        for _ in range(10):
            stream = await attacker.open_stream(node.peer_id, "/answer/1")
            assert await stream.read() == b"done"
        await until(lambda: not raw_connection(node, attacker.peer_id).streams)


async def test_opening_streams_without_end_fails_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardening 6: after some 250 outbound streams the library waits for ever."""
    monkeypatch.setattr(limits, "OPEN_STREAM_TIMEOUT_MS", 200)
    async with pair() as (one, two):
        slots = raw_connection(one, two.peer_id).stream_backlog_semaphore
        monkeypatch.setattr(type(slots), "acquire", lambda semaphore: trio.sleep_forever())
        with trio.fail_after(5):
            with pytest.raises(Unreachable, match=r"stream\.refused"):
                await one.open_stream(two.peer_id, "/ipfs/ping/1.0.0")


@pytest.mark.parametrize("attempt", range(4))
@pytest.mark.parametrize("ending", ["reset", "goodbye"])
async def test_what_was_said_before_the_end_in_the_same_packet_is_read(ending: str, attempt: int) -> None:
    async with pair() as (one, two):

        async def last_words(stream: Any) -> None:
            await stream.read()
            number = stream._muxed.stream_id
            last = {"reset": header(WINDOW, RST, number, 0), "goodbye": header(GO_AWAY, 0, 0, 0)}[ending]
            await raw_connection(two, one.peer_id)._write_frame(header(DATA, 0, number, 4) + b"why!" + last)
            await trio.sleep_forever()

        two.handle("/last/1", last_words)
        stream = await one.open_stream(two.peer_id, "/last/1")
        await stream.write(b"well?")
        with trio.fail_after(PATIENCE_S):
            assert await stream.read() == b"why!"
            with contextlib.suppress(Unreachable):
                assert await stream.read() == b""


async def test_a_cancelled_write_does_not_break_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream: the cipher has counted the frame, the bytes never leave, and all that follows is garbage."""
    async with pair() as (one, two):
        two.handle("/echo/1", echo)
        stream = await one.open_stream(two.peer_id, "/echo/1")
        connection = raw_connection(one, two.peer_id)
        plain_finish = connection.secured_conn.finish

        async def slow_finish(rest: bytes) -> None:
            await trio.sleep(0.01)
            await plain_finish(rest)

        monkeypatch.setattr(connection.secured_conn._carrier, "send_now", lambda data: 0)
        monkeypatch.setattr(connection.secured_conn, "finish", slow_finish)
        for _ in range(10):
            with trio.move_on_after(0.005):
                await stream.write(b"x" * 1000)
        monkeypatch.undo()
        assert await echoes(one, two)
        assert one.peers() == [two.peer_id]


async def test_a_socket_that_takes_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WRITE_STALL_MS", 100)
    async with pair() as (one, two):
        stream = await one.open_stream(two.peer_id, "/ipfs/ping/1.0.0")

        async def stuck(rest: bytes) -> None:
            await trio.sleep_forever()

        secured = raw_connection(one, two.peer_id).secured_conn
        monkeypatch.setattr(secured._carrier, "send_now", lambda data: 0)
        monkeypatch.setattr(secured, "finish", stuck)
        with pytest.raises(Unreachable, match=r"stream\.reset"):
            await stream.write(b"x" * 32)
        await until(lambda: not one.peers() and not two.peers())


async def test_a_peer_with_too_many_connections_loses_them() -> None:
    async with hosts(2) as (one, two):
        network = one._basic.get_network()
        await one.connect(address(two))
        from fondaco.node.network.dial import identity

        where = network.peerstore.addrs(identity(two.peer_id))[0]
        for _ in range(limits.CONNECTIONS_PER_PEER + 1):
            await network._dial_addr_single_attempt(where, identity(two.peer_id))
        await until(lambda: two.counters.drops >= 1 or one.counters.drops >= 1)
        await until(lambda: len(two._swarm.get_connections()) <= limits.CONNECTIONS_PER_PEER)


@pytest.mark.heavy
@pytest.mark.timeout(400)
async def test_the_node_outlives_a_minute_of_fuzz() -> None:
    import random

    chance = random.Random(1)
    async with open_host(seed(1)) as node, open_host(seed(3)) as honest:
        node.handle("/echo/1", echo)
        with trio.move_on_after(60):
            round_number = 10
            while True:
                round_number = round_number % 200 + 1
                async with open_host(seed(round_number + 10), None) as attacker:
                    await attacker.connect(address(node))
                    abuse = chance.choice(list(ABUSES.values()))
                    noise = chance.randbytes(chance.randrange(1, 5000))
                    for attack in (on_a_new_stream(noise), abuse, on_the_wire(noise)):
                        with trio.move_on_after(1):
                            await _whatever_happens(attack, attacker, node.peer_id)
                assert await echoes(honest, node)
        assert node.counters.handler_errors == 0


async def _whatever_happens(attack: Attack, host: Host, peer: PeerId) -> None:
    try:
        await attack(host, peer)
    except Exception:  # noqa: BLE001 - the attacker's troubles are its own
        return
