"""Attackers, run as a process: `python -m tests.support.attackers ATTACK HOME JSON`; what they saw, as JSON.

Every attack is a function of its targets; its peers dial from addresses of their own: loopback has plenty.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

import trio

from fondaco.node.gossip import PROTOCOL as GOSSIP
from fondaco.node.gossip import Topic, topic_name
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import Address, PeerId, endpoint, peer_of
from fondaco.node.testnet import Plan
from fondaco.protocol import codec
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.gossip import wire
from fondaco.protocol.gossip.control import Control
from fondaco.protocol.gossip.wire import Rpc, Subscription
from fondaco.protocol.scalars import ChainId

Attack = Callable[..., Awaitable[dict[str, Any]]]
ATTACKS: dict[str, Attack] = {}
MODULES = ("attack_wire", "attack_floods", "attack_protocols", "attack_swarms")
source: ContextVar[str] = ContextVar("source", default="127.0.0.1")
"""Where connections of this task are dialled from."""


def attack(function: Attack) -> Attack:
    """Make it known by its name."""
    ATTACKS[function.__name__] = function
    return function


def dial_from_source() -> None:
    """Have the library dial from `source`; a socket of ours as well."""
    plain = trio.open_tcp_stream

    @wraps(plain)
    async def open_tcp_stream(host: Any, port: int, **options: Any) -> trio.SocketStream:
        return await plain(host, port, local_address=source.get(), **options)

    trio.open_tcp_stream = open_tcp_stream


class Target:
    """A node under attack."""

    def __init__(self, plan: Plan, name: str) -> None:
        (member,) = (one for one in plan.members if one.name == name)
        self.chain = ChainId(plan.chain)
        self.name = name
        self.address = Address(member.address)
        self.peer: PeerId = peer_of(self.address)
        self.port = endpoint(member.address).port

    async def socket(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


@contextlib.asynccontextmanager
async def peer_at(address: str, number: int) -> AsyncIterator[Host]:
    """A peer of its own, that dials from `address`."""
    token = source.set(address)
    try:
        async with open_host(number.to_bytes(32, "big"), None) as host:
            yield host
    finally:
        source.reset(token)


async def cut_off(host: Host, target: Target, *, within_s: float = 10.0) -> bool:
    """Whether `target` has banned us: it hangs up, and hangs up again when we come back."""
    with trio.move_on_after(within_s):
        while True:
            with contextlib.suppress(FondacoError):
                await host.connect(target.address)
                with trio.move_on_after(0.5):
                    while host.is_connected(target.peer):
                        await host.wait_for_change()
                    return True
            await trio.sleep(0.1)
    return False


async def reached(host: Host, target: Target) -> PeerId:
    """Connect, trying again where a busy machine cuts the handshake short. Raises `Unreachable` in the end."""
    for _ in range(10):
        with contextlib.suppress(FondacoError):
            return await host.connect(target.address)
        await trio.sleep(0.2)
    return await host.connect(target.address)


class Gossiper:
    """Speaks gossip as it likes: no router, one stream a side."""

    def __init__(self, host: Host, target: Target) -> None:
        self.host = host
        self.target = target
        self.stream: Any = None
        self.heard: list[Rpc] = []
        self.on_rpc: Callable[[Rpc], None] = self.heard.append
        host.handle(GOSSIP, self._read)

    async def _read(self, stream: Any) -> None:
        reader = wire.DelimitedReader()
        while data := await stream.read():
            for payload in reader.feed(data):
                self.on_rpc(wire.decode(payload))

    async def start(self) -> None:
        """Connect and say that we want every topic, and that they be in our mesh."""
        await reached(self.host, self.target)
        self.stream = await self.host.open_stream(self.target.peer, GOSSIP)
        names = tuple(self.topic(topic) for topic in Topic)
        said = tuple(Subscription(topic=name, subscribe=True) for name in names)
        await self.say(Rpc(subscriptions=said, control=Control(graft=names)))

    def topic(self, topic: Topic) -> str:
        return topic_name(self.target.chain, topic)

    async def say(self, rpc: Rpc) -> None:
        await self.raw(wire.delimit(wire.encode(rpc)))

    async def raw(self, data: bytes) -> None:
        await self.stream.write(data)

    async def publish(self, topic: Topic, *items: bytes) -> None:
        message = wire.Message(topic=self.topic(topic), data=codec.pack(list(items)))
        await self.say(Rpc(messages=(message,)))


async def _main(name: str, home: Path, told: dict[str, Any]) -> dict[str, Any]:
    plan = Plan.load(home)
    targets = [Target(plan, one) for one in told.pop("targets")]
    return await ATTACKS[name](targets, **told)


def main() -> None:
    dial_from_source()
    for module in MODULES:
        importlib.import_module(f"tests.support.{module}")
    seen = trio.run(_main, sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    from tests.support import attackers

    attackers.main()
