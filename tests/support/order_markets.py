"""A market to order in: a tenant at one or more real nodes, and two providers that everybody knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from tests.support.chains import Town
from tests.support.ledger import Actor
from tests.support.light import Asked, Full, asking

from fondaco.node import clock, demo
from fondaco.node.chain import Chain
from fondaco.node.tenant import ordering
from fondaco.node.tenant.ordering import Answers, Draft
from fondaco.protocol import sdl
from fondaco.protocol.market import SignedBid, SignedDecline
from fondaco.protocol.scalars import MicroCredits

HELLO = demo.HELLO.read_bytes()
PATIENCE_MS, WINDOW_MS = 5_000, 0
Answer = SignedBid | SignedDecline


def stack(text: bytes = HELLO) -> sdl.Stack:
    return sdl.parse(text)


def two_groups() -> sdl.Stack:
    return stack(twice())


def twice() -> bytes:
    """The demonstration's workload twice, in two placements."""
    text = HELLO.decode()
    placement = text.split("  placement:\n")[1].split("deployment:")[0]
    text = text.replace(placement, placement + placement.replace("anywhere", "elsewhere"))
    return (text + "    elsewhere:\n      profile: web\n      count: 1\n").encode()


class Market:
    """A tenant at one or more nodes, and two providers that everybody knows."""

    def __init__(self, town: Town, asked: Asked, nodes: list[Full]) -> None:
        self.town = town
        self.asked = asked
        self.light = asked.client
        self.nodes = nodes
        self.tenant, self.paul, self.petra = town.actors("tenant", "paul", "petra")
        self.heard: list[Answer] = []

    def draft(self, of: sdl.Stack | None = None, deposit: int | None = None) -> Draft:
        given = None if deposit is None else MicroCredits(deposit)
        params = self.town.genesis.params
        return ordering.draft(self.light, self.tenant.signer, of or stack(), params, deposit=given)

    def bid(self, provider: Actor, order: Draft, price: int, **other: Any) -> SignedBid:
        return provider.bid(order.signed, price, **other)

    async def collect(
        self,
        order: Draft,
        *answers: Answer | Callable[[], Awaitable[None]],
        window_ms: int = WINDOW_MS,
        patience_ms: int = PATIENCE_MS,
        wanted: int = 1,
    ) -> Answers:
        """Gather while these answers come to the first node, one after the other."""

        async def answer() -> None:
            while self.nodes[0].book.order(order.id) is None:
                await trio.sleep(0.005)
            for one in answers:
                if callable(one):
                    await one()
                else:
                    self.nodes[0].book.add_answer(one)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            with trio.fail_after(20):
                return await ordering.collect(
                    self.light,
                    order,
                    window_ms=window_ms,
                    patience_ms=patience_ms,
                    on_answer=self.heard.append,
                    wanted=wanted,
                )


def grown(town: Town, path: Path) -> Chain:
    chain = town.open(path)
    paul, petra = town.actors("paul", "petra")
    town.grow(chain, paul.registers(), petra.registers(), at=clock.now() - 100)
    return chain


@asynccontextmanager
async def market(path: Path, **changed: Any) -> AsyncIterator[Market]:
    """One honest node, or one some of whose methods are replaced; and such as tell only what they are given."""
    tell = [one for one in (changed.pop("honest", None), changed.pop("liar", None)) if one is not None]
    town = Town("tenant", "paul", "petra", faucet_credits=50_000_000)
    chain = grown(town, path / "chain.db")
    node = Full(chain)
    nodes = [node.methods(watch_order=one.watch_order) for one in tell] or [node.methods(**changed)]
    async with asking(chain, *nodes) as asked:
        yield Market(town, asked, [node])
    chain.close()


@asynccontextmanager
async def miner(here: Market) -> AsyncIterator[None]:
    """Puts into a block whatever waits, as validators would."""

    async def work() -> None:
        node = here.nodes[0]
        while True:
            raws = list(node.mempool.candidates())
            if raws:
                here.town.grow(node.chain, *raws, at=max(clock.now(), node.chain.head.time + 1))
            await trio.sleep(0.005)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        yield
        nursery.cancel_scope.cancel()
