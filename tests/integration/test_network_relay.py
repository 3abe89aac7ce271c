"""Peers that listen nowhere, reached through a relay; and relays under abuse."""

import contextlib

import pytest
import trio
from tests.support.network import PATIENCE_S, address, echo, echoes, hosts, raw_connection, seed, until
from tests.support.reach import bridge, echoed, hop

from fondaco.node.network.host import open_host
from fondaco.node.network.peers import peer_id_of, through
from fondaco.node.network.places import Places
from fondaco.node.network.relay import Relay
from fondaco.node.network.stream import Stream
from fondaco.protocol import limits
from fondaco.protocol.base58 import unbase58
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.limits import KIB, MIB
from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.circuit import HOP, STOP, Answer, Connect, Reserve, Status, encode_stop
from fondaco.protocol.reach.relaying import Terms
from fondaco.protocol.signing import Signer


async def test_a_peer_that_listens_nowhere_is_reached_through_a_relay() -> None:
    async with bridge() as net:
        assert net.places.addresses() == [through(address(net.middle), net.hidden.peer_id)]
        assert await net.connect() == net.hidden.peer_id
        assert await echoed(net.dialler, net.hidden.peer_id, bytes(range(256)) * 8192) == bytes(range(256)) * 8192
        await until(lambda: net.dialler.peer_id in net.hidden.peers())
        assert net.hidden.remote_ip(net.dialler.peer_id) == net.dialler.remote_ip(net.hidden.peer_id) == ""
        assert (net.relay.book.circuits, net.places.circuits) == (1, 1)


async def test_a_relay_hears_nothing_of_what_it_carries() -> None:
    """Noise is spoken from end to end: the relay's own decrypted bytes do not hold what was said."""
    async with bridge() as net:
        heard = bytearray()
        carry = Stream.read

        async def listening(stream: Stream, max_bytes: int = 65_536) -> bytes:
            data = await carry(stream, max_bytes)
            if stream._muxed.conn.secured_conn.local_peer.to_base58() == net.middle.peer_id:
                heard.extend(data)
            return data

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Stream, "read", listening)
            await net.connect()
            secret = b"the manifest of a tenant" * 10
            assert await echoed(net.dialler, net.hidden.peer_id, secret) == secret
        assert b"/noise" in heard, "what the relay carries was listened to"
        assert b"the manifest" not in heard
        assert b"/echo/1" not in heard


async def test_whoever_answers_behind_a_relay_must_have_the_key_that_was_dialled() -> None:
    """A relay that leads to somebody else is found out by the handshake."""
    async with hosts(2) as (middle, impostor):
        wanted = peer_id_of(Signer(seed(9)).public_key)
        await impostor.connect(address(middle))
        await until(lambda: middle.is_connected(impostor.peer_id))
        relay, places = Relay(middle), Places(impostor, [address(middle)])
        real = relay._stop

        async def elsewhere(source: object, target: object) -> tuple[Stream, bytes]:
            return await real(source, impostor.peer_id)  # type: ignore[arg-type]

        relay._stop = elsewhere  # type: ignore[method-assign]
        async with open_host(seed(3), None) as dialler, trio.open_nursery() as nursery:
            nursery.start_soon(places.run)
            await places.wait_kept()
            relay.book.reserve(wanted, "", trio.current_time())
            with pytest.raises(Unreachable, match=r"network\.unreachable"):
                await dialler.connect(through(address(middle), wanted))
            assert dialler.peers() == [middle.peer_id]
            nursery.cancel_scope.cancel()


async def test_many_circuits_of_many_peers_are_open_at_once() -> None:
    async with bridge() as net, open_host(seed(4), None) as other:
        await net.connect()
        await other.connect(through(address(net.middle), net.hidden.peer_id))
        for host in (net.dialler, other, net.dialler):
            assert await echoed(host, net.hidden.peer_id, b"still there") == b"still there"
        await other.drop(net.hidden.peer_id, "test")
        await until(lambda: net.relay.book.circuits == 1)
        assert await echoed(net.dialler, net.hidden.peer_id, b"still there") == b"still there"


async def test_a_place_is_taken_again_after_the_relay_was_away() -> None:
    async with open_host(seed(2), None) as hidden, trio.open_nursery() as nursery:
        told: list[int] = []
        async with open_host(seed(1)) as middle:
            where = address(middle)
            Relay(middle)
            places = Places(hidden, [where], lambda found: told.append(len(found)))
            nursery.start_soon(places.run)
            await places.wait_kept()
        await until(lambda: not places.addresses())
        async with open_host(seed(1), f"127.0.0.1:{where.split('/')[4]}") as middle:
            Relay(middle)
            with trio.fail_after(PATIENCE_S):
                await places.wait_kept()
        assert told[:3] == [1, 0, 1]
        nursery.cancel_scope.cancel()


