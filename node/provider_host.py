"""A provider inside a node: the agent's ports, implemented on this node's chain, book and host."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import trio

from fondaco.consensus.ledger import trust
from fondaco.node import clock
from fondaco.node.app import Node
from fondaco.node.chain import Chain
from fondaco.node.config import ProviderConfig
from fondaco.node.keys.sealing import random_salt
from fondaco.node.market.service import DATABASE
from fondaco.node.provider_settings import attributes, settings_of
from fondaco.node.registration import RegistrationMark
from fondaco.node.runtime_settings import check_gpus, open_runtime
from fondaco.protocol import codec
from fondaco.protocol.channel import PROTOCOL
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.events import Event, LeaseClosed, LeaseOpened
from fondaco.protocol.market import Answer, Bid, SignedBid, SignedOrder
from fondaco.protocol.messages import Message, RegisterProvider
from fondaco.protocol.offers import GossipItem, SignedOffer
from fondaco.protocol.records import (
    Account,
    Deployment,
    DeploymentState,
    Lease,
    LeaseState,
    Provider,
    Retirement,
    key_account,
    key_deployment,
    key_lease,
    key_provider,
    key_retirement,
)
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import (
    ChainId,
    Height,
    LeaseId,
    MicroCredits,
    MicroStake,
    Millis,
    OrderId,
    PublicKey,
    TxId,
)
from fondaco.protocol.signing import Signer
from fondaco.protocol.transactions import sign_transaction, transaction_id
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway
from fondaco.provider.probes import persistently
from fondaco.provider.runtimes.port import KeepingRuntime, parse_workload_id
from fondaco.provider.together import run_all

log = logging.getLogger("fondaco.provider")
TX_LIFE_MS = 60_000
BIDS_WAITING = 256
"""Of others, to be looked at by a provider that undercuts them."""
LEASES_SCANNED = 100_000
LOG_RETENTION_MS = 24 * 3_600_000
"""How long output and events outlive their lease."""
FORGET_EVERY_S = 600


class ProviderChain:
    """The agent's view of the ledger: this node's own, verified by agreeing on it."""

    def __init__(self, node: Node, signer: Signer) -> None:
        self._node = node
        self._signer = signer
        self._open = _open_leases(node.chain)
        """Leases of any provider that are not closed."""
        node.chain.listeners.append(lambda execution: self._follow(execution.events))

    @property
    def id(self) -> ChainId:
        return self._node.chain.id

    @property
    def height(self) -> Height:
        return self._node.chain.head.height

    def now(self) -> Millis:
        return self._node.chain.head.time

    def alive_every_ms(self) -> Millis:
        # One sign may come late or be lost, and nothing is missed.
        return Millis(self._node.chain.ledger.params.alive_cover_ms // 2)

    def provider(self, key: PublicKey) -> Provider | None:
        return self._node.chain.ledger.state().get(key_provider(key), Provider)

    def credits(self, owner: PublicKey) -> MicroCredits:
        account = self._node.chain.ledger.state().get(key_account(owner), Account)
        return MicroCredits(0) if account is None else account.credits

    def retiring(self, provider: PublicKey) -> bool:
        retirement = self._node.chain.ledger.state().get(key_retirement(provider), Retirement)
        return retirement is not None or self.provider(provider) is None

    def attested(self, provider: PublicKey) -> Mapping[PublicKey, tuple[Attribute, ...]]:
        said, now = trust.attestations_of(self._node.chain.ledger.state(), provider), Millis(self.now() + 1)
        return {one.auditor: one.attributes for one in said if trust.holds(one, now=now)}

    def lease(self, lease: LeaseId) -> Lease | None:
        return self._node.chain.ledger.state().get(key_lease(lease), Lease)

    def dry(self, lease: LeaseId) -> bool:
        state, record = self._node.chain.ledger.state(), self.lease(lease)
        found = None if record is None else state.get(key_deployment(record.deployment), Deployment)
        return found is not None and found.state is DeploymentState.GRACE

    def leases_of(self, provider: PublicKey) -> Sequence[Lease]:
        found = (self.lease(one) for one in sorted(self._open))
        return [lease for lease in found if lease is not None and lease.provider == provider]

    async def submit(self, messages: tuple[Message, ...]) -> TxId:
        signed = sign_transaction(
            self._signer,
            self.id,
            messages,
            expires_at=Millis(max(clock.now(), self.now()) + TX_LIFE_MS),
            salt=random_salt(),
        )
        identity = transaction_id(signed.transaction)
        await self._node.submit(codec.encode(signed))
        while True:
            waiting = self._node.chain.news.next
            found = self._node.chain.inclusion(identity)
            if found is not None and found.code:
                raise Refused(found.code, found.message)
            if found is not None:
                return identity
            if self.now() > signed.transaction.expires_at:
                raise Unreachable("tx.lost", "the transaction expired before any block took it")
            await waiting.wait()

    async def wait_above(self, height: Height) -> Height:
        while True:
            waiting = self._node.chain.news.next
            if self.height > height:
                return self.height
            await waiting.wait()

    def _follow(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, LeaseOpened):
                self._open.add(event.lease)
            elif isinstance(event, LeaseClosed):
                self._open.discard(event.lease)


def _open_leases(chain: Chain) -> set[LeaseId]:
    entries = chain.ledger.state().scan(b"lease/", LEASES_SCANNED)
    leases = (codec.decode(raw, Lease) for _, raw in entries)
    return {lease.id for lease in leases if lease.state != LeaseState.CLOSED}


class ProviderMarket:
    """The agent's view of the order book."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def orders(self) -> AsyncIterator[tuple[OrderId, SignedOrder]]:
        return self._node.book.orders()

    async def bids(self) -> AsyncGenerator[Bid, None]:
        send, receive = trio.open_memory_channel[Bid](BIDS_WAITING)

        def hear(item: GossipItem) -> None:
            if isinstance(item, SignedBid):
                with suppress(trio.WouldBlock):
                    send.send_nowait(item.bid)

        self._node.book.listeners.append(hear)
        try:
            while True:
                yield await receive.receive()
        finally:
            self._node.book.listeners.remove(hear)

    async def publish_offer(self, offer: SignedOffer) -> None:
        self._node.publish_offer(offer)

    def bids_on(self, order: OrderId) -> Sequence[Bid]:
        return [one.bid for one in self._node.book.answers(order) if isinstance(one, SignedBid)]

    async def publish(self, answer: Answer) -> None:
        self._node.publish_answer(answer)


