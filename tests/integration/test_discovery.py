"""Nodes that find each other, on loopback: real hosts, real connections, real files."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from tests.support import discovery as made_up
from tests.support.discovery import LOCAL
from tests.support.finding import around_one, finder
from tests.support.network import HELLO, address, hosts, port, seed, until

from fondaco.node import clock, testnet
from fondaco.node.app import open_node
from fondaco.node.config import load
from fondaco.node.gossip import Gossip, Topic
from fondaco.node.network import discovery_bounds as bounds
from fondaco.node.network.discovery import Discovery
from fondaco.node.network.host import open_host
from fondaco.node.network.peer_exchange import PROTOCOL
from fondaco.node.network.peers import Address, PeerId, endpoint
from fondaco.node.network.rpc import RpcServer
from fondaco.node.network.slots import Slots
from fondaco.node.network.stream import Stream
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.frames import hello
from fondaco.protocol.gossip.control import PeerInfo
from fondaco.protocol.messages import Faucet
from fondaco.protocol.peer_record import identity_of, open_record
from fondaco.protocol.records import Account, key_account
from fondaco.protocol.scalars import ChainId, MicroCredits, MicroStake, Millis, Salt
from fondaco.protocol.signing import Signer
from fondaco.protocol.transactions import sign_transaction


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions come sooner, so that a test need not wait for them."""
    monkeypatch.setattr(bounds, "ASK_MS", (500, 300_000))


# Finding


async def test_nodes_that_know_only_one_find_the_others_and_stop_at_three(tmp_path: Path) -> None:
    async with around_one(5, tmp_path) as nodes:
        await until(lambda: all(len(found.outbound()) >= 3 or len(host.peers()) == 5 for host, found in nodes[1:]))
        for host, found in nodes[1:]:
            dialled = [peer for peer in host.peers() if host.dialled(peer)]
            assert len(dialled) <= 4, "three, and the one it is told to keep"
            assert found.book.get(nodes[0][0].peer_id) is not None


async def test_four_nodes_that_know_one_are_all_connected(tmp_path: Path) -> None:
    async with around_one(3, tmp_path) as nodes:
        await until(lambda: all(len(host.peers()) == 3 for host, _ in nodes))
        assert sum(host.counters.dial_failures for host, _ in nodes) == 0


async def test_a_node_with_all_the_peers_it_wants_dials_nobody_else(tmp_path: Path) -> None:
    async with around_one(4, tmp_path, least=1) as nodes:
        await until(lambda: len(nodes[0][0].peers()) == 4)
        await until(lambda: any(len(found.book) >= 2 for _, found in nodes[1:]))
        for host, found in nodes[1:]:
            assert found.outbound() == host.peers() == [nodes[0][0].peer_id]


async def test_a_node_that_shall_find_nobody_dials_nobody(tmp_path: Path) -> None:
    async with finder(1, tmp_path) as (one, _), finder(2, tmp_path, least=0) as (two, found):
        found.found(address(one), LOCAL)
        await trio.testing.wait_all_tasks_blocked(0.3)
        assert found._choose() == ([], False)
        assert two.peers() == []


async def test_a_node_finds_its_peers_again_after_a_restart_without_the_one_it_began_with(tmp_path: Path) -> None:
    async with finder(3, tmp_path) as (three, _):
        async with finder(1, tmp_path) as (one, _):
            bootstrap = address(one)
            await three.connect(bootstrap)
            async with finder(2, tmp_path, [bootstrap]) as (two, found):
                await until(lambda: two.is_connected(three.peer_id))
                await until(lambda: (entry := found.book.get(three.peer_id)) is not None and entry.tried)
            await until(lambda: not three.is_connected(two.peer_id))
        async with finder(2, tmp_path, [bootstrap]) as (two, found):
            assert found.book.get(three.peer_id) is not None
            await until(lambda: two.is_connected(three.peer_id))
            assert not two.is_connected(one.peer_id)


