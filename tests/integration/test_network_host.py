"""A host on loopback: identity, streams, comings and goings."""

import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.network.exceptions import SwarmException
from tests.support.network import (
    address,
    echo,
    echoes,
    hosts,
    known_protocols,
    pair,
    port,
    raw_connection,
    seed,
    until,
)

from fondaco.node.network.dial import identity
from fondaco.node.network.host import open_host
from fondaco.node.network.peers import PeerId, peer_id_of
from fondaco.node.network.stream import Stream
from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.signing import Signer


async def test_a_host_is_known_by_the_key_of_its_seed() -> None:
    async with open_host(seed(1)) as host:
        assert host.peer_id == peer_id_of(Signer(seed(1)).public_key)
        assert host._basic.get_id().to_base58() == host.peer_id
        assert address(host).endswith(f"/p2p/{host.peer_id}")


async def test_a_host_knows_from_where_a_peer_came_and_who_dialled() -> None:
    async with pair() as (one, two):
        assert one.remote_ip(two.peer_id) == two.remote_ip(one.peer_id) == "127.0.0.1"
        assert one.dialled(two.peer_id)
        assert not two.dialled(one.peer_id)
        stranger = peer_id_of(Signer(seed(9)).public_key)
        assert one.remote_ip(stranger) == ""
        assert not one.dialled(stranger)


async def test_a_peer_that_is_connected_is_told_of_what_is_served_from_now_on() -> None:
    """By identify/push: others open no stream for a protocol that was never named to them."""
    async with pair() as (one, two):
        await until(lambda: known_protocols(one, two.peer_id))
        two.handle("/first/1", echo)
        two.handle("/second/1", echo)
        await until(lambda: {"/first/1", "/second/1"} <= known_protocols(one, two.peer_id))


async def test_streams_carry_bytes_both_ways_until_they_are_closed() -> None:
    async with pair() as (one, two):
        two.handle("/echo/1", echo)
        stream = await one.open_stream(two.peer_id, "/echo/1")
        payload = bytes(range(256)) * 8192  # more than the first window
        got = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, payload)
            while len(got) < len(payload):
                got += await stream.read()
        assert got == payload
        await stream.close()
        assert await stream.read() == b""
        assert await stream.read() == b""


async def test_comings_and_goings_are_told_once_on_both_sides() -> None:
    async with hosts(2) as (one, two):
        told: list[tuple[str, PeerId]] = []
        two.on_connected(lambda peer: told.append(("up", peer)))
        two.on_disconnected(lambda peer: told.append(("down", peer)))
        await one.connect(address(two))
        await one.connect(address(two))
        await two.connect(address(one))
        assert one.peers() == [two.peer_id]
        await until(lambda: told)
        await one.drop(two.peer_id, "test")
        await until(lambda: len(told) == 2)
        assert told == [("up", one.peer_id), ("down", one.peer_id)]
        await until(lambda: not one.peers())


async def test_a_host_that_left_is_noticed_and_can_come_back_on_the_same_port() -> None:
    async with open_host(seed(1)) as one:
        async with open_host(seed(2)) as two:
            where, number = address(two), port(two)
            one.keep_connected(where)
            await until(lambda: one.is_connected(two.peer_id))
        await until(lambda: not one.peers())
        async with open_host(seed(2), f"127.0.0.1:{number}") as two:
            two.handle("/echo/1", echo)
            await until(lambda: one.is_connected(two.peer_id))
            assert await echoes(one, two)


async def test_nobody_is_connected_to_again_because_something_was_to_be_told_him_as_he_left() -> None:
    """The library's identify does so by itself, and its streams dial; a peer that was banned came back."""
    async with pair() as (one, two), trio.open_nursery() as nursery:
        left = identity(two.peer_id)
        nursery.start_soon(one.drop, two.peer_id, "test")
        await until(lambda: not one._swarm.get_connections(left))
        with pytest.raises(SwarmException):
            await one._basic.new_stream(left, [TProtocol("/ipfs/id/push/1.0.0")])
        await until(lambda: not two.is_connected(one.peer_id))
        assert (one.peers(), two.peers()) == ([], [])
        await one.connect(address(two))
        assert one.is_connected(two.peer_id)


