"""Peers found by their keys alone, among real hosts; and the table under abuse."""

import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
import trio
from tests.support.network import CHAIN, PATIENCE_S, address, hosts, port, seed, until

from fondaco.node.network.delimited import read_message, write_message
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.kad import Kad
from fondaco.node.network.kad_names import address_in, may_name, wire_addresses
from fondaco.node.network.known_peers import Source
from fondaco.node.network.peers import Address, PeerId, peer_id_of, through
from fondaco.node.network.stream import Stream
from fondaco.protocol.base58 import unbase58
from fondaco.protocol.errors import Unreachable
from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.kad import KadMessage, KadPeer, Kind, decode, encode, protocol_of
from fondaco.protocol.signing import Signer

KAD = protocol_of(CHAIN)
STRANGER = peer_id_of(Signer(seed(99)).public_key)


@contextlib.asynccontextmanager
async def tables(count: int) -> AsyncIterator[list[tuple[Host, Kad]]]:
    """So many hosts, of which each but the first knows only the first; all run their tables."""
    async with hosts(count) as running, trio.open_nursery() as nursery:
        kads: list[Kad] = []
        for host in running:
            first = [address(running[0])] if kads else []
            kads.append(Kad(host, CHAIN, addresses=host.addresses, peers=first))
        for host, kad in zip(running, kads, strict=True):
            for entry in kad._seeds.values():
                host.keep_connected(entry)
            nursery.start_soon(kad.run)
        yield list(zip(running, kads, strict=True))
        nursery.cancel_scope.cancel()


async def found(kad: Kad, peer: PeerId) -> list[Address]:
    """Ask until it is known: who is asked may have heard of it only now."""
    with trio.fail_after(PATIENCE_S):
        while not (there := await kad.find(peer)):
            await trio.sleep(0.02)
    return there


async def ask(host: Host, peer: PeerId, message: KadMessage | bytes) -> KadMessage:
    stream = await host.open_stream(peer, KAD)
    await write_message(stream, message if isinstance(message, bytes) else encode(message))
    data, _ = await read_message(stream, limit=bounds.KAD_MESSAGE_BYTES)
    await stream.reset()
    return decode(data)


def saying(
    host: Host, *, key: PeerId | None = None, who: PeerId | None = None, where: Sequence[Address] = ()
) -> KadMessage:
    peer = KadPeer(id=unbase58(who or host.peer_id), addresses=wire_addresses(where or host.addresses()))
    return KadMessage(kind=Kind.ADD_PROVIDER, key=unbase58(key or host.peer_id), providers=(peer,))


async def test_a_peer_is_found_by_its_key_by_one_who_never_met_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "KAD_REFRESH_SOON_MS", 50)
    async with tables(5) as net, open_host(seed(50), None) as tenant:
        last = net[-1][0]
        kad = Kad(tenant, CHAIN)
        await tenant.connect(address(net[0][0]))
        assert await found(kad, last.peer_id) == [address(last)]
        assert await kad.find(STRANGER) == []
        assert await tenant.connect((await kad.find(last.peer_id))[0]) == last.peer_id


async def test_what_a_search_has_opened_is_closed_but_for_what_was_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "KAD_REFRESH_SOON_MS", 50)
    async with tables(5) as net, open_host(seed(50), None) as tenant:
        await until(lambda: len(net[0][1].table) == 4)
        kad = Kad(tenant, CHAIN, peers=[address(net[0][0])])
        tenant.keep_connected(address(net[0][0]))
        await until(tenant.peers)
        await kad.find(STRANGER)
        assert len(kad.table) == 5
        await until(lambda: tenant.peers() == [net[0][0].peer_id])


async def test_a_peer_behind_a_relay_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "KAD_REFRESH_SOON_MS", 50)
    async with tables(2) as net, open_host(seed(51), None) as hidden, open_host(seed(50), None) as tenant:
        first = address(net[0][0])
        circuit = through(first, hidden.peer_id)
        kad = Kad(hidden, CHAIN, addresses=lambda: [circuit], peers=[first])
        await hidden.connect(first)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kad.run)
            await tenant.connect(first)
            assert await found(Kad(tenant, CHAIN), hidden.peer_id) == [circuit]
            nursery.cancel_scope.cancel()
        assert not net[0][1].table.has(unbase58(hidden.peer_id)), "who cannot be dialled serves nobody"