async def test_a_peer_that_is_lost_is_replaced(tmp_path: Path) -> None:
    async with finder(1, tmp_path, least=1) as (one, found), finder(2, tmp_path) as (two, _):
        async with finder(3, tmp_path) as (three, _):
            found.found(address(three), LOCAL)
            await until(lambda: one.is_connected(three.peer_id))
            found.found(address(two), LOCAL)
        await until(lambda: one.is_connected(two.peer_id))


async def test_a_peer_that_is_where_it_was_said_to_be_is_tried_from_then_on(tmp_path: Path) -> None:
    async with finder(1, tmp_path) as (one, found), finder(2, tmp_path) as (two, theirs):
        found.found(address(two), LOCAL)
        await until(lambda: (entry := found.book.get(two.peer_id)) is not None and entry.tried and entry.record)
        assert found.record_of(two.peer_id) == theirs.record
        await until(lambda: theirs.book.get(one.peer_id) is not None)
        entry = theirs.book.get(one.peer_id)
        assert entry is not None
        assert theirs.counts() == {"tried": 0, "new": 1, "outbound": 0, "stale": 0, "unchecked": 0}
        assert not entry.tried, "that it came to us says nothing of its address"
        assert found.record_of(PeerId("nobody")) == b""


async def test_an_address_where_nobody_is_costs_ever_longer_pauses(tmp_path: Path) -> None:
    async with hosts(1) as (gone,):
        nowhere = address(gone)
    async with finder(7, tmp_path) as (host, found):
        assert found.found(nowhere, LOCAL)
        await until(lambda: host.counters.dial_failures == 1)
        entry = found.book.get(gone.peer_id)
        assert entry is not None
        await until(lambda: entry.retry_ms > clock.now())
        assert entry.failures == 0, "while nobody can be reached it may be us"


async def test_a_peer_that_hangs_up_at_once_is_dialled_ever_more_seldom(tmp_path: Path) -> None:
    async with finder(5, tmp_path, least=1) as (one, found), hosts(1) as (two,):
        two.bans.ban(one.peer_id, trio.current_time(), "test")
        found.found(address(two), LOCAL)
        await until(lambda: two.counters.drops == 1)
        await until(lambda: (entry := found.book.get(two.peer_id)) is not None and entry.retry_ms > clock.now())
        assert found._choose() == ([], False)


async def test_who_greets_with_garbage_is_blamed_and_the_node_lives_on(tmp_path: Path) -> None:
    async def garbage(stream: Stream) -> None:
        await stream.write(bytes(3) + b"\x04junk")
        await stream.read()

    async with finder(5, tmp_path) as (one, found), hosts(1) as (two,):
        two.handle(PROTOCOL, garbage)
        found.found(address(two), LOCAL)
        await until(lambda: one.counters.peer_faults)
        assert one.is_connected(two.peer_id)


async def test_nodes_of_another_chain_are_let_go_and_forgotten(tmp_path: Path) -> None:
    other = hello(ChainId("other-1"))
    async with finder(1, tmp_path) as (one, found), finder(2, tmp_path, greeting=other) as (two, _):
        found.found(address(two), LOCAL)
        await until(lambda: one.counters.connected == 1)
        await until(lambda: found.book.get(two.peer_id) is None)
        await until(lambda: not one.peers())


async def test_a_peer_that_never_answered_is_tested_and_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "FEELER_MS", 100)
    async with (
        finder(2, tmp_path) as (two, _),
        finder(3, tmp_path) as (three, _),
        finder(1, tmp_path, [address(two)], least=1) as (one, found),
    ):
        await until(lambda: one.is_connected(two.peer_id))
        found.found(address(three), LOCAL)
        await until(lambda: (entry := found.book.get(three.peer_id)) is not None and entry.tried)
        await until(lambda: not one.is_connected(three.peer_id))
        assert one.is_connected(two.peer_id)


