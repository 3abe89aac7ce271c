"""A light client: follows headers by their signatures, takes records only with a proof, believes nobody.

It talks to several nodes. Whatever one of them says about the ledger is checked, so one honest node among them
is enough to learn the truth, and a node that lies is left out from then on.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from fondaco.consensus import merkle
from fondaco.consensus.certificates import SignatureCache
from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.light import Bisection, FondacoBlock, trust_genesis
from fondaco.consensus.validators import ValidatorSet
from fondaco.node import clock
from fondaco.node.network.host import Host
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.network.rpc import RpcClient
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import FondacoError, PeerFault, Refused, Unreachable
from fondaco.protocol.frames import hello
from fondaco.protocol.light import PROTOCOL, LightBlock, ProvenRecord, TransactionOutcome
from fondaco.protocol.market import Answer, SignedOrder
from fondaco.protocol.scalars import Height, Millis, OrderId, PublicKey, TxId
from fondaco.protocol.signing import verify

log = logging.getLogger("fondaco.tenant")
T = TypeVar("T")
TRUSTING_PERIOD_MS = 14 * 24 * 3_600_000
"""Two thirds of the time that stake stays slashable after unbonding."""
STALE_HEARTBEATS = 3
"""A head older than this many heartbeats is refused: somebody may be hiding newer ones."""
NODES = 3
"""How many nodes are asked: one honest one among them is enough."""


class LightClient:
    """Proven answers from nodes that are not trusted."""

    def __init__(self, genesis: Genesis, host: Host, peers: Sequence[PeerId]) -> None:
        self.genesis = genesis
        self.chain = genesis.chain
        self.host = host
        self.peers = list(peers)
        """The nodes asked, those that lied left out."""
        self._rpc = RpcClient(host, PROTOCOL, hello=hello(genesis.chain))
        self._signatures = SignatureCache(genesis.chain, verify)
        self._genesis_trust = trust_genesis(
            chain=genesis.chain,
            height=Height(genesis.initial_height - 1),
            time=genesis.time,
            hash=genesis.hash(),
            validators=ValidatorSet.of((one.key, one.power) for one in genesis.validators),
        )
        self.trusted = self._genesis_trust

    @classmethod
    async def connect(cls, genesis: Genesis, host: Host, addresses: Sequence[str]) -> LightClient:
        """Dial nodes, at once, until enough answer. Raises `Unreachable` `light.no_nodes`."""
        connected: list[PeerId] = []

        async def dial(address: str) -> None:
            try:
                connected.append(await host.connect(Address(address)))
                host.keep_connected(Address(address))
            except FondacoError as error:
                log.info("%s: %s", address, error)
            if len(connected) >= NODES:
                nursery.cancel_scope.cancel()

        with trio.move_on_after(limits.REQUEST_TIMEOUT_MS / 1_000):
            async with trio.open_nursery() as nursery:
                for address in addresses:
                    nursery.start_soon(dial, address)
        if not connected:
            raise Unreachable("light.no_nodes", "none of the network's nodes answers", hint="is it running?")
        return cls(genesis, host, connected)

    @property
    def trusted_time(self) -> Millis:
        """Block time as far as it is verified."""
        return Millis(self.trusted.time)

    # Proven

    async def record(self, key: bytes, kind: type[T], *, at_least: int = 0) -> T | None:
        """A record of the ledger, proven at a height of `at_least` or more; None if proven absent.

        Raises `Unreachable` `light.no_answer` if no node gives a proof that holds.
        """

        async def ask(peer: PeerId) -> T | None:
            while True:
                raw = await self._call(peer, "record", [key])
                record, height = await self._check(peer, key, raw, kind)
                if height >= at_least:
                    return record
                await trio.sleep(0.02)  # this node is a block behind

        return await self._first(ask)

    async def wait_record(self, key: bytes, kind: type[T], wanted: Callable[[T | None], bool]) -> T | None:
        """Wait until a record is proven to be as `wanted`; asks several nodes at once."""

        async def watch(peer: PeerId) -> T | None:
            async with self._rpc.stream(peer, "watch_record", [key]) as items:
                async for raw in items:
                    record, _ = await self._check(peer, key, raw, kind)
                    if wanted(record):
                        return record
            raise Unreachable("light.watch_ended", f"{peer} stopped telling about a record")

        return await self._first(watch)

    async def _check(self, peer: PeerId, key: bytes, raw: Any, kind: type[T]) -> tuple[T | None, int]:
        """The record that an answer proves, and at which height. Raises `PeerFault` for a proof that fails."""
        if type(raw) is not bytes:
            raise PeerFault("light.answer", "a record comes as bytes")
        proven = codec.decode(raw, ProvenRecord)
        header = proven.block.signed.header
        await self._trust(peer, proven.block)
        proof = codec.decode(proven.proof, merkle.Proof)
        if not merkle.holds(header.state_root, key, proven.value, proof):
            raise PeerFault("light.proof", "the proof does not hold under the header's state root")
        return (None if proven.value is None else codec.decode(proven.value, kind)), header.height

    async def _trust(self, peer: PeerId, block: LightBlock) -> None:
        """Verify a header, by way of others between where needed.

        A node that lags may show a head older than what is trusted: that is checked from genesis.
        """
        header = block.signed.header
        if header.height == self.trusted.height:
            if header.hash() != self.trusted.hash:
                raise PeerFault("light.fork", f"two headers for height {header.height}: one of them is evidence")
            return
        start = self.trusted if header.height > self.trusted.height else self._genesis_trust
        path = Bisection(start, header.height, trusting_period=TRUSTING_PERIOD_MS)
        while (height := path.needs) is not None:
            step = block
            if height != header.height:
                step = codec.decode(await self._call(peer, "block", [height]), LightBlock)
            path.feed(self._checkable(step), now=clock.now())
        if path.trusted.height > self.trusted.height:
            self.trusted = path.trusted

    def _checkable(self, block: LightBlock) -> FondacoBlock:
        return FondacoBlock(
            signed=block.signed,
            validators=ValidatorSet(members=block.validators),
            next_validators=ValidatorSet(members=block.next_validators),
            holds=self._signatures.holds,
        )

    def check_fresh_head(self, heartbeat_ms: int) -> None:
        """Raise `Unreachable` `light.stale` if the newest header known is too old for a living chain."""
        age = clock.now() - self.trusted.time
        if age > STALE_HEARTBEATS * heartbeat_ms:
            raise Unreachable("light.stale", f"the newest block these nodes show is {age // 1_000} s old")

    # Said, not proven: what follows is checked by records, or harmless

    async def submit_transaction(self, raw: bytes) -> None:
        """Hand a transaction to several nodes. Raises what the first refuses with if all do."""
        await self._spread("submit_transaction", raw)

    async def submit_order(self, signed: SignedOrder) -> None:
        """Hand an order to several nodes."""
        await self._spread("submit_order", codec.encode(signed))

    async def outcome(self, identity: TxId) -> TransactionOutcome:
        """What the first node to know says became of a transaction."""

        async def ask(peer: PeerId) -> TransactionOutcome:
            raw = await self._call(peer, "transaction", [identity], timeout_ms=limits.TX_LIFE_MS)
            return codec.decode(raw, TransactionOutcome)

        return await self._first(ask)

    async def providers(self) -> list[PublicKey]:
        """Whom to expect answers from; the union over nodes, since one may hide some."""
        found: set[PublicKey] = set()

        async def ask(peer: PeerId) -> None:
            try:
                found.update(PublicKey(key) for key in await self._call(peer, "providers", []))
            except FondacoError as error:
                log.info("%s: %s", peer, error)

        async with trio.open_nursery() as nursery:
            for peer in self.peers:
                nursery.start_soon(ask, peer)
        return sorted(found)

    @asynccontextmanager
    async def answers(self, order: OrderId) -> AsyncIterator[trio.MemoryReceiveChannel[Answer]]:
        """Everything that any node passes on as an answer to an order, repeats included."""
        send, receive = trio.open_memory_channel[Answer](limits.BOOK_ANSWERS_PER_ORDER)

        async def watch(peer: PeerId) -> None:
            try:
                async with self._rpc.stream(peer, "watch_order", [order]) as items:
                    async for raw in items:
                        await send.send(codec.decode_union(raw, Answer))
            except FondacoError as error:
                log.info("%s: %s", peer, error)

        async with trio.open_nursery() as nursery:
            for peer in self.peers:
                nursery.start_soon(watch, peer)
            yield receive
            nursery.cancel_scope.cancel()

    async def _spread(self, method: str, raw: bytes) -> None:
        """Give the same to all nodes; content once one took it. Raises the first refusal if none did."""
        refusals: list[FondacoError] = []

        async def give(peer: PeerId) -> None:
            try:
                await self._call(peer, method, [raw])
            except FondacoError as error:
                refusals.append(error)

        async with trio.open_nursery() as nursery:
            for peer in self.peers:
                nursery.start_soon(give, peer)
        if len(refusals) == len(self.peers):
            raise next((error for error in refusals if isinstance(error, Refused)), refusals[0])

    async def _call(
        self, peer: PeerId, method: str, params: list[Any], *, timeout_ms: int = limits.REQUEST_TIMEOUT_MS
    ) -> Any:
        return await self._rpc.call(peer, method, params, timeout_ms=timeout_ms)

    async def _first(self, ask: Callable[[PeerId], Awaitable[T]]) -> T:
        """Ask all nodes at once and take the first good answer; a node at fault is left out from then on."""
        results: list[T] = []
        errors: list[FondacoError] = []

        async def one(peer: PeerId) -> None:
            try:
                results.append(await ask(peer))
            except FondacoError as error:
                if isinstance(error, PeerFault):
                    log.warning("%s is left out: %s", peer, error)
                    self.peers = [other for other in self.peers if other != peer]
                errors.append(error)
                return
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for peer in list(self.peers):
                nursery.start_soon(one, peer)
        if results:
            return results[0]
        refused = next((error for error in errors if isinstance(error, Refused)), None)
        raise refused or Unreachable("light.no_answer", f"no node answered: {'; '.join(map(str, errors[:3]))}")