async def test_a_relay_that_keeps_no_place_is_asked_again_later() -> None:
    async with bridge() as net, open_host(seed(4), None) as late, trio.open_nursery() as nursery:
        net.relay.book.terms = Terms(reservations=1)
        places = Places(late, [address(net.middle)])
        nursery.start_soon(places.run)
        await until(lambda: net.relay.counters.refused)
        assert places.addresses() == []
        net.relay.book.terms = Terms()
        with trio.fail_after(PATIENCE_S):
            await places.wait_kept()
        nursery.cancel_scope.cancel()


async def test_a_relay_says_why_it_leads_nowhere() -> None:
    async with bridge(Terms(circuits_from_peer=1)) as net:
        stranger = peer_id_of(Signer(seed(9)).public_key)
        await net.dialler.connect(address(net.middle))
        for target, status in (
            (stranger, Status.NO_RESERVATION),
            (net.dialler.peer_id, Status.NO_RESERVATION),
            (net.middle.peer_id, Status.NO_RESERVATION),
        ):
            _, answer = await hop(net.dialler, net.middle.peer_id, Connect(peer=unbase58(target)))
            assert isinstance(answer, Answer)
            assert answer.status == status
        await net.connect()
        _, answer = await hop(net.dialler, net.middle.peer_id, Connect(peer=unbase58(net.hidden.peer_id)))
        assert answer == Answer(status=Status.RESOURCE_LIMIT_EXCEEDED)
        with pytest.raises(Unreachable, match=r"network\.unreachable"):
            await net.dialler.connect(through(address(net.middle), stranger))


async def test_a_place_can_only_be_taken_for_oneself_and_over_a_direct_connection() -> None:
    async with bridge() as net:
        await net.connect()
        Relay(net.hidden)
        _, answer = await hop(net.dialler, net.hidden.peer_id, Reserve())
        assert answer == Answer(status=Status.PERMISSION_DENIED)
        # The specification's RESERVE may name a peer; py-libp2p would keep the place for that one.
        named = b"\x08\x00\x12\x28\x0a\x26" + unbase58(net.hidden.peer_id)
        await net.dialler.connect(address(net.middle))
        net.relay.book.forget(net.hidden.peer_id)
        _, answer = await hop(net.dialler, net.middle.peer_id, named)
        assert isinstance(answer, Answer)
        assert answer.status == Status.OK
        assert net.relay.book.places == 1
        _, answer = await hop(net.dialler, net.middle.peer_id, Connect(peer=unbase58(net.hidden.peer_id)))
        assert answer == Answer(status=Status.NO_RESERVATION)


async def test_only_a_relay_that_keeps_our_place_may_lead_others_to_us() -> None:
    async with bridge() as net, open_host(seed(4)) as other:
        await net.hidden.connect(address(other))
        await until(lambda: other.is_connected(net.hidden.peer_id))
        stream = await other.open_stream(net.hidden.peer_id, STOP)
        payload = encode_stop(Connect(peer=unbase58(net.dialler.peer_id)))
        await stream.write(bytes([len(payload)]) + payload)
        assert await stream.read() == b"\x05\x08\x01\x20\xca\x01"  # PERMISSION_DENIED
        assert net.places.circuits == 0


@pytest.mark.parametrize(
    "terms",
    [Terms(circuit_bytes=256 * KIB), Terms(circuit_ms=700), Terms(idle_ms=300)],
    ids=["bytes", "life", "silence"],
)
async def test_a_circuit_ends_with_its_bytes_its_life_or_in_silence(terms: Terms) -> None:
    async with bridge(terms) as net:
        peer = await net.connect()
        stream = await net.dialler.open_stream(peer, "/echo/1")

        async def talk() -> None:
            while terms.circuit_bytes < MIB:
                await stream.write(bytes(16 * KIB))
                await stream.read()

        with trio.fail_after(PATIENCE_S):
            try:
                await talk()
                while await stream.read():
                    pass
            except Unreachable:
                pass
        await until(lambda: net.relay.counters.cut == 1 and net.relay.book.circuits == 0)
        await until(lambda: not net.dialler.is_connected(peer) and not net.places.circuits)
        assert net.places.addresses(), "the place itself is kept"


