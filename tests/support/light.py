"""Light nodes and what they ask: real hosts on loopback, honest nodes over real chains, and liars."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.support.network import address, seed

from fondaco.node.book import Book
from fondaco.node.chain import Chain
from fondaco.node.light_service import LightService
from fondaco.node.mempool import Mempool
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import PeerId
from fondaco.node.network.rpc import RpcServer
from fondaco.node.tenant.light import LightClient
from fondaco.protocol.frames import hello
from fondaco.protocol.light import PROTOCOL, Fork
from fondaco.protocol.market import SignedOrder
from fondaco.protocol.scalars import Hash, OrderId, TxId

Method = Callable[..., Any]


class Full:
    """What an honest full node serves: chain, mempool, book."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.mempool = Mempool(chain)
        self.book = Book(chain)
        self.forks: list[Fork] = []
        """Reported by light clients."""
        self.service = LightService(chain, self.book, self._submit, self._submit_order, self._report_fork)

    async def _submit(self, raw: bytes) -> TxId:
        return self.mempool.add(raw)

    async def _submit_order(self, signed: SignedOrder, peer: str) -> OrderId:
        return self.book.add_order(signed, peer)

    async def _report_fork(self, fork: Fork) -> Hash:
        self.forks.append(fork)
        return Hash(bytes(32))

    def methods(self, **changed: Method) -> dict[str, Method]:
        """Those of an honest node, some of them replaced by lies."""
        return {**self.service.methods(), **changed}


class Asked:
    """A light client and the nodes it talks to, in order."""

    def __init__(self, client: LightClient, hosts: Sequence[Host]) -> None:
        self.client = client
        self.hosts = hosts

    def peer(self, index: int) -> PeerId:
        return self.hosts[index].peer_id

    def left_out(self) -> list[int]:
        return [number for number, host in enumerate(self.hosts) if host.peer_id not in self.client.peers]


@asynccontextmanager
async def asking(chain: Chain, *nodes: Mapping[str, Method]) -> AsyncIterator[Asked]:
    """A light client of `chain`'s genesis, connected to nodes that answer with these methods."""
    async with AsyncExitStack() as stack:
        hosts = []
        for number, methods in enumerate(nodes):
            host = await stack.enter_async_context(open_host(seed(number + 10)))
            RpcServer(host, PROTOCOL, dict(methods), hello=hello(chain.id))
            hosts.append(host)
        own = await stack.enter_async_context(open_host(seed(9), None))
        client = await LightClient.connect(chain.genesis, own, [address(host) for host in hosts])
        yield Asked(client, hosts)
