"""A light client: follows headers by their signatures, takes records only with a proof, believes nobody.

It talks to several nodes. Whatever one of them says about the ledger is checked, so one honest node among them
is enough to learn the truth, and a node that lies is left out from then on.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from fondaco.consensus import merkle
from fondaco.consensus.certificates import SignatureCache
from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.light import Bisection, FondacoBlock, trust_genesis
from fondaco.consensus.validators import ValidatorSet
from fondaco.node import clock
from fondaco.node.groups import unwrapped
from fondaco.node.network.host import Host
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.network.rpc import RpcClient
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Header
from fondaco.protocol.errors import FondacoError, PeerFault, Refused, Unreachable
from fondaco.protocol.frames import hello
from fondaco.protocol.light import PROTOCOL, LightBlock, ProvenRecord, TransactionOutcome
from fondaco.protocol.market import Answer, SignedOrder
from fondaco.protocol.scalars import BOUNDS, Height, Millis, OrderId, PublicKey, TxId
from fondaco.protocol.signing import verify

log = logging.getLogger("fondaco.tenant")
T = TypeVar("T")
TRUSTING_PERIOD_MS = 14 * 24 * 3_600_000
"""Two thirds of the time that stake stays slashable after unbonding."""
STALE_HEARTBEATS = 3
"""A head older than this many heartbeats is refused: somebody may be hiding newer ones."""
NODES = 3
"""How many nodes are asked: one honest one among them is enough."""
KEY_BYTES = BOUNDS[PublicKey][0]
LAG_PAUSE_S = 0.02
"""Before a node that is a block behind is asked again."""
RETRY_PAUSE_S = 0.2
"""Before nodes of which none answered are asked again."""


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
        self._last_fault = ""

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
            with trio.move_on_after(limits.REQUEST_TIMEOUT_MS / 1_000):
                while True:
                    raw = await self._call(peer, "record", [key])
                    record, header = await self._check(peer, key, raw, kind)
                    if header.height >= at_least and not self._is_stale(header):
                        return record
                    await trio.sleep(LAG_PAUSE_S)
            raise Unreachable("light.behind", f"{peer} shows no block that is new enough")

        return await self._first(ask)

    async def wait_record(self, key: bytes, kind: type[T], wanted: Callable[[T | None], bool]) -> T | None:
        """Wait until a record is proven to be as `wanted`; asks several nodes at once, and again if they go away.

        Waits without end where nothing happens: the caller knows how long it may take.
        """

        async def watch(peer: PeerId) -> T | None:
            async with self._rpc.stream(peer, "watch_record", [key]) as items:
                async for raw in items:
                    record, _ = await self._check(peer, key, raw, kind)
                    if wanted(record):
                        return record
            raise Unreachable("light.watch_ended", f"{peer} stopped telling about a record")

        return await self._until_answered(watch)

    async def _check(self, peer: PeerId, key: bytes, raw: Any, kind: type[T]) -> tuple[T | None, Header]:
        """The record that an answer proves, and under which header. Raises `PeerFault` for a proof that fails."""
        proven = codec.decode(_bytes(raw), ProvenRecord)
        header = proven.block.signed.header
        await self._trust(peer, proven.block)
        proof = codec.decode(proven.proof, merkle.Proof)
        if not merkle.holds(header.state_root, key, proven.value, proof):
            raise PeerFault("light.proof", "the proof does not hold under the header's state root")
        return (None if proven.value is None else codec.decode(proven.value, kind)), header

    def _is_stale(self, header: Header) -> bool:
        """Whether newer headers are known than a node that only lags a little would show."""
        return self.trusted.time - header.time > STALE_HEARTBEATS * self.genesis.params.heartbeat_ms

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
                step = codec.decode(_bytes(await self._call(peer, "block", [height])), LightBlock)
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
        """What the first node to know says became of a transaction.

        Nodes that go away meanwhile are asked again. Raises `Unreachable` `tx.unknown` when its time is over.
        """

        async def ask(peer: PeerId) -> TransactionOutcome:
            raw = await self._call(peer, "transaction", [identity], timeout_ms=limits.TX_LIFE_MS)
            return codec.decode(_bytes(raw), TransactionOutcome)

        with trio.move_on_after(limits.TX_LIFE_MS / 1_000):
            return await self._until_answered(ask)
        raise Unreachable("tx.unknown", f"no node says what became of transaction {identity.hex()}")

    async def providers(self) -> list[PublicKey]:
        """Whom to expect answers from; the union over nodes, since one may hide some."""
        found: set[PublicKey] = set()

        async def ask(peer: PeerId) -> None:
            with self._judging(peer):
                keys = await self._call(peer, "providers", [])
                if type(keys) is not list or not all(type(key) is bytes and len(key) == KEY_BYTES for key in keys):
                    raise PeerFault("light.answer", "providers come as a list of keys")
                found.update(map(PublicKey, keys[: limits.PROVIDERS_LISTED]))

        async with trio.open_nursery() as nursery:
            for peer in self.peers:
                nursery.start_soon(ask, peer)
        return sorted(found)

    @asynccontextmanager
    async def answers(self, order: OrderId) -> AsyncIterator[trio.MemoryReceiveChannel[Answer]]:
        """Everything that any node passes on as an answer to an order, repeats included; ends when all have ended.

        A node passes on what others signed: an answer that is none is its own fault, and it is left out.
        """
        send, receive = trio.open_memory_channel[Answer](limits.BOOK_ANSWERS_PER_ORDER)

        async def watch(peer: PeerId, into: trio.MemorySendChannel[Answer]) -> None:
            async with into:
                with self._judging(peer):
                    async with self._rpc.stream(peer, "watch_order", [order]) as items:
                        async for raw in items:
                            await into.send(codec.decode_union(_bytes(raw), Answer))

        with unwrapped():
            async with trio.open_nursery() as nursery:
                async with send:
                    for peer in self.peers:
                        nursery.start_soon(watch, peer, send.clone())
                yield receive
                nursery.cancel_scope.cancel()

    async def _spread(self, method: str, raw: bytes) -> None:
        """Give the same to all nodes; content once one took it. Raises the first refusal if none did."""
        errors: list[FondacoError] = []
        asked = self._ask_whom()

        async def give(peer: PeerId) -> None:
            try:
                await self._call(peer, method, [raw])
            except FondacoError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for peer in asked:
                nursery.start_soon(give, peer)
        if len(errors) == len(asked):
            raise next((error for error in errors if isinstance(error, Refused)), errors[0])

    async def _call(
        self, peer: PeerId, method: str, params: list[Any], *, timeout_ms: int = limits.REQUEST_TIMEOUT_MS
    ) -> Any:
        return await self._rpc.call(peer, method, params, timeout_ms=timeout_ms)

    async def _until_answered(self, ask: Callable[[PeerId], Awaitable[T]]) -> T:
        """As `_first`, over and over while nobody answers: nodes restart, and connections are made again."""
        while True:
            try:
                return await self._first(ask)
            except Unreachable as error:
                if not self.peers:
                    raise
                log.info("asking again: %s", error)
                await trio.sleep(RETRY_PAUSE_S)

    async def _first(self, ask: Callable[[PeerId], Awaitable[T]]) -> T:
        """Ask all nodes at once and take the first good answer; a node at fault is left out from then on."""
        results: list[T] = []
        errors: list[FondacoError] = []
        asked = self._ask_whom()

        async def one(peer: PeerId) -> None:
            with self._judging(peer, errors):
                results.append(await ask(peer))
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for peer in asked:
                nursery.start_soon(one, peer)
        if results:
            return results[0]
        self._ask_whom()  # says so if it was the last one's fault
        refused = next((error for error in errors if isinstance(error, Refused)), None)
        raise refused or Unreachable("light.no_answer", f"no node answered: {'; '.join(map(str, errors[:3]))}")

    def _ask_whom(self) -> list[PeerId]:
        """Raises `Unreachable` `light.all_lied` when nobody is left."""
        if not self.peers:
            raise Unreachable(
                "light.all_lied",
                f"every node was found out and none is left to ask; the last one: {self._last_fault}",
                hint="connect to other nodes of the network",
            )
        return list(self.peers)

    @contextlib.contextmanager
    def _judging(self, peer: PeerId, errors: list[FondacoError] | None = None) -> Iterator[None]:
        """What goes wrong with one node is no reason to give up on the others; one at fault is asked no more."""
        try:
            yield
        except FondacoError as error:
            if isinstance(error, PeerFault):
                log.warning("%s is left out: %s", peer, error)
                self._last_fault = str(error)
                self.peers = [other for other in self.peers if other != peer]
            else:
                log.info("%s: %s", peer, error)
            if errors is not None:
                errors.append(error)


def _bytes(raw: Any) -> bytes:
    """Raises `PeerFault` `light.answer` for an answer that is not even bytes."""
    if type(raw) is not bytes:
        raise PeerFault("light.answer", f"an answer comes as bytes, not as {type(raw).__name__}")
    return raw