def _registration(node: Node) -> RegisterProvider:
    """What the configuration says this provider is."""
    settings = node.config.provider
    assert settings is not None, "only a provider registers as one"
    return RegisterProvider(
        attributes=attributes(settings),
        peer=node.host.peer_id,
        addresses=node.reach.addresses(),
        sealing_key=node.keys["provider"].sealing().key,
        bond=MicroStake(settings.bond),
    )


async def ensure_registered(node: Node, chain: ProviderChain, key: PublicKey) -> None:
    """Register, or bring the record up to date, and return when the ledger has it.

    A chain that has just been started may not take transactions yet: it is tried until it does. While the
    provider is about to retire nothing is sent, since registering would take the retirement back.
    Raises `Refused` `provider.retired` where the ledger had it once and has it no more.
    """
    mark = RegistrationMark(node.config.provider_home)
    wanted = _registration(node)
    while True:
        record = chain.provider(key)
        if record is None and mark.is_set(chain.id):
            raise Refused(
                "provider.retired",
                "this provider has retired, and does not register itself anew",
                hint="`fondaco provider register`, if it shall come back; then start the node",
            )
        if record is not None:
            await trio.to_thread.run_sync(mark.set, chain.id)
            if chain.retiring(key):
                log.info("this provider is about to retire: it serves its leases and takes no new ones")
                return
            if _same(record, wanted):
                return
        try:
            await chain.submit((wanted,))
        except Refused as refusal:
            log.warning("the ledger does not register this provider: %s", refusal)
            await chain.wait_above(chain.height)
        except Unreachable as error:
            log.warning("%s", error)


def _same(record: Provider, wanted: RegisterProvider) -> bool:
    return all(
        getattr(record, name) == getattr(wanted, name)
        for name in ("attributes", "peer", "addresses", "sealing_key", "bond")
    )


@dataclass(frozen=True, slots=True)
class Providing:
    """A provider at work, for those that watch it."""

    agent: Agent
    gateway: Gateway


