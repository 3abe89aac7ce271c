"""A node that lies, on real streams: it asks an honest node, and answers as that does except for its lie.

    async with lying(network, lie) as (tenant, liar):
        ...the tenant talks to the liar and to two honest nodes of a running network

A lie is a function from the liar to the methods of `/fondaco/light/1` that it replaces, or, below those, what it
does with every stream. Tenants hear it before the honest nodes: whoever is first is believed first.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.network import address

from fondaco.consensus.ledger.genesis import Genesis
from fondaco.node.genesis_file import read_genesis
from fondaco.node.keys.keystore import Keystore
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.network.rpc import RpcClient, RpcServer
from fondaco.node.network.stream import Stream
from fondaco.node.tenant import nodes
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.light import LightClient
from fondaco.node.testnet import Plan
from fondaco.protocol import limits
from fondaco.protocol.frames import hello
from fondaco.protocol.light import PROTOCOL

Method = Callable[..., Any]
AHEAD_S = 0.3
"""Honest nodes give the liar so long to be the first."""
STREAMS = ("watch_record", "watch_order")
METHODS = (
    "genesis",
    "head",
    "block",
    "record",
    "submit_transaction",
    "transaction",
    "submit_order",
    "providers",
    "auditors",
    "live_leases",
    "report_fork",
    *STREAMS,
)


class Liar:
    """A host that serves what an honest node serves, and asks that node for it."""

    def __init__(self, host: Host, upstream: PeerId, genesis: Genesis, keys: Path) -> None:
        self.host = host
        self.genesis = genesis
        self.chain = genesis.chain
        self.keys = keys
        """Where the keys of validators are, for what takes them."""
        self.tenant: Tenant | None = None
        """Whom it lies to."""
        self.spoken: Counter[bytes] = Counter()
        """Requests answered, by what was asked."""
        self._upstream = upstream
        self._rpc = RpcClient(host, PROTOCOL, hello=hello(self.chain))

    @property
    def peer(self) -> PeerId:
        return self.host.peer_id

    async def ask(self, method: str, *params: Any) -> Any:
        """What the honest node says."""
        return await self._rpc.call(self._upstream, method, list(params), timeout_ms=limits.TX_LIFE_MS)

    async def told(self, method: str, *params: Any) -> AsyncGenerator[Any, None]:
        async with self._rpc.stream(self._upstream, method, list(params)) as items:
            async for item in items:
                yield item

    def serve(self, changed: dict[str, Method]) -> None:
        methods = {name: changed.get(name) or self._honest(name) for name in METHODS}
        RpcServer(
            self.host,
            PROTOCOL,
            {name: method if name in STREAMS else self._counted(name, method) for name, method in methods.items()},
            hello=hello(self.chain),
        )

    def _honest(self, name: str) -> Method:
        async def answer(peer: str, params: Any) -> Any:
            return await self.ask(name, *params)

        async def tell(peer: str, params: Any) -> Any:
            async with aclosing(self.told(name, *params)) as told:
                async for item in told:
                    yield item

        return tell if name in STREAMS else answer

    def _counted(self, name: str, method: Method) -> Method:
        async def answer(peer: str, params: Any) -> Any:
            try:
                return await method(peer, params)
            finally:
                self.spoken[question(name, params)] += 1

        return answer


def question(method: str, params: Any) -> bytes:
    return repr((method, params)).encode()


@dataclass(frozen=True, slots=True)
class Lie:
    """One way of lying, and what comes of it."""

    methods: Callable[[Liar], dict[str, Method]] | None = None
    stream: Callable[[Stream], Awaitable[None]] | None = None
    """Instead: what is done with every stream of the protocol."""
    fault: str = ""
    """The code with which the liar is left out; empty where nothing can be proven."""
    slow: bool = False
    """Whether it may take long to lie, so that nobody waits for it to be the first."""


def distant(liar: Liar) -> type[RpcClient]:
    """A client to whom all nodes are farther away than the liar."""

    class Distant(RpcClient):
        async def call(
            self, peer: PeerId, method: str, params: Any, *, timeout_ms: int = limits.REQUEST_TIMEOUT_MS
        ) -> Any:
            if peer != liar.peer and (liar.tenant is None or liar.peer in liar.tenant.light.peers):
                asked = question(method, params)
                before = liar.spoken[asked]
                with trio.move_on_after(AHEAD_S):
                    while liar.spoken[asked] <= before:
                        await trio.sleep(0.002)
            return await super().call(peer, method, params, timeout_ms=timeout_ms)

    return Distant


class Network:
    """A network that runs, and homes of tenants who know three nodes of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.plan = Plan.load(home)
        self.upstream = self.plan.members[-1].name
        """Whom liars ask."""

    def address(self, name: str) -> Address:
        return Address(next(member.address for member in self.plan.members if member.name == name))

    def provider(self, number: int) -> Any:
        """Its key."""
        return Keystore(self.home / "nodes" / f"provider-{number}" / "keys").info("provider").public_key

    def make_home(self, home: Path, addresses: Sequence[str]) -> Path:
        """Of a tenant with a new key, who is told of these nodes."""
        home.mkdir(parents=True)
        shutil.copy(self.home / "genesis.json", home)
        passphrase = secrets.token_urlsafe(8)
        (home / "passphrase").write_text(passphrase)
        (home / "passphrase").chmod(0o600)
        Keystore(home / "keys").create("tenant", passphrase)
        members = [
            {"name": f"node-{number}", "role": "full", "address": str(one), "api": ""}
            for number, one in enumerate(addresses)
        ]
        (home / "testnet.json").write_text(json.dumps({"chain": self.plan.chain, "members": members}))
        return home


@asynccontextmanager
async def liars(network: Network, *lies: Lie) -> AsyncIterator[list[Liar]]:
    """Nodes that lie, each in its own way."""
    if not lies:
        yield []
        return
    async with open_host(secrets.token_bytes(32)) as host:
        upstream = await host.connect(network.address(network.upstream))
        liar = Liar(host, upstream, read_genesis(network.home / "genesis.json"), network.home / "nodes")
        lie = lies[0]
        if lie.stream is not None:
            host.handle(PROTOCOL, lie.stream)
        else:
            assert lie.methods is not None
            liar.serve(lie.methods(liar))
        async with liars(network, *lies[1:]) as others:
            yield [liar, *others]


@asynccontextmanager
async def lying(
    network: Network, home: Path, *lies: Lie, honest: int = 2
) -> AsyncIterator[tuple[Tenant, list[Liar]]]:
    """A tenant who talks to these liars and to so many honest nodes."""
    async with liars(network, *lies) as found:
        addresses = [address(liar.host) for liar in found] + [
            network.address(one.name) for one in network.plan.members[:honest]
        ]
        network.make_home(home, addresses)
        with pytest.MonkeyPatch.context() as patch:
            if not lies[0].slow:
                patch.setattr(nodes, "RpcClient", distant(found[0]))
            async with Tenant.connect(home) as tenant:
                assert len(tenant.light.known) == len(addresses)
                for liar in found:
                    liar.tenant = tenant
                yield tenant, found


def buffered(light: LightClient) -> int:
    """Bytes of answers to streams that lie unread, by node the most."""
    return max(
        (items.buffered for link in light._rpc._links.values() for items in link._streams.values()), default=0
    )
