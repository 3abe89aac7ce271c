"""Providers with real hosts, who bid on a tenant's order: some beside it, some behind a slow link."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from tests.support.chains import Town
from tests.support.ledger import Actor
from tests.support.light import Full, asking
from tests.support.network import address, seed
from tests.support.slow_link import slow_link

from fondaco.node import clock, demo
from fondaco.node.network.host import Host, open_host
from fondaco.node.tenant import measuring, ordering
from fondaco.node.tenant.choosing import Choice
from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.ordering import Draft
from fondaco.node.tenant.progress import Progress
from fondaco.protocol import sdl
from fondaco.protocol.market import SignedBid
from fondaco.protocol.selection import Ranking

NAMES = ("paul", "petra", "pia")
PRICES = {"paul": 700, "petra": 800, "pia": 900}
"""Asked unless said otherwise: paul is the cheapest."""


@dataclass
class Bidders:
    """A tenant, and providers that everybody knows; each has a host of its own."""

    home: Path
    town: Town
    light: LightClient
    node: Full
    hosts: dict[str, Host]
    reached_at: dict[str, str]
    said: list[Progress] = field(default_factory=list)
    waited_s: float = 0.0
    """From when the bids were in until it was chosen."""

    def actor(self, name: str) -> Actor:
        (found,) = self.town.actors(name)
        return found

    def bid(self, name: str, order: Draft, **other: Any) -> SignedBid:
        where: dict[str, Any] = {"peer": self.hosts[name].peer_id, "addresses": (self.reached_at[name],)}
        return self.actor(name).bid(order.signed, PRICES[name], **(where | other))

    def names(self, ranking: Ranking) -> list[str]:
        """Who was ranked, the best first."""
        by_key = {self.actor(name).key: name for name in self.hosts}
        return [by_key[one.candidate.provider] for one in ranking.ranked]

    def aside(self, ranking: Ranking) -> dict[str, str]:
        by_key = {self.actor(name).key: name for name in self.hosts}
        return {by_key[one.candidate.provider]: one.reason for one in ranking.set_aside}

    def reasons(self, ranking: Ranking) -> dict[str, str]:
        """What was said first of each that was ranked."""
        found = zip(self.names(ranking), ranking.ranked, strict=True)
        return {name: one.reason.partition(",")[0] for name, one in found}

    async def order(
        self, choice: Choice, make: Callable[[Draft], list[SignedBid]] | None = None, *, patience_ms: int = 5_000
    ) -> Ranking:
        """Order a group, have all of them bid, and choose; nobody needs to be taken."""
        params = self.town.genesis.params
        order = ordering.draft(
            self.light, self.actor("tenant").signer, sdl.parse(demo.HELLO.read_bytes()), params, deposit=None
        )
        bids = [self.bid(name, order) for name in self.hosts] if make is None else make(order)

        async def answer() -> None:
            while self.node.book.order(order.id) is None:
                await trio.sleep(0.005)
            for bid in bids:
                self.node.book.add_answer(bid)

        async with measuring.meter(self.home, self.light, choice, self.said.append) as meter:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer)
                answers = await ordering.collect(
                    self.light,
                    order,
                    window_ms=0,
                    patience_ms=patience_ms,
                    on_answer=meter.heard,
                    wanted=len(bids),
                )
            began = trio.current_time()
            latencies = await meter.latencies(answers)
            self.waited_s = trio.current_time() - began
        (ranking,) = await ordering.choose(self.light, order, answers, choice=choice, latencies=latencies)
        return ranking

    def pinged(self) -> dict[str, int]:
        return {name: host.pings.answered for name, host in self.hosts.items()}

    def told(self) -> list[str]:
        return [one.detail for one in self.said if one.step == "latency"]


@asynccontextmanager
async def bidders(path: Path, **delays: int) -> AsyncIterator[Bidders]:
    """The providers named, each reached so many milliseconds later than it would be, there and back."""
    town = Town("tenant", *NAMES, faucet_credits=50_000_000)
    chain = town.open(path / "chain.db")
    town.grow(chain, *(one.registers() for one in town.actors(*NAMES)), at=clock.now() - 100)
    node = Full(chain)
    async with AsyncExitStack() as stack:
        hosts: dict[str, Host] = {}
        reached_at: dict[str, str] = {}
        for number, (name, delay) in enumerate(delays.items(), start=50):
            hosts[name] = host = await stack.enter_async_context(open_host(seed(number)))
            where = address(host)
            reached_at[name] = await stack.enter_async_context(slow_link(where, delay // 2)) if delay else where
        asked = await stack.enter_async_context(asking(chain, node.methods()))
        yield Bidders(path, town, asked.client, node, hosts, reached_at)
    chain.close()