async def test_a_new_record_is_made_at_each_start_and_when_more_is_announced(tmp_path: Path) -> None:
    circuit = f"/ip4/8.8.8.8/tcp/1/p2p/{made_up.peer(1)}/p2p-circuit"
    async with finder(1, tmp_path, announce=["8.8.4.4:4001"]) as (_, found):
        first = open_record(found.record)
        assert list(first.texts()) == ["/ip4/8.8.4.4/tcp/4001"]
        found.announce([circuit])
        second = open_record(found.record)
        assert list(second.texts()) == ["/ip4/8.8.4.4/tcp/4001", circuit]
    async with finder(1, tmp_path) as (host, found):
        third = open_record(found.record)
        assert list(third.texts()) == [endpoint(address(host)).multiaddr()]
    assert first.seq < second.seq < third.seq


async def test_a_node_that_listens_everywhere_says_that_nobody_learns_where(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with finder(1, tmp_path, where="0.0.0.0:0") as (_, found):
        assert found.record == b""
        assert "announce" in caplog.text
        async with finder(2, tmp_path) as (two, theirs):
            assert await theirs.exchange.ask(await two.connect(address_of(found))) == 0


def address_of(found: Discovery) -> Address:
    host = found._host
    return Address(f"/ip4/127.0.0.1/tcp/{port(host)}/p2p/{host.peer_id}")


async def test_validators_that_know_only_one_find_each_other_and_go_on_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REDIAL_MS", (100, 500))
    plan = testnet.create(tmp_path, validators=4, providers=0)
    first = plan.members[0]
    homes = {member.name: tmp_path / "nodes" / member.name for member in plan.members}
    settings = [
        replace(load(homes[member.name]), peers=() if member is first else (first.address,), api="", market=False)
        for member in plan.members
    ]
    async with contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(open_node(one)) for one in settings[1:]]
        async with open_node(settings[0]):
            await until(lambda: all(len(node.host.peers()) == 3 for node in nodes))
            await until(lambda: all(node.chain.head.height >= 1 for node in nodes))
        await until(lambda: all(len(node.host.peers()) == 2 for node in nodes))
        asks = Faucet(credits=MicroCredits(1), stake=MicroStake(0))
        signer, expires = Signer(seed(9)), Millis(clock.now() + 60_000)
        paid = sign_transaction(signer, nodes[0].chain.id, (asks,), expires_at=expires, salt=Salt(bytes(16)))
        await nodes[0].submit(codec.encode(paid))
        key = key_account(signer.public_key)
        await until(lambda: all(node.chain.ledger.state().get(key, Account) for node in nodes))


