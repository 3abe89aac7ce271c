"""A deployment told as a story: what happens to its leases and its money, block by block."""

from __future__ import annotations

from typing import Any

from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, MINUTE, Actor, Draft, World, codes

from fondaco.protocol.records import LeaseState
from fondaco.protocol.scalars import DeploymentId, LeaseId, Millis

NOBODY = LeaseId(bytes(32))
GRACE = 10 * MINUTE


class Story:
    """Alice leases from paul and petra; every block is recounted."""

    def __init__(self, *prices: int, deposit: int = 10_000, window_ms: int = 0, **params: int) -> None:
        self.world = World("alice", "bob", "paul", "petra", credits=100_000, **{**FREE, **params})
        self.alice, self.bob, self.paul, self.petra = self.world.actors("alice", "bob", "paul", "petra")
        self.books = Bookkeeper(self.world)
        self.block(self.paul.registers(), self.petra.registers())
        providers = [self.paul, self.petra]
        self.draft = self.alice.leases(
            *((providers[place % 2], price) for place, price in enumerate(prices)),
            deposit=deposit,
            reclamation_window_ms=Millis(window_ms),
        )
        self.block(self.draft)
        self.deployment: DeploymentId = self.draft.deployment
        self.leases = self.draft.leases

    def block(self, *drafts: Draft, after_ms: int = 1_000) -> list[str]:
        self.events = self.world.block(*drafts, after_ms=after_ms).events
        self.books.count()
        return codes(self.events)

    def activate(self, *places: int, after_ms: int = 1_000) -> None:
        assert set(self.block(*(self.activation(place) for place in places or (0,)), after_ms=after_ms)) == {""}

    def activation(self, place: int = 0) -> Draft:
        return self.provider(place).activates(self.leases[place], receipt_of=self.alice)

    def provider(self, place: int = 0) -> Actor:
        return self.world.by_key[self.world.lease(self.leases[place]).provider]

    @property
    def state(self) -> Any:
        """Open, in grace or closed; Any, since it changes under the eyes of a type checker."""
        return self.world.deployment(self.deployment).state

    @property
    def funds(self) -> int:
        return self.world.funds(self.deployment)

    def lease_state(self, place: int = 0) -> LeaseState:
        return self.world.lease(self.leases[place]).state

    def paid(self, place: int = 0) -> int:
        return self.world.lease(self.leases[place]).paid
