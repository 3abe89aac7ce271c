"""A js-libp2p peer among whole nodes, each a process of its own, takes part in their market."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import trio
from tests.support.js_peer import JsPeer, js_peer
from tests.support.network import until
from tests.support.networks import network

from fondaco.node import demo, testnet
from fondaco.node.gossip import Topic, decode_batch, topic_name
from fondaco.node.network.peers import Address, peer_of
from fondaco.node.tenant import ordering
from fondaco.node.tenant.client import Tenant
from fondaco.node.testnet import Member, Plan
from fondaco.protocol import codec, sdl
from fondaco.protocol.market import Answer, SignedBid, check_bid
from fondaco.protocol.scalars import ChainId, OrderId

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]
PATIENCE_S = 60


async def test_an_order_that_js_publishes_reaches_every_book_and_the_bids_come_back_to_it(tmp_path: Path) -> None:
    """It knows one validator only: the order goes from node to node, and so do the providers' bids."""
    plan = testnet.create(tmp_path, validators=3, providers=2, every_api=True)
    async with network(tmp_path), Tenant.connect(tmp_path) as tenant, js_peer() as js:
        order = await drafted(tenant)
        chain = ChainId(plan.chain)
        orders, bids = topic_name(chain, Topic.ORDERS), topic_name(chain, Topic.BIDS)
        await join(js, Address(plan.members[0].address), bids)

        assert await js.publish(orders, codec.pack([codec.encode(order.signed)])) == 1

        for member in plan.members:
            await until_in_book(member, order.id)
        await until(lambda: len(bids_on(order.id, js.got(bids))) == 2)
        for signed in bids_on(order.id, js.got(bids)):
            check_bid(chain, signed)


async def drafted(tenant: Tenant) -> ordering.Draft:
    """An order that its tenant can pay, as every node knows."""
    funded = await tenant.wallet.ask_faucet()
    assert funded.credits
    await all_know(Plan.load(tenant.home), tenant.light.trusted.height)
    stack = sdl.parse(demo.HELLO.read_bytes())
    return ordering.draft(tenant.light, tenant.wallet.signer, stack, await tenant.wallet.params(), deposit=None)


async def all_know(plan: Plan, height: int) -> None:
    """Wait until every node has executed the block at `height`."""
    async with httpx.AsyncClient() as client:
        for member in plan.members:
            with trio.fail_after(PATIENCE_S):
                while (await client.get(f"{member.api}/status")).json()["height"] < height:
                    await trio.sleep(0.05)


async def join(js: JsPeer, node: Address, topic: str) -> None:
    """Dial one node, and wait until each side knows that the other wants `topic`."""
    await js.ask("subscribe", topic=topic)
    await js.dial(node)
    with trio.fail_after(PATIENCE_S):
        while peer_of(node) not in await js.mesh(topic):
            await trio.sleep(0.05)


async def until_in_book(member: Member, order: OrderId) -> None:
    async with httpx.AsyncClient() as client:
        with trio.fail_after(PATIENCE_S):
            while True:
                listed = (await client.get(f"{member.api}/orders")).json()["items"]
                if order.hex() in [one["id"] for one in listed]:
                    return
                await trio.sleep(0.05)


def bids_on(order: OrderId, batches: list[bytes]) -> list[SignedBid]:
    """The bids on `order` among what was heard; declines and other orders' answers left out."""
    said: list[Answer] = [codec.decode_union(item, Answer) for batch in batches for item in decode_batch(batch)]
    return [one for one in said if isinstance(one, SignedBid) and one.bid.order == order]