async def test_an_eclipse_by_one_source_leaves_the_honest_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of addresses of one region, every one rightly signed: the honest nodes are found all the same."""
    monkeypatch.setattr(bounds, "RECORDS_PER_SOURCE", (10_000, 10_000))
    flood = [made_up.record(number, f"66.6.{number % 256}.{number // 256 + 1}") for number in range(1, 2_000)]
    async with hosts(1) as (bad,):
        batches = iter([flood[start : start + 32] for start in range(0, len(flood), 32)])

        async def lie(_peer: PeerId, _params: object) -> object:
            return [b"", next(batches, [])]

        RpcServer(bad, PROTOCOL, {"swap": lie}, hello=HELLO)
        async with finder(10, tmp_path) as (honest, _), finder(11, tmp_path, least=1) as (host, found):
            assert found.found(address(honest), LOCAL)
            await until(lambda: host.is_connected(honest.peer_id))
            await host.connect(address(bad))
            while await found.exchange.ask(bad.peer_id):
                pass
            told = [entry for entry in found.book if entry.region == "66.6.0.0/16"]
            assert 0 < len(told) <= bounds.NEW_PER_REGION
            entry = found.book.get(honest.peer_id)
            assert entry is not None
            assert entry.tried
            assert found.book.candidates(1, clock.now(), exclude=[one.peer for one in told])


# Suggestions


def suggestion(number: int, found: Discovery) -> PeerInfo:
    return PeerInfo(identity=identity_of(Signer(seed(number)).public_key), record=found.record)


async def test_peers_that_a_neighbour_suggests_are_dialled_up_to_the_most(tmp_path: Path) -> None:
    async with (
        finder(2, tmp_path) as (two, _),
        finder(3, tmp_path) as (three, theirs),
        finder(1, tmp_path, [address(two)], least=1, most=2) as (one, found),
    ):
        await until(lambda: one.is_connected(two.peer_id))
        nobody = PeerInfo(identity=identity_of(made_up.signer(5).public_key))
        found.suggested(two.peer_id, [nobody, suggestion(3, theirs)])
        await until(lambda: one.is_connected(three.peer_id))
        async with finder(4, tmp_path) as (_, fourth):
            found.suggested(two.peer_id, [suggestion(4, fourth)])
            assert found.record_of(fourth._host.peer_id) == fourth.record
            assert found._choose() == ([], False)
        found.suggested(two.peer_id, [PeerInfo(identity=b"other", record=theirs.record)])
        assert one.counters.peer_faults == 1


async def test_the_records_of_neighbours_go_from_the_exchange_into_prunes_and_back(tmp_path: Path) -> None:
    """Three nodes with gossip: one leaves a topic, and tells each of the others where the third is."""
    async with contextlib.AsyncExitStack() as stack:
        made = [await stack.enter_async_context(finder(number, tmp_path, least=1)) for number in (1, 2, 3)]
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        gossips = []
        for host, found in made:
            gossip = Gossip(host, ChainId("test-1"))
            gossip.record_of, gossip.on_suggest = found.record_of, found.suggested
            found.exchange.on_record = gossip.recorded
            gossip.subscribe(Topic.ORDERS, None)  # type: ignore[arg-type]
            nursery.start_soon(gossip.run)
            gossips.append(gossip)
        (hub, _), (two, knows), (three, third) = made
        await two.connect(address(hub))
        await three.connect(address(hub))
        await until(lambda: len(gossips[0].subscribers(Topic.ORDERS)) == 2)
        await until(lambda: gossips[0].router._neighbours[three.peer_id].record == third.record)  # type: ignore[index]
        knows.book.forget(three.peer_id)
        name = gossips[0].router.topics[0]
        gossips[1].router.scores.application(hub.peer_id, 50.0)  # type: ignore[arg-type]
        gossips[0]._perform(gossips[0].router.unsubscribe(name))
        await until(lambda: knows.record_of(three.peer_id) == third.record)
        await until(lambda: two.is_connected(three.peer_id))


# Bans and caps


async def test_bans_survive_a_restart(tmp_path: Path) -> None:
    async with hosts(1) as (bad,):
        async with finder(5, tmp_path) as (host, found):
            found.found(address(bad), LOCAL)
            for _ in range(limits.PEER_FAULTS):
                host.blame(bad.peer_id, PeerFault("test.fault", "nonsense"))
            assert found._allowed(list(found.book)) == []
        async with finder(5, tmp_path) as (host, found):
            with pytest.raises(Refused, match=r"network\.banned"):
                await host.connect(address(bad))
            await bad.connect(address(host))
            await until(lambda: not bad.peers())
            assert host.peers() == []
            host.bans.lift(bad.peer_id)
        async with finder(5, tmp_path) as (host, _):
            assert await host.connect(address(bad)) == bad.peer_id


async def test_a_network_takes_no_more_than_its_share_and_who_fills_all_leaves_room_to_dial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_PER_NETWORK", 2)
    monkeypatch.setattr(limits, "CONNECTIONS_OUTBOUND", 4)
    for slots, most in ((Slots(100, network=lambda _ip: "one"), 2), (Slots(7), 3)):
        async with open_host(seed(9), slots=slots) as host, hosts(5) as others:
            for other in others:
                with contextlib.suppress(Unreachable):
                    await other.connect(address(host))
            await until(lambda host=host, most=most: len(host.peers()) == most)  # type: ignore[misc]
            assert host._swarm.turned_away == 5 - most
            outside = next(other for other in others if not other.is_connected(host.peer_id))
            assert await host.connect(address(outside)) == outside.peer_id
            await host.drop(others[0].peer_id, "room")
            await until(lambda slots=slots, most=most: slots.total == most - 1)  # type: ignore[misc]
