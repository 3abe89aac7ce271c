"""Reconciling the book with neighbours over `/fondaco/book/1`: rounds with them, and answers to theirs.

Gossip brings an order or a bid in milliseconds, mostly. What it did not bring a round does: every few seconds the
book is compared with that of a neighbour drawn by chance, and what is lacking is pulled. It is admitted as if it
had come by gossip, and is not passed on: who lacks it, too, has rounds of its own.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from fondaco.node.book.book import Book
from fondaco.protocol import codec, limits
from fondaco.protocol.book import answering, bounds
from fondaco.protocol.book.allowance import Allowance
from fondaco.protocol.book.digests import ID_BYTES, ItemId, item_id
from fondaco.protocol.book.rounds import Round
from fondaco.protocol.codec import Plain
from fondaco.protocol.errors import FondacoError, PeerFault, Refused
from fondaco.protocol.market import SignedOrder
from fondaco.protocol.offers import GossipItem
from fondaco.protocol.scalars import Millis

log = logging.getLogger("fondaco.book")
PROTOCOL = "/fondaco/book/1"
ADMITTED_AT_ONCE = 16
"""Items between two looks at what else the node has to do; each costs a signature's check."""

Call = Callable[[str, str, list[Any]], Awaitable[Any]]
"""(peer, method, parameters) -> result."""
Blame = Callable[[str, PeerFault], None]


@dataclass(slots=True)
class ReconcileCounters:
    """Since the start."""

    rounds: int = 0
    rounds_failed: int = 0
    """That a neighbour did not answer in time, or not as it should."""
    pulled: int = 0
    """Items that were new."""
    refused: int = 0
    """Items pulled that the ledger's state did not allow, or there was no room for."""
    bytes_in: int = 0
    """Of answers to us."""
    served: int = 0
    """Questions answered."""
    bytes_out: int = 0
    """Of answers to others."""
    served_refused: int = 0
    """Questions of neighbours that had asked too much."""


class Reconciler:
    """Both sides; `run` it in a nursery."""

    def __init__(self, book: Book, neighbours: Callable[[], list[str]], call: Call, blame: Blame) -> None:
        self.counters = ReconcileCounters()
        self._book = book
        self._neighbours = neighbours
        self._call = call
        self._blame = blame
        self._chance = random.Random()
        """Our own, not the module's: what others draw from that in other threads stays as they wanted it."""
        self._allowance = Allowance(
            full=bounds.SERVED_BYTES,
            per_second=bounds.SERVED_BYTES_PER_S,
            peers=limits.CONNECTIONS,
        )

    # Our rounds

    async def run(self) -> None:
        """A round every `bounds.ROUND_MS` or so, sooner while there is more to pull. Until cancelled."""
        pause_ms = bounds.ROUND_MS
        while True:
            await trio.sleep(pause_ms * self._chance.uniform(0.5, 1.5) / 1_000)
            more = await self.round_with_any()
            pause_ms = bounds.ROUND_SOON_MS if more else bounds.ROUND_MS

    async def round_with_any(self) -> bool:
        """A round with a neighbour drawn by chance, or with the next where that one cannot; as `round`."""
        neighbours = self._neighbours()
        for peer in self._chance.sample(neighbours, min(len(neighbours), bounds.ROUND_TRIES)):
            failed = self.counters.rounds_failed
            more = await self.round(peer)
            if self.counters.rounds_failed == failed:
                return more
        return False

    async def round(self, peer: str) -> bool:
        """Pull from `peer` what we lack; whether it brought something, and there is more of it and room."""
        pulled, shed = self.counters.pulled, self._book.holdings.counters.shed
        point = ItemId(self._chance.randbytes(ID_BYTES))
        pulling = Round(self._book.holdings.index, point=point, over=self._book.over)
        self.counters.rounds += 1
        try:
            with trio.move_on_after(bounds.ROUND_LASTS_MS / 1_000) as scope:
                while (question := pulling.question()) is not None:
                    items = pulling.take(await self._call(peer, question.method, question.params))
                    await self._admit_all(items, peer)
            self.counters.rounds_failed += scope.cancelled_caught
        except PeerFault as fault:
            self.counters.rounds_failed += 1
            self._blame(peer, fault)
        except FondacoError as error:
            self.counters.rounds_failed += 1
            log.debug("no round with %s: %s", peer, error)
        finally:
            self.counters.bytes_in += pulling.size
        room = self._book.holdings.counters.shed == shed
        return room and pulling.more and self.counters.pulled > pulled

    async def _admit_all(self, items: list[tuple[ItemId, bytes]], peer: str) -> None:
        decoded: list[tuple[ItemId, GossipItem]] = [
            (item, codec.decode_union(raw, GossipItem, limit=limits.GOSSIP_ITEM_BYTES)) for item, raw in items
        ]
        decoded.sort(key=lambda one: not isinstance(one[1], SignedOrder))  # so that answers find their orders
        for number, (item, signed) in enumerate(decoded, start=1):
            self._admit(item, signed, peer)
            if number % ADMITTED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def _admit(self, item: ItemId, signed: GossipItem, peer: str) -> None:
        """Raises `PeerFault` for what no honest peer has in its book, or was not asked for."""
        try:
            message = self._book.check(signed)
        except Refused as refusal:
            raise PeerFault(refusal.code, refusal.message) from None
        if item_id(message) != item:
            raise PeerFault("book.unasked", "an item came that was not asked for")
        try:
            if self._book.admit(message, signed, peer):
                self.counters.pulled += 1
        except Refused as refusal:
            self.counters.refused += 1
            self._book.waive(item)
            log.debug("item ignored: %s", refusal)

    # Our answers

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Method name -> handler, as the request server takes them."""
        return {"digests": self._digests, "ids": self._ids, "items": self._items}

    async def _digests(self, peer: str, params: Plain) -> Plain:
        return self._serve(peer, lambda: answering.digests(self._book.holdings.index, params))

    async def _ids(self, peer: str, params: Plain) -> Plain:
        return self._serve(peer, lambda: answering.ids(self._book.holdings.index, params))

    async def _items(self, peer: str, params: Plain) -> Plain:
        return self._serve(peer, lambda: answering.items(answering.wanted(params), self._encoded))

    def _encoded(self, item: ItemId) -> bytes:
        found = self._book.item(item)
        return b"" if found is None else codec.encode(found)

    def _serve(self, peer: str, answer: Callable[[], bytes | list[bytes]]) -> Plain:
        """Raises `Refused` `book.busy` for who has asked too much lately."""
        now = Millis(int(trio.current_time() * 1_000))
        if not self._allowance.has(peer, now):
            self.counters.served_refused += 1
            raise Refused("book.busy", "this neighbour has asked for too much", hint="ask again in some seconds")
        size = 0
        try:
            answered = answer()
            size = len(answered) if isinstance(answered, bytes) else sum(map(len, answered))
        finally:
            self._allowance.spend(peer, bounds.CALL_BYTES + size, now)
        self.counters.served += 1
        self.counters.bytes_out += size
        return answered
