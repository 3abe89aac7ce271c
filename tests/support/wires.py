"""Cables between the processes of a test network, which a test can pull and plug in again.

Every node listens where it did, but whoever dials it is told the address of a forwarder in the test process, one
for each pair of nodes and direction, and one for each node's clients. `pull` stops a node's cables. Nothing is
closed and nothing is lost: bytes wait, as TCP has them wait while no packet gets through, and new connections
hang. Needs no rights and no network but loopback.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from fondaco.node import config
from fondaco.node.network.peers import Address, Endpoint, endpoint, peer_of
from fondaco.node.testnet import Member, Plan

CHUNK = 65_536
CLIENTS = "clients"


@dataclass(eq=False)
class Wires:
    """All cables of a network; made by `wired`."""

    pulled: set[str] = field(default_factory=set)
    changed: trio.Event = field(default_factory=trio.Event)

    def pull(self, name: str) -> None:
        """Nothing gets to `name` or away from it any more."""
        self.pulled.add(name)

    def plug_in(self, name: str) -> None:
        self.pulled.discard(name)
        self.changed.set()
        self.changed = trio.Event()

    async def passable(self, ends: tuple[str, str]) -> None:
        """Return when the cable between two nodes lets something through."""
        while self.pulled.intersection(ends):
            await self.changed.wait()

    async def lay(self, nursery: trio.Nursery, ends: tuple[str, str], to_port: int) -> int:
        """A cable that ends at a loopback port; the port where it begins."""

        async def carry(near: trio.SocketStream) -> None:
            with contextlib.suppress(OSError, trio.BrokenResourceError):
                await self.passable(ends)
                async with await trio.open_tcp_stream("127.0.0.1", to_port) as far, trio.open_nursery() as both:
                    both.start_soon(self._pump, ends, near, far, both.cancel_scope)
                    both.start_soon(self._pump, ends, far, near, both.cancel_scope)

        listeners: list[trio.SocketListener] = await nursery.start(
            lambda task_status: trio.serve_tcp(carry, 0, host="127.0.0.1", task_status=task_status)
        )
        port: int = listeners[0].socket.getsockname()[1]
        return port

    async def _pump(
        self, ends: tuple[str, str], source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        """Bytes one way, until either end is closed for good."""
        try:
            while data := await source.receive_some(CHUNK):
                await self.passable(ends)
                await sink.send_all(data)
            await self.passable(ends)
            await sink.send_eof()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await self.passable(ends)  # a reset is a packet, too
            scope.cancel()


@contextlib.asynccontextmanager
async def wired(plan: Plan) -> AsyncIterator[Wires]:
    """Lay the cables of a network that is not running yet, and tell its nodes and clients to use them."""
    wires = Wires()
    ends = {peer_of(Address(member.address)): member for member in plan.members}
    async with trio.open_nursery() as nursery:

        async def by_wire(near: str, address: str) -> str:
            there = endpoint(address)
            assert there.peer is not None
            port = await wires.lay(nursery, (near, ends[there.peer].name), there.port)
            return Endpoint(ip="127.0.0.1", port=port, peer=there.peer).address(there.peer)

        for member in plan.members:
            home = plan.home / "nodes" / member.name
            node = config.load(home)
            peers = tuple([await by_wire(member.name, address) for address in node.peers])
            (home / "node.toml").write_text(config.dump(replace(node, peers=peers)), encoding="utf-8")
        members = [replace(one, address=await by_wire(CLIENTS, one.address)) for one in plan.members]
        _write_members(plan.home / "testnet.json", members)
        try:
            yield wires
        finally:
            nursery.cancel_scope.cancel()


def _write_members(path: Path, members: list[Member]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    for entry, member in zip(document["members"], members, strict=True):
        entry["address"] = member.address
    path.write_text(json.dumps(document), encoding="utf-8")
