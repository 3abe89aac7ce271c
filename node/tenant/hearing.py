"""The answers to one order as several nodes pass them on: which are good, and which node kept some back.

A node passes on what its book admitted: answers to this order, rightly signed, of registered providers. One that
passes on anything else, or more than a book holds, is at fault. One that passes on less may be slow, or may be
hiding a cheaper bid; the others tell of that bid all the same, so it is only noted: an answer counts as withheld
where a node has not told of it though others did and the order stayed open for `bounds.WITHHELD_GRACE_S` after.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from fondaco.node.book.entries import Place, said
from fondaco.node.network.peers import PeerId
from fondaco.node.tenant import bounds
from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.nodes import SPREAD_GRACE_S
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.market import Answer, SignedBid, check_bid, check_decline
from fondaco.protocol.records import Provider, key_provider
from fondaco.protocol.scalars import OrderId, PublicKey

log = logging.getLogger("fondaco.tenant")
OnWithheld = Callable[[PeerId, int], None]
"""(node, answers) it was found to hide."""


class Hearing:
    """Hears what nodes tell of one order of ours."""

    def __init__(self, light: LightClient, order: OrderId, groups: int, on_withheld: OnWithheld) -> None:
        self._light = light
        self._order = order
        self._groups = groups
        self._on_withheld = on_withheld
        self._newest: dict[Place, Answer] = {}
        """The best word of each provider on each group, checked."""
        self._since: dict[Place, float] = {}
        """When the first node told of that."""
        self._told: defaultdict[PeerId, dict[Place, int]] = defaultdict(dict)
        """The rank of what each node told."""
        self._items: Counter[PeerId] = Counter()
        self._strangers: Counter[PeerId] = Counter()
        self._registered: dict[PublicKey, bool] = {}
        self._asking: defaultdict[PublicKey, trio.Lock] = defaultdict(trio.Lock)

    @asynccontextmanager
    async def answers(self) -> AsyncIterator[trio.MemoryReceiveChannel[Answer]]:
        """Good answers, each once; ends when all nodes have ended. Afterwards nodes that lag are heard out."""
        watched = list(self._light.peers)
        async with self._light.answers(self._order, self.take) as incoming:
            yield incoming
        for peer in watched:
            if peer in self._light.peers:
                self._light.hearings += 1
                self._light.host.start_soon(self._hear_out, peer)

    async def take(self, peer: PeerId, answer: Answer) -> bool:
        """Note that a node told of an answer; whether that is news. Raises `PeerFault` for what no book holds."""
        self._items[peer] += 1
        if self._items[peer] > bounds.ANSWERS_PER_NODE:
            raise PeerFault("light.flood", "more answers to one order than a book passes on")
        message = said(answer)
        place: Place = (message.provider, message.group)
        if self._newest.get(place) != answer:
            self._check(answer)
            if message.group >= self._groups or not await self._is_registered(message.provider):
                self._strangers[peer] += 1
                if self._strangers[peer] > bounds.STRANGERS_PER_NODE:
                    raise PeerFault("light.strangers", "many answers of who the ledger does not know as providers")
                return False
        rank = _rank(answer)
        self._told[peer][place] = max(rank, self._told[peer].get(place, 0))
        if place in self._newest and rank <= _rank(self._newest[place]):
            return False
        self._newest[place], self._since[place] = answer, trio.current_time()
        return True

    def _check(self, answer: Answer) -> None:
        if said(answer).order != self._order:
            raise PeerFault("light.answer", "an answer to another order")
        try:
            if isinstance(answer, SignedBid):
                check_bid(self._light.chain, answer)
            else:
                check_decline(self._light.chain, answer)
        except Refused as error:
            raise PeerFault(error.code, error.message) from None

    async def _is_registered(self, key: PublicKey) -> bool:
        """Whether the ledger is proven to hold this provider: keys are free, anybody can make up any number."""
        async with self._asking[key]:
            if key not in self._registered:
                try:
                    self._registered[key] = await self._light.record(key_provider(key), Provider) is not None
                except Unreachable as error:
                    log.info("an answer is passed over: %s", error)
                    return False
            return self._registered[key]

    def _lacking(self, peer: PeerId) -> list[Place]:
        """What others told of and this node did not."""
        told = self._told[peer]
        return [place for place, answer in self._newest.items() if told.get(place, 0) < _rank(answer)]

    async def _hear_out(self, peer: PeerId) -> None:
        """Give a node that lags its time, then say what it told, and what it never did."""
        light = self._light
        try:
            lacking = self._lacking(peer)
            since = max((self._since[place] for place in lacking), default=0)
            until = max(since + bounds.WITHHELD_GRACE_S, trio.current_time() + SPREAD_GRACE_S)
            with trio.move_on_at(until) as scope, light.judging(peer):
                await self._listen(peer)
            lacking = self._lacking(peer)
            light.told[peer] += len(self._told[peer])
            light.missed[peer] += len(lacking)
            if lacking and scope.cancelled_caught:
                light.withheld[peer] += len(lacking)
                log.warning("%s withheld %d of %d answers", peer, len(lacking), len(self._newest))
                self._on_withheld(peer, len(lacking))
        finally:
            light.heard_out()

    async def _listen(self, peer: PeerId) -> None:
        """Until the node has told what others did, or says that the order is over."""
        if self._lacking(peer):
            async with self._light.telling(peer, self._order) as answers:
                async for answer in answers:
                    await self.take(peer, answer)
                    if not self._lacking(peer):
                        return


def _rank(answer: Answer) -> int:
    """Higher for what takes the place of the other: a bid of a decline's, a later bid of an earlier one's."""
    return 2 + answer.bid.serial if isinstance(answer, SignedBid) else 1