async def test_a_peer_that_failed_once_can_be_dialled_again_at_once() -> None:
    async with open_host(seed(1)) as one:
        async with open_host(seed(2)) as two:
            where, number = address(two), port(two)
        with pytest.raises(Unreachable, match=r"network\.unreachable"):
            await one.connect(where)
        assert one.counters.dial_failures == 1
        async with open_host(seed(2), f"127.0.0.1:{number}"):
            assert await one.connect(where) == two.peer_id


async def test_whoever_answers_with_another_key_is_not_the_peer_that_was_dialled() -> None:
    async with hosts(2) as (one, two):
        impostor = address(two).replace(two.peer_id, peer_id_of(Signer(seed(9)).public_key))
        with pytest.raises(Unreachable):
            await one.connect(impostor)  # type: ignore[arg-type]
        await until(lambda: not one.peers())


async def test_dialling_takes_no_pause_for_a_second_address() -> None:
    async with hosts(2) as (one, two):
        began = trio.current_time()
        await one.connect(address(two))
        assert trio.current_time() - began < 0.2  # the library waits 250 ms even when the first address answers


async def test_dialling_oneself_is_refused() -> None:
    async with open_host(seed(1)) as host:
        with pytest.raises(Refused, match="our own"):
            await host.connect(address(host))
        host.keep_connected(address(host))


async def test_a_second_host_on_the_same_port_is_refused() -> None:
    async with open_host(seed(1)) as one:
        with pytest.raises(Refused, match=r"network\.port_taken"):
            async with open_host(seed(2), f"127.0.0.1:{port(one)}"):
                raise AssertionError("two hosts share a port")


async def test_a_host_that_does_not_listen_can_dial() -> None:
    async with open_host(seed(1), None) as one, open_host(seed(2)) as two:
        assert one.addresses() == []
        two.handle("/echo/1", echo)
        assert await echoes(one, two)


async def test_streams_to_strangers_and_for_unknown_protocols_fail_cleanly() -> None:
    async with pair() as (one, two):
        with pytest.raises(Unreachable, match=r"network\.unreachable"):
            await one.open_stream(peer_id_of(Signer(seed(9)).public_key), "/echo/1")
        with pytest.raises(Unreachable, match=r"stream\.refused"):
            await one.open_stream(two.peer_id, "/nobody/1")
        assert one.peers() == [two.peer_id]


async def test_a_reset_stream_is_gone_on_both_sides() -> None:
    async with pair() as (one, two):
        served: list[str] = []

        async def reset(stream: Stream) -> None:
            await stream.read()
            await stream.reset()
            with pytest.raises(Unreachable, match=r"stream\.reset"):
                await stream.write(b"x")
            served.append("reset")

        two.handle("/reset/1", reset)
        stream = await one.open_stream(two.peer_id, "/reset/1")
        await stream.write(b"hello")
        with pytest.raises(Unreachable, match=r"stream\.reset"):
            await stream.read()
        await until(lambda: served)


@pytest.mark.parametrize(
    "error",
    [ValueError("bug"), KeyError("bug"), AssertionError("bug"), ExceptionGroup("bugs", [RuntimeError("bug")])],
    ids=lambda error: type(error).__name__,
)
async def test_a_handler_that_raises_leaves_the_node_alive(error: Exception) -> None:
    """Hardening 1: unguarded, any of these cancels the swarm."""
    async with pair() as (one, two):

        async def broken(stream: Stream) -> None:
            await stream.read()
            raise error

        two.handle("/echo/1", echo)
        two.handle("/broken/1", broken)
        stream = await one.open_stream(two.peer_id, "/broken/1")
        await stream.write(b"work")
        with pytest.raises(Unreachable):
            await stream.read()
        assert two.counters.handler_errors == 1
        assert await echoes(one, two)