GARBAGE = {
    "no protobuf": b"\x05\xff\xff\xff\xff\xff",
    "a length without end": b"\xff" * 12,
    "too long a message": b"\xff\xff\xff\x7f" + bytes(100),
    "an unknown type": b"\x02\x08\x09",
    "an answer": b"\x05\x08\x02\x28\xc8\x01",
    "nobody to connect to": b"\x02\x08\x01",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("protocol", [HOP, STOP])
async def test_garbage_costs_its_stream_and_is_a_fault(protocol: str, garbage: bytes) -> None:
    async with bridge() as net, open_host(seed(4)) as liar:
        victim = net.middle if protocol == HOP else net.hidden
        await (liar.connect(address(victim)) if protocol == HOP else victim.connect(address(liar)))
        await until(lambda: liar.is_connected(victim.peer_id))
        faults = victim.counters.peer_faults
        stream = await liar.open_stream(victim.peer_id, protocol)
        await stream.write(garbage)
        with contextlib.suppress(Unreachable):
            while await stream.read():
                pass
        await until(lambda: victim.counters.peer_faults > faults)
        assert victim.counters.handler_errors == 0
        await net.connect()
        assert await echoed(net.dialler, net.hidden.peer_id, b"alive") == b"alive"


async def test_a_flood_of_requests_for_places_and_circuits_leaves_the_relay_alive() -> None:
    async with bridge() as net:
        await net.dialler.connect(address(net.middle))

        async def ask(number: int) -> None:
            stranger = unbase58(peer_id_of(Signer(number.to_bytes(32, "big")).public_key))
            message = Reserve() if number % 2 else Connect(peer=stranger)
            await hop(net.dialler, net.middle.peer_id, message)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, number)
        assert net.relay.book.places == 2
        await net.connect()
        assert await echoed(net.dialler, net.hidden.peer_id, b"alive") == b"alive"


async def test_half_open_requests_end_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ANSWER_MS", 300)
    async with bridge() as net:
        await net.dialler.connect(address(net.middle))
        stream = await net.dialler.open_stream(net.middle.peer_id, HOP)
        await stream.write(b"\x28\x08")
        with trio.fail_after(PATIENCE_S), pytest.raises(Unreachable):
            await stream.read()
        # One that is let in, and then says nothing: the handshake has its own deadline.
        stream, answer = await hop(net.dialler, net.middle.peer_id, Connect(peer=unbase58(net.hidden.peer_id)))
        assert isinstance(answer, Answer)
        assert answer.status == Status.OK
        await until(lambda: net.places.circuits == 1)
        await until(lambda: net.places.circuits == 0 and net.relay.book.circuits == 0)


async def test_a_peer_that_is_led_to_but_lets_nobody_in_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ANSWER_MS", 300)
    async with bridge() as net:

        async def mute(stream: Stream) -> None:
            await trio.sleep_forever()

        net.hidden.handle(STOP, mute)
        with pytest.raises(Unreachable):
            await net.connect()
        await until(lambda: net.relay.book.circuits == 0)


async def test_a_banned_peer_does_not_come_in_through_a_relay() -> None:
    async with bridge() as net:
        net.hidden.bans.ban(net.dialler.peer_id, trio.current_time(), "test")
        with contextlib.suppress(Unreachable):
            await net.connect()
        await until(lambda: not net.dialler.is_connected(net.hidden.peer_id))
        assert net.dialler.peer_id not in net.hidden.peers()


async def test_two_that_relay_for_each_other_can_dial_each_other_at_once() -> None:
    """Dialling through a relay takes no lock of the relay's while it holds the peer's."""
    async with hosts(2) as (one, two), open_host(seed(3), None) as dialler:
        one.handle("/echo/1", echo)
        two.handle("/echo/1", echo)
        Relay(one)
        Relay(two)
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for relay, peer in ((one, two), (two, one)):
                    nursery.start_soon(dialler.connect, through(address(relay), peer.peer_id))
        assert await echoes(dialler, one)


async def test_a_circuits_stalled_reader_does_not_stall_the_relay() -> None:
    async with bridge() as net:
        peer = await net.connect()

        async def deaf(stream: Stream) -> None:
            await trio.sleep_forever()

        net.hidden.handle("/deaf/1", deaf)
        stream = await net.dialler.open_stream(peer, "/deaf/1")
        with trio.move_on_after(2):
            while True:
                await stream.write(bytes(64 * KIB))
        raw = raw_connection(net.middle, net.hidden.peer_id)
        assert all(len(buffer) <= limits.STREAM_WINDOW_BYTES for buffer in raw.stream_buffers.values())
        assert await echoed(net.dialler, peer, b"alive") == b"alive"


async def test_only_so_many_relays_are_kept() -> None:
    async with hosts(2) as (host, relay):
        with pytest.raises(Refused, match=r"relay\.many"):
            Places(host, [address(relay)] * (bounds.RELAYS + 1))