async def test_nobody_can_say_where_another_is() -> None:
    async with tables(1) as [(server, kad)], open_host(seed(60)) as liar:
        await liar.connect(address(server))
        lie = Address(f"/ip4/127.0.0.1/tcp/1/p2p/{STRANGER}")
        for message in (
            saying(liar, key=STRANGER),
            saying(liar, who=STRANGER, where=[lie]),
            saying(liar, key=STRANGER, who=STRANGER, where=[lie]),
            saying(liar, where=[lie]),
        ):
            with pytest.raises(Unreachable):
                await ask(liar, server.peer_id, message)
        assert len(kad.sayings) == 0
        assert liar.is_connected(server.peer_id), "a refusal is no fault"
        await ask(liar, server.peer_id, saying(liar))
        answer = await ask(liar, server.peer_id, KadMessage(kind=Kind.FIND_NODE, key=unbase58(liar.peer_id)))
        assert [peer.id for peer in answer.closer] == [unbase58(liar.peer_id)]


async def test_a_liars_answer_costs_a_dial_and_hides_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "KAD_REFRESH_SOON_MS", 50)
    async with tables(3) as net, open_host(seed(60)) as liar, open_host(seed(50), None) as tenant:
        wanted = net[2][0]
        lie = Address(f"/ip4/127.0.0.1/tcp/{port(liar)}/p2p/{wanted.peer_id}")

        async def answer(stream: Stream) -> None:
            data, _ = await read_message(stream, limit=bounds.KAD_MESSAGE_BYTES)
            asked = decode(data)
            false = KadPeer(id=unbase58(wanted.peer_id), addresses=wire_addresses([lie]))
            made_up = tuple(
                KadPeer(
                    id=unbase58(peer_id_of(Signer(number.to_bytes(32, "big")).public_key)),
                    addresses=false.addresses,
                )
                for number in range(1, 20)
            )
            message = KadMessage(kind=asked.kind, key=asked.key, closer=(false, *made_up), providers=(false,))
            await write_message(stream, encode(message))

        liar.handle(KAD, answer)
        await tenant.connect(address(liar))
        await tenant.connect(address(net[0][0]))
        await until(lambda: net[0][1].sayings.of(unbase58(wanted.peer_id), trio.current_time()))
        kad = Kad(tenant, CHAIN)
        there = await kad.find(wanted.peer_id)
        assert set(there) == {lie, address(wanted)}
        with pytest.raises(Unreachable):
            await tenant.connect(lie)
        assert await tenant.connect(address(wanted)) == wanted.peer_id
        assert all(lie not in [address_in(one, peer.id) for one in peer.addresses] for peer in kad.table.peers())


def test_nobody_far_away_may_have_us_dial_into_our_own_network() -> None:
    near, far = (Address(f"/ip4/{ip}/tcp/1/p2p/{STRANGER}") for ip in ("192.168.1.1", "93.184.216.34"))
    other = peer_id_of(Signer(seed(98)).public_key)
    stranger, neighbour, relayed = (Source.peer(other, ip) for ip in ("93.184.216.35", "127.0.0.1", ""))
    assert may_name(stranger, far)
    assert may_name(neighbour, near)
    assert not may_name(stranger, near)
    assert not may_name(stranger, through(near, other))
    assert not may_name(relayed, near)
    assert address_in(b"\x04", unbase58(STRANGER)) is None
    assert address_in(wire_addresses([far])[0], unbase58(other)) is None


