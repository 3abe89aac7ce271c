"""A light client: follows headers by their signatures, takes records only with a proof, believes nobody.

It talks to several nodes. Whatever one of them says about the ledger is checked, so one honest node among them
is enough to learn the truth, and a node that lies is left out from then on.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import cached_property
from typing import Any, TypeVar

import trio

from fondaco.consensus import merkle, merkle_list
from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.proof import step_of
from fondaco.node.groups import unwrapped
from fondaco.node.network.host import Host
from fondaco.node.network.kad import Kad
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.tenant import bounds
from fondaco.node.tenant.gathering import gather
from fondaco.node.tenant.headers import LAG_PAUSE_S
from fondaco.node.tenant.heads import Heads
from fondaco.node.tenant.nodes import ALONE, SPREAD_GRACE_S, bytes_of
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Header
from fondaco.protocol.book.bounds import OFFERS
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.events import TransactionApplied
from fondaco.protocol.light import LightBlock, ProvenOutcome, ProvenRecord, TransactionOutcome
from fondaco.protocol.market import Answer, SignedOrder
from fondaco.protocol.offers import SignedOffer, check_offer
from fondaco.protocol.proof import RecordProof
from fondaco.protocol.records import Provider, key_provider
from fondaco.protocol.scalars import BOUNDS, LeaseId, OrderId, PublicKey, TxId

log = logging.getLogger("fondaco.tenant")
T = TypeVar("T")
KEY_BYTES = BOUNDS[PublicKey][0]


class LightClient(Heads):
    """Proven answers from nodes that are not trusted."""

    @classmethod
    async def connect(
        cls, genesis: Genesis, host: Host, addresses: Sequence[str], *, anchor: LightBlock | None = None
    ) -> LightClient:
        """Connect to enough nodes, of these and of those that they name. Raises `Unreachable` `light.no_nodes`."""
        connected = await gather(genesis.chain, host, addresses)
        return cls(genesis, host, list(connected), anchor=anchor)

    def addresses(self) -> list[Address]:
        """Where the nodes are that are asked, those that lied left out."""
        return [self.host.dialled_at(peer) for peer in self.peers]

    @cached_property
    def kad(self) -> Kad:
        """The table of peers by key, in which we only ask."""
        return Kad(self.host, self.chain)

    # Proven

    async def record(self, key: bytes, kind: type[T], *, at_least: int = 0) -> T | None:
        """A record of the ledger, proven at a height of `at_least` or more; None if proven absent.

        It is never older than the newest header that is trusted: what was seen once is not unseen.
        Raises `Unreachable` `light.no_answer` if no node gives a proof that holds.
        """
        floor = max(at_least, self.trusted.height)

        async def ask(peer: PeerId) -> T | None:
            return await self._record_of(peer, key, kind, floor)

        return await self._first(ask)

    async def _record_of(self, peer: PeerId, key: bytes, kind: type[T], floor: int) -> T | None:
        """One node's record at a height of `floor` or more, waited for while it lags."""
        with trio.move_on_after(limits.REQUEST_TIMEOUT_MS / 1_000):
            while True:
                raw = await self._call(peer, "record", [key])
                try:
                    record, header = await self._check(peer, key, raw, kind)
                    if header.height >= floor:
                        return record
                except Unreachable as error:
                    if error.code != "light.behind":
                        raise
                await trio.sleep(LAG_PAUSE_S)
        raise Unreachable("light.behind", f"{peer} shows no block that is new enough")

    async def wait_record(self, key: bytes, kind: type[T], wanted: Callable[[T | None], bool]) -> T | None:
        """Wait until a record is proven to be as `wanted`; asks several nodes at once, and again if they go away.

        Waits without end where nothing happens: the caller knows how long it may take. It is never older than the
        newest header trusted when the wait began.
        """
        floor = self.trusted.height

        async def watch(peer: PeerId) -> T | None:
            height = -1
            async with self._rpc.stream(peer, "watch_record", [key]) as items:
                async for raw in items:
                    record, header = await self._check(peer, key, raw, kind)
                    if header.height <= height:
                        raise PeerFault("light.flood", "a record is told of once a block at most")
                    height = header.height
                    if height < floor and wanted(record):
                        record = await self._record_of(peer, key, kind, floor)
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

    # Said, not proven, but for what became of a transaction: the rest is checked by records, or harmless

    async def submit_transaction(self, raw: bytes) -> None:
        """Hand a transaction to several nodes.

        Raises what two of them, or all there are, refuse it for; `Unreachable` if it may have come somewhere.
        """
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
        return TransactionOutcome(height=header.height, fee=event.fee, code=event.code, message=told.message)

    async def providers(self) -> list[PublicKey]:
        """Whom to expect answers from; the union over nodes, since one may hide some.

        What only one node names, it has to prove: it may have made up any number.
        """
        named = await self._keys("providers", [], limits.PROVIDERS_LISTED)
        alone: dict[PeerId, list[PublicKey]] = {}
        if len({peer for peers in named.values() for peer in peers}) >= ALONE:
            for key, peers in sorted(named.items()):
                if len(peers) < ALONE:
                    alone.setdefault(next(iter(peers)), []).append(key)
        proven: set[PeerId] = set()

        async def prove(peer: PeerId) -> None:
            with self.judging(peer):
                for key in alone[peer][: bounds.CLAIMS_PROVEN]:
                    raw = await self._call(peer, "record", [key_provider(key)])
                    record, _ = await self._check(peer, key_provider(key), raw, Provider)
                    if record is None:
                        raise PeerFault("light.providers", "it names providers that its own ledger does not hold")
                proven.add(peer)

        with trio.move_on_after(SPREAD_GRACE_S):
            async with trio.open_nursery() as nursery:
                for peer in alone:
                    nursery.start_soon(prove, peer)
        return sorted(named.keys() - {key for peer in alone.keys() - proven for key in alone[peer]})

    async def auditors(self, provider: PublicKey) -> list[PublicKey]:
        """Who is said to have attested something of a provider; the union likewise."""
        return sorted(await self._keys("auditors", [provider], limits.AUDITORS_PER_PROVIDER))

    async def live_leases(self, provider: PublicKey) -> list[LeaseId]:
        """What is said to be a provider's leases that have not ended; likewise."""
        named = await self._keys("live_leases", [provider], limits.LIVE_LEASES_LISTED)
        return [LeaseId(one) for one in sorted(named)]

    async def offers(self) -> list[SignedOffer]:
        """What providers say they have, the newest of each: the union over nodes, since one may hide some.

        Each is signed, and has not expired as far as time is verified; that its provider is registered has yet to
        be proven.
        """
        found: dict[PublicKey, SignedOffer] = {}

        async def ask(peer: PeerId) -> None:
            after = b""
            for _ in range(OFFERS):
                page = [codec.decode(bytes_of(raw), SignedOffer) for raw in await self._page(peer, after)]
                for signed in page:
                    self._take_offer(signed, after, found)
                    after = signed.offer.provider
                if not page:
                    break

        await self._hear_all(ask)
        return [found[provider] for provider in sorted(found)]

    async def _page(self, peer: PeerId, after: bytes) -> list[Any]:
        page = await self._call(peer, "offers", [after])
        if type(page) is not list:
            raise PeerFault("light.answer", "offers come as a list")
        return page

    def _take_offer(self, signed: SignedOffer, after: bytes, found: dict[PublicKey, SignedOffer]) -> None:
        """Keep an offer if it says something new. Raises `PeerFault` for one that is none, or out of turn."""
        offer = signed.offer
        if offer.provider <= after:
            raise PeerFault("light.answer", "offers come by provider, each once")
        try:
            check_offer(self.chain, signed)
        except Refused as refusal:
            raise PeerFault("light.answer", f"an offer that is none: {refusal.message}") from None
        before = found.get(offer.provider)
        newer = before is None or before.offer.serial < offer.serial
        if newer and offer.expires_at > self.trusted_time and (before is not None or len(found) < OFFERS):
            found[offer.provider] = signed

    async def _keys(self, method: str, params: list[Any], most: int) -> dict[PublicKey, set[PeerId]]:
        """Keys that nodes list, and which nodes do."""
        found: dict[PublicKey, set[PeerId]] = {}

        async def ask(peer: PeerId) -> None:
            keys = await self._call(peer, method, params)
            if type(keys) is not list or not all(type(key) is bytes and len(key) == KEY_BYTES for key in keys):
                raise PeerFault("light.answer", f"{method} come as a list of keys")
            if len(keys) > most:
                raise PeerFault("light.flood", f"{method}: {len(keys)} keys, a node lists {most} at most")
            for key in keys:
                found.setdefault(PublicKey(key), set()).add(peer)

        await self._hear_all(ask)
        return found

    @asynccontextmanager
    async def answers(
        self, order: OrderId, judge: Callable[[PeerId, Answer], Awaitable[bool]] | None = None
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Answer]]:
        """What nodes pass on as answers to an order, those that `judge` lets through; ends when all have ended.

        Without `judge` all come, repeats included. A node passes on what others signed: an answer that is none is
        its own fault, and it is left out. What one sends in a flood holds up nobody else.
        """
        send, receive = trio.open_memory_channel[Answer](limits.BOOK_ANSWERS_PER_ORDER)

        async def watch(peer: PeerId, into: trio.MemorySendChannel[Answer]) -> None:
            async with into:
                with self.judging(peer):
                    async with self.telling(peer, order) as answers:
                        async for answer in answers:
                            if judge is None or await judge(peer, answer):
                                await into.send(answer)

        with unwrapped():
            async with trio.open_nursery() as nursery:
                async with send:
                    for peer in self.peers:
                        nursery.start_soon(watch, peer, send.clone())
                yield receive
                nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def telling(self, peer: PeerId, order: OrderId) -> AsyncIterator[AsyncIterator[Answer]]:
        """What one node passes on as answers to an order. Raises `PeerFault` for what is no answer."""

        async def decoded(items: AsyncIterator[Any]) -> AsyncGenerator[Answer, None]:
            async for raw in items:
                await trio.lowlevel.checkpoint()  # what lies here already is read without a wait
                yield codec.decode_union(bytes_of(raw), Answer, limit=limits.GOSSIP_ITEM_BYTES)

        async with self._rpc.stream(peer, "watch_order", [order]) as items:
            answers = decoded(items)
            async with aclosing(answers):
                yield answers
