"""Attacks by many peers: a swarm that lies and forwards nothing, and one that would be all that a node hears."""

from __future__ import annotations

import contextlib
import secrets
from collections import Counter
from typing import Any

import trio
from tests.support.attack_floods import order
from tests.support.attack_wire import GONE
from tests.support.attackers import Gossiper, Target, attack, peer_at, reached
from tests.support.siege import rich

from fondaco.node.gossip import Topic
from fondaco.node.network.host import Host
from fondaco.node.network.rpc import RpcClient
from fondaco.protocol import codec, light
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.frames import hello
from fondaco.protocol.gossip.control import Control, IHave
from fondaco.protocol.gossip.wire import Rpc
from fondaco.protocol.market import SignedOrder, order_id


class Sybil:
    """One of a swarm: in every mesh that takes it, silent, and full of offers."""

    def __init__(self, host: Host, target: Target) -> None:
        self.gossiper = Gossiper(host, target)
        self.gossiper.on_rpc = self._note
        self.host = host
        self.target = target
        self.seen: Counter[str] = Counter()
        self.ids: list[bytes] = []

    def _note(self, rpc: Rpc) -> None:
        self.seen["messages"] += len(rpc.messages)
        self.seen["asked"] += len(rpc.control.iwant)
        self.seen["grafted"] += len(rpc.control.graft)
        self.seen["pruned"] += len(rpc.control.prune)
        for offer in rpc.control.ihave:
            self.ids = list(offer.ids)

    async def lie(self) -> None:
        """Offer what nobody has, ask for everything many times over, and graft again at once."""
        names = tuple(self.gossiper.topic(topic) for topic in Topic)
        lies = tuple(secrets.token_bytes(20) for _ in range(500))
        offers = tuple(IHave(topic=name, ids=lies) for name in names)
        wants = tuple(self.ids or lies) * 3
        await self.gossiper.say(Rpc(control=Control(ihave=offers, iwant=wants, graft=names)))


async def _swarm(target: Target, count: int, seconds: float, *, network: int, lying: bool) -> list[Sybil]:
    """So many sybils at one node, for so long after all have come; who is cut off comes back."""
    made: list[Sybil] = []

    async def one(number: int) -> None:
        async with peer_at(
            f"127.{network}.{number % 25}.{number // 25 + 1}", 20_000 + 100 * network + number
        ) as host:
            sybil = Sybil(host, target)
            made.append(sybil)
            while True:
                with contextlib.suppress(*GONE):
                    await sybil.gossiper.start()
                    sybil.seen["came"] += 1
                    while host.is_connected(target.peer):
                        if lying:
                            await sybil.lie()
                        await trio.sleep(0.5)
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
            await trio.sleep(0.05)
        with trio.move_on_after(60):
            while sum(sybil.seen["came"] > 0 for sybil in made) < count:
                await trio.sleep(0.1)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return made


@attack
async def sybils(targets: list[Target], *, count: int, seconds: float) -> dict[str, Any]:
    (target,) = targets
    made = await _swarm(target, count, seconds, network=9, lying=True)
    return dict(sum((sybil.seen for sybil in made), Counter()))


@attack
async def eclipse(targets: list[Target], *, count: int, seconds: float) -> dict[str, Any]:
    """Many quiet peers around the first target; does an order that is handed to the second get through to it?"""
    target, elsewhere = targets
    waits: list[float] = []

    async def honest() -> None:
        await trio.sleep(seconds)
        async with peer_at("127.98.1.1", 30_000) as host:
            near, far = await reached(host, target), await reached(host, elsewhere)
            client = RpcClient(host, light.PROTOCOL, hello=hello(target.chain))
            for _ in range(5):
                sent = order(target.chain, rich(3))
                began = trio.current_time()
                await client.call(far, "submit_order", [codec.encode(sent)])
                await _heard(client, near, sent)
                waits.append(round(trio.current_time() - began, 2))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(honest)
        made = await _swarm(target, count, seconds, network=10, lying=False)
    return {"order_heard_after_s": waits, **sum((sybil.seen for sybil in made), Counter())}


async def _heard(client: RpcClient, peer: Any, sent: SignedOrder) -> None:
    """Return when `peer` has the order in its book."""
    while True:
        with contextlib.suppress(FondacoError):
            async with client.stream(peer, "watch_order", [order_id(client._hello.chain, sent.order)]) as answers:
                with trio.move_on_after(0.2) as quiet:
                    async for _ in answers:
                        return
                if quiet.cancelled_caught:
                    return
        await trio.sleep(0.01)