@asynccontextmanager
async def open_provider(node: Node) -> AsyncIterator[Providing]:
    """Run a provider on `node` until the block ends.

    It probes its sandboxes first and refuses to serve without isolation; then it registers, then it bids.
    Workloads outlive it unless the configuration says otherwise.
    """
    signer, settings = node.keys["provider"].signer(), _settings(node)
    if not node.reach.addresses():
        raise Refused("provider.unreachable", "nobody can reach this provider", hint="set listen, or name relays")
    told = settings_of(
        settings,
        name=node.config.name,
        database=node.config.market_home / DATABASE,
        peer=node.host.peer_id,
        addresses_=node.reach.addresses(),
    )
    check_gpus(settings)
    home = node.config.provider_home
    async with aclosing(open_runtime(settings, home)) as runtime:
        log.info("sandboxes: %s", await persistently(runtime.probe, partial(log.warning, "not yet: %s")))
        chain = ProviderChain(node, signer)
        agent = Agent(
            told.agent,
            signer,
            chain=chain,
            market=ProviderMarket(node),
            runtime=runtime,
            sealer=node.keys["provider"].sealing(),
            home=home,
        )
        gateway = Gateway(agent)
        node.host.handle(PROTOCOL, gateway.serve)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_serve, node, chain, agent, runtime)
                if told.history is not None:
                    nursery.start_soon(told.history.run)
                yield Providing(agent, gateway)
                nursery.cancel_scope.cancel()
        finally:
            if settings.stop_workloads:  # after the agent, which would start them again
                with trio.CancelScope(shield=True):
                    await _stop_workloads(runtime)


async def _stop_workloads(runtime: KeepingRuntime) -> None:
    try:
        await run_all(partial(runtime.stop, workload.id) for workload in await runtime.list())
    except Unreachable as error:
        log.warning("workloads go on: %s", error)


async def _serve(node: Node, chain: ProviderChain, agent: Agent, runtime: KeepingRuntime) -> None:
    """Catch up, register, and then live as a provider."""
    await node.chain.wait_first_block()
    await node.sync.wait_caught_up()
    await node.reach.wait_reachable()
    await ensure_registered(node, chain, agent.signer.public_key)
    async with trio.open_nursery() as nursery:
        log.info("reconciled: %s", await nursery.start(agent.run))
        nursery.start_soon(_forget, chain, agent, runtime)
        nursery.start_soon(runtime.watch)
        nursery.start_soon(_tell_of_retirement, chain, agent.signer.public_key)
        node.ready.set()


async def _tell_of_retirement(chain: ProviderChain, key: PublicKey) -> None:
    while not chain.retiring(key):
        await chain.wait_above(chain.height)
    log.info("about to retire: no new leases")
    while chain.provider(key) is not None:
        await chain.wait_above(chain.height)
    log.info("retired: the bond is back, and this node may be stopped")


async def _forget(chain: ProviderChain, agent: Agent, runtime: KeepingRuntime) -> None:
    """Delete what ended workloads and leases left, once the lease has been closed for the retention period."""
    while True:
        try:
            await _forget_workloads(chain, runtime)
        except Unreachable as error:
            log.warning("what workloads left is kept for now", extra={"code": error.code})
        for lease in agent.events.kept():
            if _is_long_over(chain, lease):
                agent.events.forget(lease)
        for lease in agent.revocations.kept():
            if _is_long_over(chain, lease):
                agent.revocations.forget(lease)
        await trio.sleep(FORGET_EVERY_S)


async def _forget_workloads(chain: ProviderChain, runtime: KeepingRuntime) -> None:
    running = {workload.id for workload in await runtime.list()}
    for identity in runtime.kept():
        named = parse_workload_id(identity)
        if identity not in running and (named is None or _is_long_over(chain, named[0])):
            await runtime.forget(identity)


def _is_long_over(chain: ProviderChain, lease: LeaseId) -> bool:
    found = chain.lease(lease)
    return found is None or (found.closed_at is not None and found.closed_at + LOG_RETENTION_MS < chain.now())


def _settings(node: Node) -> ProviderConfig:
    settings = node.config.provider
    assert settings is not None, "only a provider opens one"
    return settings
