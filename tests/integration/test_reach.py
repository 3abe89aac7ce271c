"""What a node's ways of reach tell its address book, and its own signed record."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from tests.support.network import CHAIN, HELLO, address, hosts, seed, until
from tests.support.reach import hop

from fondaco.node.config import NodeConfig
from fondaco.node.network.address_book import AddressBook
from fondaco.node.network.discovery import Discovery
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.kad import Kad
from fondaco.node.network.peers import through
from fondaco.node.network.peerstore import PeerStore
from fondaco.node.network.relay import Relay
from fondaco.node.reach import Reach, reach_of
from fondaco.protocol.peer_record import open_record
from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.circuit import Reserve
from fondaco.protocol.signing import Signer


@contextlib.asynccontextmanager
async def node(home: Path, number: int, **values: object) -> AsyncIterator[tuple[Host, Discovery, Reach]]:
    """As much of a node as how it is reached takes."""
    settings = NodeConfig(home=home, name="n", **{"listen": "", **values})  # type: ignore[arg-type]
    store = PeerStore.open(home / f"{number}.db")
    try:
        async with open_host(seed(number), settings.listen or None) as host, trio.open_nursery() as nursery:
            book = AddressBook(host.peer_id, seed=number)
            discovery = Discovery(host, book, store, Signer(seed(number)), HELLO, announce=settings.announce)
            reach = reach_of(settings, host, CHAIN, discovery)
            nursery.start_soon(reach.run)
            yield host, discovery, reach
            nursery.cancel_scope.cancel()
    finally:
        store.close()


async def test_a_place_with_a_relay_is_in_the_nodes_record_for_as_long_as_it_is_kept(tmp_path: Path) -> None:
    async with hosts(1) as (middle,):
        Relay(middle)
        relay = address(middle)
        async with node(tmp_path, 2, relays=(relay,)) as (host, discovery, reach):
            assert discovery.record == b"", "it is nowhere yet"
            await reach.wait_reachable()
            assert list(open_record(discovery.record).texts()) == [f"{relay}/p2p-circuit"]
            assert reach.addresses() == (through(relay, host.peer_id),)
            assert reach.counts() == {"kept": 1, "circuits_in": 0, "table": 0, "sayings": 0}
            await middle.drop(host.peer_id, "test")
            await until(lambda: not discovery.record)
            assert reach.addresses() == (through(relay, host.peer_id),), "what the ledger has does not change"


async def test_what_is_announced_takes_the_place_of_where_the_node_listens(tmp_path: Path) -> None:
    async with node(tmp_path, 2, listen="127.0.0.1:0", announce=("203.0.113.7:4001",)) as (host, _, reach):
        assert reach.addresses() == (f"/ip4/203.0.113.7/tcp/4001/p2p/{host.peer_id}",)
        await reach.wait_reachable()


async def test_a_relay_counts_what_it_gave(tmp_path: Path) -> None:
    async with node(tmp_path, 2, listen="127.0.0.1:0", relay=True) as (host, _, reach), hosts(1) as (other,):
        await other.connect(address(host))
        await hop(other, host.peer_id, Reserve())
        counts = reach.counts()
        assert (counts["served_places"], counts["reservations"], counts["circuits"]) == (1, 1, 0)


async def test_what_the_table_of_peers_hears_comes_into_the_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "KAD_REFRESH_SOON_MS", 50)
    async with hosts(2) as (first, second), trio.open_nursery() as nursery:
        nursery.start_soon(Kad(first, CHAIN, addresses=first.addresses, peers=[]).run)
        known = Kad(second, CHAIN, addresses=second.addresses, peers=[address(first)])
        while not await known.publish():  # a node that heard of nobody new looks again after minutes
            await trio.sleep(0.01)
        nursery.start_soon(known.run)
        async with node(tmp_path, 3, peers=(address(first),), kad=True) as (host, discovery, reach):
            await until(lambda: discovery.book.get(second.peer_id))
            assert await reach.find(second.peer_id) == [address(second)]
            assert not host.is_connected(second.peer_id) or host.dialled(second.peer_id)
        nursery.cancel_scope.cancel()
