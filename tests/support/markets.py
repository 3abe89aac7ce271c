"""A town with a market: its chain keeps events, what is said is heard, and the log and the database follow."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.chains import Town, decline_by
from tests.support.ledger import FREE, HOUR, UNIT, Actor, Draft, a_group

from fondaco.consensus.ledger.application import Execution
from fondaco.node.chain import Chain
from fondaco.node.market.index import Index
from fondaco.node.market.log import EventLog, RawHeard
from fondaco.node.market.service import Work
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec
from fondaco.protocol.market import order_id
from fondaco.protocol.offers import GossipItem
from fondaco.protocol.resources import Attribute, Group, ResourceUnit
from fondaco.protocol.scalars import MicroCredits, Millis

GRACE = 2 * HOUR
TICK_MS = 1_000


GPUS = tuple((f"capabilities/gpu/vendor/nvidia/model/{model}", "true") for model in ("a100", "h100"))
"""What a provider states that has them."""


def gpu_unit(model: str, units: int = 1, count: int = 1, identity: int = 1) -> ResourceUnit:
    attributes = (Attribute(key=f"vendor/nvidia/model/{model}", value="true"),)
    resources = replace(UNIT.resources, gpu_units=units, gpu_attributes=attributes)
    return replace(UNIT, id=identity, resources=resources, count=count)


class Marketplace:
    """One node's market over one chain, worked by hand: `step` does what the service's thread does."""

    def __init__(self, folder: Path, town: Town, chain: Chain, *, days: int = 0, cap: int = 2**40) -> None:
        self.folder, self.town, self.chain = folder, town, chain
        chain.keeps_events = True
        folder.mkdir(exist_ok=True)
        self.log = EventLog.open(folder / "log.db", chain.id)
        self.store = ChainStore.view(chain.store.path)
        self.database = folder / "market.db"
        self.work = Work(self.store, self.log, self.database, days, cap)
        self.work.open(lambda: None)
        self._waiting: list[RawHeard] = []
        self._clock = town.now

    def close(self) -> None:
        self.work.close()
        self.store.close()
        self.log.close()

    @property
    def index(self) -> Index:
        assert self.work._index is not None
        return self.work._index

    def hear(self, item: GossipItem, *, after_ms: int = 10) -> None:
        """By this node's clock, so much after what was heard before."""
        self._clock = Millis(max(self._clock, self.chain.head.time) + after_ms)
        self._waiting.append(RawHeard(height=self.chain.head.height, time=self._clock, raw=codec.encode(item)))

    def step(self) -> None:
        while True:
            waiting, self._waiting = self._waiting, []
            if not self.work.step(waiting, lambda: None):
                return

    def grow(self, *drafts: Draft | bytes, after_ms: int = TICK_MS) -> Execution:
        execution = self.town.grow(self.chain, *drafts, at=self.chain.head.time + after_ms)
        self.step()
        return execution

    def rows(self, question: str, *values: Any) -> list[dict[str, Any]]:
        with sqlite3.connect(self.database) as connection:
            connection.row_factory = sqlite3.Row
            found = [dict(row) for row in connection.execute(question, values)]
        connection.close()
        return found

    def row(self, question: str, *values: Any) -> dict[str, Any]:
        (found,) = self.rows(question, *values)
        return found

    def lease(
        self, tenant: Actor, *offers: tuple[Actor, int], deposit: int, units: tuple[ResourceUnit, ...] = (UNIT,)
    ) -> Draft:
        """Order, hear the bids, open: a lease for each (provider, price an hour)."""
        groups: list[Group] = [
            replace(a_group(f"group{place}", price=price + 100), units=units)
            for place, (_, price) in enumerate(offers)
        ]
        order = tenant.order(*groups, deposit=MicroCredits(deposit))
        self.hear(order)
        bids = [provider.bid(order, price, place) for place, (provider, price) in enumerate(offers)]
        for bid in bids:
            self.hear(bid)
        opens = tenant.opens(order, *bids, deposit=deposit)
        self.grow(opens)
        return opens


@contextmanager
def marketplace(path: Path, *names: str, days: int = 0, cap: int = 2**40, **params: int) -> Iterator[Marketplace]:
    settings: Any = {**FREE, "grace_ms": GRACE, **params}
    town = Town(*names, **settings)
    chain = town.open(path / "chain.db")
    place = Marketplace(path / "market", town, chain, days=days, cap=cap)
    try:
        yield place
    finally:
        place.close()
        chain.close()


def story(place: Marketplace) -> list[Draft]:
    """Something of everything: bids, declines, payments, an escrow that runs dry, a lapse, refunds, refusals."""
    alice, bob, paul, petra = place.town.actors("alice", "bob", "paul", "petra")
    place.grow(paul.registers(attributes=[("region", "eu")]), petra.registers())
    served = place.lease(alice, (paul, 1_000), (petra, 2_000), deposit=9_000)
    order = bob.order(a_group(price=1_000), deposit=MicroCredits(5_000))
    place.hear(order)
    place.hear(decline_by(petra, order_id(place.town.chain, order.order)))
    lapsed = place.lease(bob, (paul, 500), deposit=5_000)
    one, two = served.leases
    place.grow(paul.activates(one, receipt_of=alice), petra.activates(two, receipt_of=alice))
    place.grow(paul.withdraws(one), bob.pays(alice, 10**12), after_ms=HOUR)
    place.grow(bob.deposits(served.deployment, 700))
    place.grow(after_ms=3 * HOUR)
    place.grow(bob.deposits(served.deployment, 10_000))
    place.grow(alice.closes(one), alice.closes(two, reason=7), after_ms=HOUR)
    return [served, lapsed]
