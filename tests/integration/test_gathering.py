"""A tenant that was told of one node finds others by it, and believes neither what they are nor where."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
import trio
from tests.support import discovery as made_up
from tests.support.network import CHAIN, address, seed

from fondaco.node import clock
from fondaco.node.loopback import free_port
from fondaco.node.network.address_book import AddressBook
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.known_peers import Source
from fondaco.node.network.peer_exchange import PROTOCOL, Exchange
from fondaco.node.network.peers import Address, PeerId, endpoint
from fondaco.node.network.rpc import RpcClient, RpcServer
from fondaco.node.tenant import gathering
from fondaco.node.tenant.gathering import NODES, gather
from fondaco.protocol.errors import Unreachable
from fondaco.protocol.frames import hello
from fondaco.protocol.peer_record import open_record, seal
from fondaco.protocol.scalars import ChainId
from fondaco.protocol.signing import Signer


class Node:
    """A host that tells of peers, and of itself."""

    def __init__(self, host: Host, number: int, chain: ChainId) -> None:
        self.host = host
        where = endpoint(address(host)).multiaddr()
        self.record = seal(Signer(seed(number)), 1, [where])
        self.book = AddressBook(host.peer_id, seed=1)
        self.exchange = Exchange(host, self.book, hello(chain), lambda: self.record)
        self.exchange.serve()

    def knows(self, records: Sequence[bytes]) -> None:
        for record in records:
            self.book.learn_record(record, open_record(record), Source.local("test"), clock.now())


@contextlib.asynccontextmanager
async def nodes(count: int, *strange: int) -> AsyncIterator[tuple[Host, list[Node]]]:
    """A tenant's host, and so many nodes: the first knows all others; those in `strange` are of another chain."""
    async with contextlib.AsyncExitStack() as stack:
        own = await stack.enter_async_context(open_host(seed(99), None))
        made = []
        for index in range(count):
            host = await stack.enter_async_context(open_host(seed(index + 1)))
            made.append(Node(host, index + 1, ChainId("other-1") if index in strange else CHAIN))
        made[0].knows([node.record for node in made[1:]])
        yield own, made


async def test_of_one_node_two_others_are_learnt_and_no_more() -> None:
    async with nodes(6) as (own, made):
        found = await gather(CHAIN, own, [address(made[0].host)])
        assert len(found) == NODES
        assert next(iter(found)) == made[0].host.peer_id
        where = {node.host.peer_id: address(node.host) for node in made}
        assert found == {peer: where[peer] for peer in found}
        assert set(own.peers()) == set(found)
        with pytest.raises(Unreachable):
            await RpcClient(made[0].host, PROTOCOL, hello=hello(CHAIN)).call(own.peer_id, "swap", [b""])


async def test_what_those_that_were_found_know_is_asked_as_well() -> None:
    async with nodes(2) as (own, made), open_host(seed(50)) as host:
        last = Node(host, 50, CHAIN)
        made[1].knows([last.record])
        found = await gather(CHAIN, own, [address(made[0].host)])
        assert list(found) == [made[0].host.peer_id, made[1].host.peer_id, host.peer_id]


async def test_nobody_is_asked_where_enough_were_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with nodes(4) as (own, made):
        monkeypatch.delattr(gathering, "Exchange")
        found = await gather(CHAIN, own, [address(node.host) for node in made[:NODES]])
        assert set(found) == {node.host.peer_id for node in made[:NODES]}


async def test_nodes_of_another_chain_and_nodes_that_are_gone_are_passed_over() -> None:
    async with nodes(3, 1) as (own, made):
        with trio.fail_after(20):
            made[0].knows([made_up.record(60, "127.0.0.1")])
            found = await gather(CHAIN, own, [address(made[0].host)])
        assert list(found) == [made[0].host.peer_id, made[2].host.peer_id]
        assert set(own.peers()) == set(found)


async def test_a_node_that_names_none_or_lies_is_one_node() -> None:
    async def lie(_peer: PeerId, _params: object) -> object:
        return [b"", [b"garbage"]]

    for serve in (False, True):
        async with open_host(seed(1)) as host, open_host(seed(99), None) as own:
            if serve:
                RpcServer(host, PROTOCOL, {"swap": lie}, hello=hello(CHAIN))
            assert list(await gather(CHAIN, own, [address(host)])) == [host.peer_id]
            assert own.counters.peer_faults == serve


async def test_none_at_all_is_told() -> None:
    async with open_host(seed(99), None) as own:
        free = Address(f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{own.peer_id}")
        for told in ([], [free]):
            with pytest.raises(Unreachable, match="none of the network's nodes answers"):
                await gather(CHAIN, own, told)
