"""What a provider needs of the world; the node implements it, tests bring small ones of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from fondaco.protocol.market import Answer, Bid, SignedOrder
from fondaco.protocol.messages import Message
from fondaco.protocol.offers import SignedOffer
from fondaco.protocol.records import Lease, Provider
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import ChainId, Height, LeaseId, MicroCredits, Millis, OrderId, PublicKey, TxId


class ChainView(Protocol):
    """The provider's own verified state. It must be caught up before the agent starts."""

    @property
    def id(self) -> ChainId: ...

    @property
    def height(self) -> Height:
        """Of the newest committed block."""
        ...

    def now(self) -> Millis:
        """The time of the newest committed block."""
        ...

    def alive_every_ms(self) -> Millis:
        """How often a provider with leases should give a sign of life."""
        ...

    def provider(self, key: PublicKey) -> Provider | None: ...

    def credits(self, owner: PublicKey) -> MicroCredits:
        """What an account holds."""
        ...

    def retiring(self, provider: PublicKey) -> bool:
        """Whether the ledger gives it no new leases: it is about to retire, or is registered no more."""
        ...

    def attested(self, provider: PublicKey) -> Mapping[PublicKey, tuple[Attribute, ...]]:
        """What each auditor says of a provider that still holds in the next block."""
        ...

    def lease(self, lease: LeaseId) -> Lease | None:
        """The record, also of a closed lease for as long as the ledger keeps it."""
        ...

    def dry(self, lease: LeaseId) -> bool:
        """Whether the escrow that a lease draws on is: nothing is paid until a deposit ends that."""
        ...

    def leases_of(self, provider: PublicKey) -> Sequence[Lease]:
        """All that are not closed."""
        ...

    async def submit(self, messages: tuple[Message, ...]) -> TxId:
        """Sign, send, and return once the messages took effect in a committed block.

        Raises `Refused` with the ledger's code, or `Unreachable` if the transaction expired unseen.
        """
        ...

    async def wait_above(self, height: Height) -> Height:
        """The newest committed height, as soon as it is above `height`."""
        ...


class Market(Protocol):
    """The order book as this node knows it."""

    def orders(self) -> AsyncIterator[tuple[OrderId, SignedOrder]]:
        """Orders as they are admitted, beginning with those that are open; never ends."""
        ...

    def bids(self) -> AsyncIterator[Bid]:
        """Bids of anybody's as they are admitted; never ends. Some are left out where they come too fast."""
        ...

    def bids_on(self, order: OrderId) -> Sequence[Bid]:
        """Those there are now."""
        ...

    async def publish_offer(self, offer: SignedOffer) -> None:
        """Gossip an offer."""
        ...

    async def publish(self, answer: Answer) -> None:
        """Gossip a bid or a decline, and send it to the order's reply peers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """A lease of anybody's, as the market remembers it: amounts over all replicas, one price for all."""

    price_per_hour: int
    cpu_milli: int
    memory_bytes: int
    storage_bytes: int
    gpus: tuple[tuple[str, int], ...] = ()
    """(`h100`, or `h100 80Gi sxm`; units)."""


class PriceHistory(Protocol):
    """What leases of late cost."""

    def levels(self) -> Mapping[str, tuple[int, ...]]:
        """As `pricing.market.levels` makes them; never waits, so somewhat old."""
        ...


class PriceProgram(Protocol):
    """The operator's own pricing program."""

    async def ask(self, question: bytes, tenant: PublicKey) -> Fraction:
        """Micro-credits an hour for `pricing.program.question`. Raises `Refused` `pricing.program`."""
        ...


class Stream(Protocol):
    """One stream to one peer. All but `reset` raise `Unreachable` once it is gone."""

    @property
    def peer(self) -> str:
        """The peer id that Noise proved."""
        ...

    async def read(self, max_bytes: int = ..., /) -> bytes:
        """One to `max_bytes` bytes; empty at the end."""
        ...

    async def write(self, data: bytes, /) -> None: ...

    async def close(self) -> None:
        """End our direction."""
        ...

    async def reset(self) -> None:
        """End both directions at once; never raises."""
        ...


class Clock(Protocol):
    def now(self) -> Millis:
        """Wall time. Nothing that money depends on reads it."""
        ...


class Sealer(Protocol):
    def open(self, box: bytes, /) -> bytes:
        """What was sealed to this provider. Raises `Refused` `sealing.broken`."""
        ...
