"""Attacks by messages: floods of bad ones, of good ones beyond any quota, and of old ones."""

from __future__ import annotations

import contextlib
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import trio
from tests.support.attack_wire import GONE
from tests.support.attackers import Gossiper, Target, attack, cut_off, peer_at
from tests.support.siege import rich
from tests.support.workloads import group

from fondaco.node import clock
from fondaco.node.gossip import Topic
from fondaco.node.network.rpc import RpcClient
from fondaco.protocol import codec, light
from fondaco.protocol.errors import FondacoError, Refused
from fondaco.protocol.frames import hello
from fondaco.protocol.gossip import wire
from fondaco.protocol.gossip.wire import Message, Rpc
from fondaco.protocol.market import Bid, Order, SignedBid, SignedOrder, order_id
from fondaco.protocol.messages import Transfer
from fondaco.protocol.scalars import (
    ChainId,
    GroupIndex,
    Hash,
    MicroCredits,
    Millis,
    Salt,
    Signature,
)
from fondaco.protocol.signing import Signer
from fondaco.protocol.transactions import sign_transaction

MINUTE = 60_000
BATCH = 50


def order(chain: ChainId, signer: Signer, *, deposit: int = 2_000_000) -> SignedOrder:
    made = Order(
        tenant=signer.public_key,
        groups=(group(price=1_000),),
        commitments=(Hash(secrets.token_bytes(32)),),
        reclamation_window_ms=Millis(0),
        deposit=MicroCredits(deposit),
        reply_peers=(),
        expires_at=Millis(clock.now() + MINUTE),
        salt=Salt(secrets.token_bytes(16)),
    )
    return SignedOrder(order=made, signature=signer.sign(chain, made))


def bid(chain: ChainId, provider: Signer, on: SignedOrder) -> SignedBid:
    made = Bid(
        order=order_id(chain, on.order),
        group=GroupIndex(0),
        provider=provider.public_key,
        price_per_hour=MicroCredits(1),
        units=on.order.groups[0].units,
        reclamation_window_ms=Millis(0),
        peer="peer",
        addresses=("/ip4/127.0.0.1/tcp/1",),
        serial=0,
        expires_at=Millis(clock.now() + MINUTE),
    )
    return SignedBid(bid=made, signature=provider.sign(chain, made))


def transfer(chain: ChainId, signer: Signer) -> bytes:
    message = Transfer(to=signer.public_key, amount=MicroCredits(1))
    expires_at = Millis(clock.now() + MINUTE)
    salt = Salt(secrets.token_bytes(16))
    return codec.encode(sign_transaction(signer, chain, (message,), expires_at=expires_at, salt=salt))


def forged(data: bytes) -> bytes:
    """The same with another signature, the last field of each."""
    return data[:-32] + secrets.token_bytes(32)


def kinds(chain: ChainId) -> dict[str, tuple[Topic, Callable[[], bytes]]]:
    """What an invalid flood is made of; each item is another one."""
    signer, fresh = rich(0), order(chain, rich(0))
    nobody = SignedOrder(order=replace(fresh.order, groups=()), signature=Signature(bytes(64)))
    return {
        "orders with bad signatures": (Topic.ORDERS, lambda: forged(codec.encode(order(chain, signer)))),
        "bids with bad signatures": (Topic.BIDS, lambda: forged(codec.encode(bid(chain, signer, fresh)))),
        "transactions with bad signatures": (Topic.TRANSACTIONS, lambda: forged(transfer(chain, signer))),
        "bytes that are nothing": (Topic.ORDERS, lambda: secrets.token_bytes(300)),
        "a batch that is none": (Topic.BIDS, lambda: b""),
        "orders for nothing": (Topic.ORDERS, lambda: codec.encode(nobody)),
    }


@attack
async def invalid_flood(targets: list[Target]) -> dict[str, Any]:
    """Each kind from a peer of its own, as fast as it can, until it is cut off."""
    (target,) = targets
    seen: dict[str, Any] = {}

    async def one(name: str, number: int, topic: Topic, make: Callable[[], bytes]) -> None:
        async with peer_at(f"127.6.{number}.1", 4_000 + number) as host:
            evil = Gossiper(host, target)
            await evil.start()
            sent = 0
            with trio.move_on_after(15), contextlib.suppress(*GONE):
                while host.is_connected(target.peer):
                    await evil.publish(topic, *[make() for _ in range(10)])
                    sent += 10
            seen[name] = [sent, await cut_off(host, target)]

    async with trio.open_nursery() as nursery:
        for number, (name, (topic, make)) in enumerate(kinds(target.chain).items()):
            nursery.start_soon(one, name, number, topic, make)
    return seen


