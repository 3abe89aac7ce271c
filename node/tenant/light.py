"""A light client: follows headers by their signatures, takes records only with a proof, believes nobody.

It talks to several nodes. Whatever one of them says about the ledger is checked, so one honest node among them
is enough to learn the truth, and a node that lies is left out from then on.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, TypeVar

import trio

from fondaco.consensus import merkle, merkle_list
from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.proof import step_of
from fondaco.node import clock
from fondaco.node.groups import unwrapped
from fondaco.node.network.host import Host
from fondaco.node.network.kad import Kad
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.tenant.headers import LAG_PAUSE_S, Headers
from fondaco.node.tenant.nodes import bytes_of
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Header
from fondaco.protocol.errors import FondacoError, PeerFault, Refused, Unreachable
from fondaco.protocol.events import TransactionApplied
from fondaco.protocol.light import LightBlock, ProvenOutcome, ProvenRecord, TransactionOutcome
from fondaco.protocol.market import Answer, SignedOrder
from fondaco.protocol.proof import RecordProof
from fondaco.protocol.scalars import BOUNDS, LeaseId, Millis, OrderId, PublicKey, TxId

log = logging.getLogger("fondaco.tenant")
T = TypeVar("T")
STALE_HEARTBEATS = 3
"""A head older than this many heartbeats is refused: somebody may be hiding newer ones."""
NODES = 3
"""How many nodes are asked: one honest one among them is enough."""
KEY_BYTES = BOUNDS[PublicKey][0]


class LightClient(Headers):
    """Proven answers from nodes that are not trusted."""

    @classmethod
    async def connect(
        cls, genesis: Genesis, host: Host, addresses: Sequence[str], *, anchor: LightBlock | None = None
    ) -> LightClient:
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
        return cls(genesis, host, connected, anchor=anchor)

    @cached_property
    def kad(self) -> Kad:
        """The table of peers by key, in which we only ask."""
        return Kad(self.host, self.chain)

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
                    try:
                        record, header = await self._check(peer, key, raw, kind)
                        if header.height >= at_least and not self._is_stale(header):
                            return record
                    except Unreachable as error:
                        if error.code != "light.behind":
                            raise
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
        proven = await self._verified(peer, key, raw)
        record = None if proven.value is None else codec.decode(proven.value, kind)
        return record, proven.block.signed.header

    async def _verified(self, peer: PeerId, key: bytes, raw: Any) -> ProvenRecord:
        proven = codec.decode(bytes_of(raw), ProvenRecord)
        await self._trust(peer, proven.block)
        proof = codec.decode(proven.proof, merkle.Proof)
        if not merkle.holds(proven.block.signed.header.state_root, key, proven.value, proof):
            raise PeerFault("light.proof", "the proof does not hold under the header's state root")
        return proven

    async def prove(self, key: bytes, *, start: int | None = None) -> RecordProof:
        """What the ledger holds at `key`, as a file that proves it to others.

        With `start` the file begins with the header at that height, for readers who vouch for it.
        """

        async def ask(peer: PeerId) -> RecordProof:
            proven = await self._verified(peer, key, await self._call(peer, "record", [key]))
            way = await self.way(peer, proven.block, start=start)
            return RecordProof(
                path=tuple(step_of(one.signed, one.validators, one.next_validators) for one in way),
                key=key,
                value=proven.value,
                proof=proven.proof,
            )

        return await self._first(ask)

    def _is_stale(self, header: Header) -> bool:
        """Whether newer headers are known than a node that only lags a little would show."""
        return self.trusted.time - header.time > STALE_HEARTBEATS * self.genesis.params.heartbeat_ms

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
        """What became of a transaction, as the header of its block commits to it.

        Nodes that go away meanwhile are asked again. Raises `Unreachable` `tx.unknown` when its time is over.
        """

        async def ask(peer: PeerId) -> TransactionOutcome:
            try:
                raw = await self._call(peer, "transaction", [identity], timeout_ms=limits.TX_LIFE_MS)
            except Refused as error:  # what a node does not want to say is not what the ledger said
                raise Unreachable("light.no_answer", f"{peer} does not tell of a transaction: {error}") from None
            return await self._checked_outcome(peer, identity, raw)

        with trio.move_on_after(limits.TX_LIFE_MS / 1_000):
            return await self._until_answered(ask)
        raise Unreachable("tx.unknown", f"no node says what became of transaction {identity.hex()}")

    async def _checked_outcome(self, peer: PeerId, identity: TxId, raw: Any) -> TransactionOutcome:
        """Raises `PeerFault` `light.outcome` for one that is not proven."""
        told = codec.decode(bytes_of(raw), ProvenOutcome)
        await self._trust(peer, told.block)
        header = told.block.signed.header
        event = codec.decode(told.event, TransactionApplied)
        holds = merkle_list.holds(told.event, told.index, told.count, told.path, header.events_root)
        if event.id != identity or not holds:
            raise PeerFault("light.outcome", "the block does not hold what is told of a transaction")
        return TransactionOutcome(height=header.height, code=event.code, message=told.message)

    async def providers(self) -> list[PublicKey]:
        """Whom to expect answers from; the union over nodes, since one may hide some."""
        return await self._keys("providers", [], limits.PROVIDERS_LISTED)

    async def auditors(self, provider: PublicKey) -> list[PublicKey]:
        """Who is said to have attested something of a provider; likewise."""
        return await self._keys("auditors", [provider], limits.AUDITORS_PER_PROVIDER)

    async def live_leases(self, provider: PublicKey) -> list[LeaseId]:
        """What is said to be a provider's leases that have not ended; likewise."""
        return [LeaseId(one) for one in await self._keys("live_leases", [provider], limits.LIVE_LEASES_LISTED)]

    async def _keys(self, method: str, params: list[Any], most: int) -> list[PublicKey]:
        found: set[PublicKey] = set()

        async def ask(peer: PeerId) -> None:
            with self._judging(peer):
                keys = await self._call(peer, method, params)
                if type(keys) is not list or not all(type(key) is bytes and len(key) == KEY_BYTES for key in keys):
                    raise PeerFault("light.answer", f"{method} come as a list of keys")
                found.update(map(PublicKey, keys[:most]))

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
                            await into.send(codec.decode_union(bytes_of(raw), Answer))

        with unwrapped():
            async with trio.open_nursery() as nursery:
                async with send:
                    for peer in self.peers:
                        nursery.start_soon(watch, peer, send.clone())
                yield receive
                nursery.cancel_scope.cancel()