async def test_a_peer_that_goes_while_we_stop_does_not_make_our_end_a_failure() -> None:
    """Then what a handler's tasks raise is our cancellation and the peer's going, in one group."""
    serving = trio.Event()

    async def handler(_stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            serving.set()
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                raise Unreachable("stream.reset", "the peer has gone") from None

    async with pair() as (one, two):
        two.handle("/test/1", handler)
        await one.open_stream(two.peer_id, "/test/1")
        await serving.wait()
    assert two.counters.handler_errors == 0


async def test_a_peers_fault_resets_its_stream_and_too_many_ban_it() -> None:
    async with pair() as (one, two):

        async def strict(stream: Stream) -> None:
            await stream.read()
            raise PeerFault("test.fault", "nonsense")

        two.handle("/strict/1", strict)
        for _ in range(limits.PEER_FAULTS):
            stream = await one.open_stream(two.peer_id, "/strict/1")
            await stream.write(b"nonsense")
            with pytest.raises(Unreachable):
                await stream.read()
        await until(lambda: not two.peers() and not one.peers())
        assert (two.counters.peer_faults, two.counters.handler_errors, two.counters.bans) == (8, 0, 1)
        with pytest.raises(Refused, match=r"network\.banned"):
            await two.connect(address(one))
        await one.connect(address(two))  # known only after the handshake, and then shown the door
        await until(lambda: not one.peers())
        assert two.peers() == []


async def test_a_banned_network_is_turned_away_before_the_handshake() -> None:
    async with hosts(2) as (one, two):
        two.bans.ban("127.0.0.0/24", trio.current_time(), "test")
        with pytest.raises(Unreachable):
            await one.connect(address(two))
        assert two._swarm.turned_away == 1


async def test_inbound_connections_give_their_slots_back() -> None:
    """Hardening 2: unpatched, each keeps its slot and its task until shutdown."""
    async with hosts(2) as (one, two):
        for _ in range(5):
            await one.connect(address(two))
            await until(two.peers)
            assert sum(two._swarm.inbound.values()) == 1
            await one.drop(two.peer_id, "again")
            await until(lambda: not two.peers() and not one.peers())
        await until(lambda: not two._swarm.inbound)
        assert two._swarm._inbound_limiter.borrowed_tokens == 0
        assert two._basic.get_peerstore().peer_ids() == [two._basic.get_id()]


async def test_a_silent_peer_is_dropped() -> None:
    """Hardening 4: a frozen process keeps its sockets open and answers nothing."""
    async with pair(keepalive_interval_ms=50, keepalive_timeout_ms=200) as (one, two):
        assert one.round_trip_ms(PeerId(two.peer_id[:-1] + "1")) is None
        await until(lambda: one.round_trip_ms(two.peer_id))
        assert one.peers(), "pings are answered"

        async def nothing(data: bytes) -> None:
            await trio.lowlevel.checkpoint()

        raw_connection(two, one.peer_id)._write_frame = nothing
        await until(lambda: not one.peers())
        await until(lambda: not two.peers())


async def test_closing_a_host_with_many_connections_is_quick() -> None:
    async with hosts(8) as (hub, *others):
        for other in others:
            await other.connect(address(hub))
        await until(lambda: len(hub.peers()) == 7)
        began = trio.current_time()
    assert trio.current_time() - began < 5


async def test_many_who_want_the_same_peer_at_once_share_one_connection_and_can_all_use_it() -> None:
    async with hosts(2) as (one, two), trio.open_nursery() as nursery:
        two.handle("/echo/1", echo)

        async def use() -> None:
            assert await echoes(one, two)

        for _ in range(20):
            nursery.start_soon(use)
    assert one.counters.connected == two.counters.connected == 1
    assert two.counters.drops == 0
