"""A provider's surroundings without a network: a chain that is a dictionary, a market that is a queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

import trio
from tests.support.hand_offs import CHAIN, PROVIDER, START, TENANT

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.market import Answer, Bid, Order, SignedOrder, order_id
from fondaco.protocol.messages import Activate, Alive, CloseLease, Message, Reclaim, Transfer, Withdraw
from fondaco.protocol.offers import SignedOffer
from fondaco.protocol.records import Lease, LeaseState, Provider, Reclamation
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import Height, LeaseId, MicroCredits, Millis, OrderId, PublicKey, TxId


class FakeChain:
    """A ledger of leases only: activation, withdrawal and closing as the real one judges them; a block each."""

    def __init__(self) -> None:
        self.id = CHAIN
        self.height = Height(1)
        self.time = START
        self.leases: dict[LeaseId, Lease] = {}
        self.parched: set[LeaseId] = set()
        """Leases whose escrow is dry."""
        self.accounts = Counter[PublicKey]()
        self.submitted: list[Message] = []
        self.audits: dict[PublicKey, tuple[Attribute, ...]] = {}
        """What auditors say of the provider, by auditor."""
        self.retires = False
        """Whether the provider's retirement is on the ledger."""
        self.lose = 0
        """So many submissions are answered by `Unreachable`."""
        self._changed = trio.Event()

    def now(self) -> Millis:
        return self.time

    def alive_every_ms(self) -> Millis:
        return Millis(600_000)

    def provider(self, key: PublicKey) -> Provider | None:
        return None

    def credits(self, owner: PublicKey) -> MicroCredits:
        return MicroCredits(self.accounts[owner])

    def retiring(self, provider: PublicKey) -> bool:
        return self.retires and provider == PROVIDER.public_key

    def attested(self, provider: PublicKey) -> Mapping[PublicKey, tuple[Attribute, ...]]:
        return self.audits if provider == PROVIDER.public_key else {}

    def lease(self, lease: LeaseId) -> Lease | None:
        return self.leases.get(lease)

    def dry(self, lease: LeaseId) -> bool:
        return lease in self.parched

    def leases_of(self, provider: PublicKey) -> Sequence[Lease]:
        return [
            one for one in self.leases.values() if one.provider == provider and one.state is not LeaseState.CLOSED
        ]

    async def wait_above(self, height: Height) -> Height:
        while self.height <= height:
            await self._changed.wait()
        return self.height

    def block(self, *, ms: int = 100) -> None:
        """Commit a block: what was changed before is now seen."""
        self.height, self.time = Height(self.height + 1), Millis(self.time + ms)
        rung, self._changed = self._changed, trio.Event()
        rung.set()

    def put(self, lease: Lease) -> None:
        self.leases[lease.id] = lease
        self.block()

    def close(self, lease: LeaseId) -> None:
        self.put(replace(self.leases[lease], state=LeaseState.CLOSED, closed_at=self.time, reason=0))

    async def submit(self, messages: tuple[Message, ...]) -> TxId:
        await trio.lowlevel.checkpoint()
        if self.lose:
            self.lose -= 1
            raise Unreachable("tx.unseen", "the transaction expired")
        for message in messages:
            self._apply(message)
            self.submitted.append(message)
        self.block()
        return TxId(bytes(32))

    def _apply(self, message: Message) -> None:
        match message:
            case Activate(receipt=signed):
                lease = self.leases[signed.receipt.lease]
                if lease.state is not LeaseState.AWAITING:
                    raise Refused("lease.state", "the lease is not awaiting its hand-off")
                self.leases[lease.id] = replace(lease, state=LeaseState.ACTIVE, activated_at=self.time)
            case CloseLease(lease=identity, reason=reason):
                lease = self.leases[identity]
                self.leases[identity] = replace(lease, state=LeaseState.CLOSED, closed_at=self.time, reason=reason)
            case Reclaim(lease=identity, reason=reason):
                lease = self.leases[identity]
                at = Millis(self.time + lease.reclamation_window_ms)
                self.leases[identity] = replace(lease, reclamation=Reclamation(at=at, reason=reason))
            case Alive():
                pass
            case Transfer(to=to, amount=amount):
                self.accounts[PROVIDER.public_key] -= amount
                self.accounts[to] += amount
            case Withdraw(lease=identity):
                if identity not in self.leases:
                    raise Refused("lease.unknown", "there is no such lease")
            case _:
                raise AssertionError(f"a provider does not send {message}")


class FakeMarket:
    """Orders go in by `place`, answers come out in `answers`."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[tuple[OrderId, SignedOrder]](100)
        self._bid, self._bids = trio.open_memory_channel[Bid](100)
        self.answers, self._answered = [], trio.Event()  # type: list[Answer], trio.Event
        self.down = False
        self.offers: list[SignedOffer] = []
        self.quicker: list[Bid] = []
        """Of others, that are there before ours."""

    async def bids(self) -> AsyncGenerator[Bid, None]:
        while True:
            yield await self._bids.receive()

    def hear(self, bid: Bid) -> None:
        """Another provider's."""
        self._bid.send_nowait(bid)

    async def publish_offer(self, offer: SignedOffer) -> None:
        await trio.lowlevel.checkpoint()
        self.offers.append(offer)

    def bids_on(self, order: OrderId) -> Sequence[Bid]:
        return self.quicker

    async def orders(self) -> AsyncGenerator[tuple[OrderId, SignedOrder], None]:
        while True:
            yield await self._receive.receive()

    def place(self, order: Order) -> OrderId:
        identity = order_id(CHAIN, order)
        self._send.send_nowait((identity, SignedOrder(order=order, signature=TENANT.sign(CHAIN, order))))
        return identity

    async def publish(self, answer: Answer) -> None:
        await trio.lowlevel.checkpoint()
        if self.down:
            raise Unreachable("gossip.down", "no peers")
        self.answers.append(answer)
        rung, self._answered = self._answered, trio.Event()
        rung.set()

    async def wait_answers(self, count: int) -> list[Answer]:
        while len(self.answers) < count:
            await self._answered.wait()
        return self.answers