@attack
async def valid_flood(targets: list[Target], *, count: int, rate: int) -> dict[str, Any]:
    """So many of each kind, all of it well made, of one tenant and by one peer for each kind; how many went.

    Orders by gossip and by request, transactions by both as well, and bids of one who is no provider.
    """
    seen: dict[str, Any] = {}
    target = targets[0]
    chain = target.chain
    fresh = order(chain, rich(1))
    makes: dict[Topic, Callable[[], bytes]] = {
        Topic.ORDERS: lambda: codec.encode(order(chain, rich(1))),
        Topic.BIDS: lambda: codec.encode(
            bid(chain, rich(2), order(chain, rich(1)) if secrets.randbelow(2) else fresh)
        ),
        Topic.TRANSACTIONS: lambda: transfer(chain, rich(2)),
    }

    async def by_gossip(topic: Topic, number: int) -> None:
        async with peer_at(f"127.7.{number}.1", 5_000 + number) as host:
            evil = Gossiper(host, target)
            await evil.start()
            began, sent = trio.current_time(), 0
            with contextlib.suppress(*GONE):
                while sent < count and host.is_connected(target.peer):
                    if sent < (trio.current_time() - began) * rate:
                        await evil.publish(topic, *[makes[topic]() for _ in range(BATCH)])
                        sent += BATCH
                    await trio.sleep(0.01)
            seen[f"{topic} by gossip"] = sent

    async def by_request(method: str, topic: Topic, number: int) -> None:
        async with peer_at(f"127.7.{number}.1", 5_000 + number) as host:
            peer = await host.connect(target.address)
            client = RpcClient(host, light.PROTOCOL, hello=hello(chain))
            taken, refused = 0, dict[str, int]()

            async def ask() -> None:
                nonlocal taken
                while True:
                    try:
                        await client.call(peer, method, [makes[topic]()])
                        taken += 1
                    except FondacoError as error:
                        refused[error.code] = refused.get(error.code, 0) + 1
                        if not isinstance(error, Refused):
                            await trio.sleep(0.2)

            try:
                async with trio.open_nursery() as nursery:
                    for _ in range(32):
                        nursery.start_soon(ask)
            finally:
                seen[f"{topic} by request"] = {"taken": taken, **refused}

    async with trio.open_nursery() as requests:
        requests.start_soon(by_request, "submit_order", Topic.ORDERS, 10)
        requests.start_soon(by_request, "submit_transaction", Topic.TRANSACTIONS, 11)
        async with trio.open_nursery() as nursery:
            for number, topic in enumerate(makes):
                nursery.start_soon(by_gossip, topic, number)
        requests.cancel_scope.cancel()
    return seen


@attack
async def replays(targets: list[Target], *, within_s: float) -> dict[str, Any]:
    """What was heard by gossip is said again and again, as it was and in other batches, until we are cut off."""
    (target,) = targets
    heard: dict[Topic, deque[bytes]] = {topic: deque(maxlen=200) for topic in Topic}
    batches: deque[Message] = deque(maxlen=200)
    sent = 0
    async with peer_at("127.8.1.1", 6_000) as host:
        evil = Gossiper(host, target)
        by_name = {evil.topic(topic): topic for topic in Topic}

        def note(rpc: Rpc) -> None:
            for message in rpc.messages:
                batches.append(message)
                items = codec.unpack(message.data)
                assert isinstance(items, list)
                heard[by_name[message.topic]] += items

        evil.on_rpc = note
        await evil.start()
        with trio.move_on_after(30):
            while not (heard[Topic.ORDERS] and heard[Topic.BIDS] and heard[Topic.TRANSACTIONS]):
                await trio.sleep(0.1)
        began = trio.current_time()
        chance = secrets.SystemRandom()
        with contextlib.suppress(*GONE):
            while trio.current_time() - began < within_s and host.is_connected(target.peer):
                for message in list(batches):
                    await evil.raw(wire.delimit(wire.encode(Rpc(messages=(message,)))))
                    sent += 1
                for topic, items in heard.items():
                    if items:
                        for _ in range(20):
                            await evil.publish(topic, *chance.choices(list(items), k=BATCH))
                            sent += 1
        took = round(trio.current_time() - began, 1)
        return {"sent": sent, "seconds": took, "banned": await cut_off(host, target), "batches": len(batches)}