GARBAGE = {
    "no protobuf": b"\x05\xff\xff\xff\xff\xff",
    "a length without end": b"\xff" * 12,
    "too long a message": b"\xff\xff\xff\x7f" + bytes(100),
    "a value": b"\x02\x08\x00",
    "a thousand peers": b"\x80\x28" + b"\x42\x03\x0a\x01x" * 1024,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_costs_its_stream_and_is_a_fault(garbage: bytes) -> None:
    async with tables(1) as [(server, _)], open_host(seed(60)) as liar:
        await liar.connect(address(server))
        stream = await liar.open_stream(server.peer_id, KAD)
        await stream.write(garbage)
        with pytest.raises(Unreachable):
            await stream.read()
        assert (server.counters.peer_faults, server.counters.handler_errors) == (1, 0)
        assert (await ask(liar, server.peer_id, KadMessage(kind=Kind.PING))).kind == Kind.PING


@pytest.mark.parametrize(
    "garbage", [*GARBAGE.values(), b"\x02\x08\x05", b""], ids=[*GARBAGE, "another's answer", "nothing"]
)
async def test_an_answer_that_is_none_fails_the_one_who_gave_it(garbage: bytes) -> None:
    async with hosts(2) as (asker, liar):

        async def answer(stream: Stream) -> None:
            await stream.read()
            await stream.write(garbage)

        liar.handle(KAD, answer)
        await asker.connect(address(liar))
        kad = Kad(asker, CHAIN)
        assert await kad.find(STRANGER) == []
        assert len(kad.table) == 0
        assert asker.counters.handler_errors == 0


async def test_mute_and_half_open_streams_hold_their_places_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "KAD_IDLE_MS", 300)
    async with tables(1) as [(server, kad)], open_host(seed(60)) as mute:
        await mute.connect(address(server))
        streams = [await mute.open_stream(server.peer_id, KAD) for _ in range(bounds.KAD_SERVED_PER_PEER)]
        await streams[0].write(b"\x28\x08")
        await until(lambda: kad._served.total() == bounds.KAD_SERVED_PER_PEER)
        with pytest.raises(Unreachable):
            await ask(mute, server.peer_id, KadMessage(kind=Kind.PING))
        await until(lambda: not kad._served)
        await ask(mute, server.peer_id, KadMessage(kind=Kind.PING))


async def test_a_peer_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "KAD_ASK_MS", 300)
    async with hosts(2) as (asker, mute):

        async def nothing(stream: Stream) -> None:
            await trio.sleep_forever()

        mute.handle(KAD, nothing)
        await asker.connect(address(mute))
        with trio.fail_after(PATIENCE_S):
            assert await Kad(asker, CHAIN).find(STRANGER) == []


async def test_who_asks_all_the_time_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "KAD_REQUESTS", 5)
    async with tables(1) as [(server, kad)], open_host(seed(60)) as eager:
        await eager.connect(address(server))
        for _ in range(5):
            await ask(eager, server.peer_id, KadMessage(kind=Kind.PING))
        with pytest.raises(Unreachable):
            await ask(eager, server.peer_id, KadMessage(kind=Kind.PING))
        await eager.drop(server.peer_id, "test")
        await until(lambda: not kad._requests)


async def test_the_librarys_own_messages_are_answered() -> None:
    """Its protobuf over our protocol id: what a client of another make sends."""
    from libp2p.kad_dht.pb import kademlia_pb2

    async with tables(1) as [(server, _)], open_host(seed(60)) as other:
        await other.connect(address(server))
        said = kademlia_pb2.Message(
            type=kademlia_pb2.Message.MessageType.ADD_PROVIDER, key=unbase58(other.peer_id)
        )
        provider = said.providerPeers.add()
        provider.id = unbase58(other.peer_id)
        provider.addrs.extend(wire_addresses(other.addresses()))
        await ask(other, server.peer_id, said.SerializeToString())
        asked = kademlia_pb2.Message(
            type=kademlia_pb2.Message.MessageType.GET_PROVIDERS, key=unbase58(other.peer_id)
        )
        answer = await ask(other, server.peer_id, asked.SerializeToString())
        theirs = kademlia_pb2.Message.FromString(encode(answer))
        assert list(theirs.providerPeers[0].addrs) == list(provider.addrs)
