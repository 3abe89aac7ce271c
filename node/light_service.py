"""What this node answers on `/fondaco/light/1` to tenants and other light nodes.

Every answer about the ledger is a header with its signatures and a Merkle proof: whoever asks checks it.
Parameters and results are plain values; the methods are:

=================== ======================================= ==============================================
genesis             []                                      the genesis document, JSON
head                []                                      `LightBlock` of the newest block
block               [height]                                `LightBlock` at `height`
record              [key]                                   `ProvenRecord` at the newest block
watch_record        [key]                                   `ProvenRecord` now, and whenever it changes
submit_transaction  [bytes of a `SignedTransaction`]        its id
transaction         [id]                                    `ProvenOutcome`, once it is in a block
submit_order        [bytes of a `SignedOrder`]              its id
watch_order         [order id]                              each answer as it comes
providers           []                                      the keys of registered providers
auditors            [provider's key]                        the keys of auditors that speak of it
offers              [provider's key, or none]               the next `SignedOffer`s after it, by provider
live_leases         [provider's key]                        the ids of its leases that have not ended
report_fork         [bytes of a `Fork`]                     the hash of the evidence that it is
=================== ======================================= ==============================================
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache
from typing import Any

from fondaco.consensus import merkle_list
from fondaco.consensus.blocks import event_leaf
from fondaco.consensus.ledger.retiring import live_leases
from fondaco.consensus.ledger.trust import KEY_BYTES, attestations_of
from fondaco.node.book import Book
from fondaco.node.chain import Chain, Inclusion
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import SignedHeader, Validator
from fondaco.protocol.errors import Refused
from fondaco.protocol.light import Fork, LightBlock, ProvenOutcome, ProvenRecord
from fondaco.protocol.market import SignedOrder
from fondaco.protocol.scalars import Hash, Height, OrderId, PublicKey, TxId

Submit = Callable[[bytes], Awaitable[TxId]]
SubmitOrder = Callable[[SignedOrder, str], Awaitable[OrderId]]
"""(order, the peer that hands it in) -> its id."""
OFFERS_PAGE_BYTES = 256 * limits.KIB
ReportFork = Callable[[Fork], Awaitable[Hash]]
TREES_KEPT = 8
"""Over the events of the blocks asked for last: as many full ones as outcomes are remembered of, and some."""


class LightService:
    """The methods of `/fondaco/light/1`, over this node's chain and book."""

    def __init__(
        self, chain: Chain, book: Book, submit: Submit, submit_order: SubmitOrder, report_fork: ReportFork
    ) -> None:
        self._chain = chain
        self._book = book
        self._submit = submit
        self._submit_order = submit_order
        self._report_fork = report_fork

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Method name -> handler, as the request server takes them."""
        return {
            "genesis": self.genesis,
            "head": self.head,
            "block": self.block,
            "record": self.record,
            "watch_record": self.watch_record,
            "submit_transaction": self.submit_transaction,
            "transaction": self.transaction,
            "submit_order": self.submit_order,
            "watch_order": self.watch_order,
            "providers": self.providers,
            "offers": self.offers,
            "live_leases": self.live_leases,
            "auditors": self.auditors,
            "report_fork": self.report_fork,
        }

    async def genesis(self, peer: str, params: Any) -> bytes:
        _arguments(params)
        return json.dumps(self._chain.genesis.to_json()).encode()

    async def head(self, peer: str, params: Any) -> bytes:
        _arguments(params)
        await self._chain.wait_first_block()
        return codec.encode(self._light_block(self._chain.head.height))

    async def block(self, peer: str, params: Any) -> bytes:
        (height,) = _arguments(params, int)
        return codec.encode(self._light_block(Height(height)))

    async def record(self, peer: str, params: Any) -> bytes:
        (key,) = _arguments(params, bytes)
        await self._chain.wait_first_block()
        return codec.encode(self._proven(key))

    async def watch_record(self, peer: str, params: Any) -> AsyncIterator[bytes]:
        (key,) = _arguments(params, bytes)
        await self._chain.wait_first_block()
        first, sent = True, None
        while True:
            waiting = self._chain.news.next
            proven = self._proven(key)
            if first or proven.value != sent:
                first, sent = False, proven.value
                yield codec.encode(proven)
            await waiting.wait()

    async def submit_transaction(self, peer: str, params: Any) -> bytes:
        (raw,) = _arguments(params, bytes)
        return await self._submit(raw)

    async def transaction(self, peer: str, params: Any) -> bytes:
        (identity,) = _arguments(params, bytes)
        while True:
            waiting = self._chain.news.next
            found = self._chain.inclusion(TxId(identity))
            if found is not None:
                return codec.encode(self._outcome(found))
            await waiting.wait()

    async def submit_order(self, peer: str, params: Any) -> bytes:
        (raw,) = _arguments(params, bytes)
        signed = codec.decode(raw, SignedOrder, limit=limits.GOSSIP_ITEM_BYTES)
        return await self._submit_order(signed, peer)

    async def watch_order(self, peer: str, params: Any) -> AsyncIterator[bytes]:
        (identity,) = _arguments(params, bytes)
        if self._book.order(OrderId(identity)) is None:
            raise Refused("order.unknown", "this order is not in the book here")
        async for answer in self._book.watch(OrderId(identity)):
            yield codec.encode(answer)

    async def providers(self, peer: str, params: Any) -> list[bytes]:
        _arguments(params)
        found = self._chain.ledger.state().scan(b"provider/", limits.PROVIDERS_LISTED)
        return [key.removeprefix(b"provider/") for key, _ in found]

    async def offers(self, peer: str, params: Any) -> list[bytes]:
        (after,) = _arguments(params, bytes)
        found: list[bytes] = []
        for signed in self._book.offers.all():
            if signed.offer.provider > after and sum(map(len, found)) < OFFERS_PAGE_BYTES:
                found.append(codec.encode(signed))
        return found

    async def auditors(self, peer: str, params: Any) -> list[bytes]:
        (provider,) = _arguments(params, bytes)
        if len(provider) != KEY_BYTES:
            raise Refused("request.params", "a provider is named by its key")
        said = attestations_of(self._chain.ledger.state(), PublicKey(provider))
        return [one.auditor for one in said]

    async def live_leases(self, peer: str, params: Any) -> list[bytes]:
        (provider,) = _arguments(params, bytes)
        if len(provider) != KEY_BYTES:
            raise Refused("request.params", "a provider is named by its key")
        return list(live_leases(self._chain.ledger.state(), PublicKey(provider), limits.LIVE_LEASES_LISTED))

    async def report_fork(self, peer: str, params: Any) -> bytes:
        (raw,) = _arguments(params, bytes)
        return await self._report_fork(codec.decode(raw, Fork, limit=limits.FORK_BYTES))

    def _light_block(self, height: Height) -> LightBlock:
        if not 0 <= height <= self._chain.head.height:  # the database takes no greater numbers than these
            raise self._absent(height)
        signed: SignedHeader | None = self._chain.store.signed_header(height)
        validators = self._chain.validators_at(height)
        following = self._chain.validators_at(Height(height + 1))
        if signed is None or validators is None or following is None:
            raise self._absent(height)
        members: tuple[Validator, ...] = validators.members
        return LightBlock(signed=signed, validators=members, next_validators=following.members)

    def _absent(self, height: Height) -> Refused:
        first = self._chain.store.first_height()
        if first is not None and self._chain.genesis.initial_height <= height < first:
            return Refused(
                "block.pruned",
                f"blocks below height {first} are not kept here",
                hint="ask a node that keeps all blocks",
            )
        return Refused("block.unknown", f"this node does not hold block {height}")

    def _outcome(self, found: Inclusion) -> ProvenOutcome:
        tree = _tree(found.event_hashes)
        return ProvenOutcome(
            block=self._light_block(found.height),
            event=event_leaf(found.applied),
            index=found.index,
            count=tree.count,
            path=tree.prove(found.index),
            message=found.message,
        )

    def _proven(self, key: bytes) -> ProvenRecord:
        value, proof = self._chain.ledger.prove(key)
        return ProvenRecord(
            block=self._light_block(self._chain.head.height), value=value, proof=codec.encode(proof)
        )


@lru_cache(maxsize=TREES_KEPT)
def _tree(event_hashes: bytes) -> merkle_list.Tree:
    """Made once for the many that wait for one block."""
    return merkle_list.Tree(event_hashes)


def _arguments(params: Any, *kinds: type) -> Any:
    """Check what a peer passed. Raises `Refused` `request.params`."""
    if type(params) is not list or [type(value) for value in params] != list(kinds):
        raise Refused("request.params", f"wanted {[kind.__name__ for kind in kinds]}")
    return params
