"""How the nodes asked stand: how far along the chain each is, what it kept back, and why one was left out.

A node that hides the newest blocks shows what was true once, with every signature. So all nodes are asked for
their newest header, at the start and whenever none newer came for as long as an idle chain takes to make one; from
then on nothing older than the newest of them is taken for the present.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

import trio

from fondaco.node import clock
from fondaco.node.network.peers import PeerId
from fondaco.node.news import News
from fondaco.node.tenant.headers import Headers
from fondaco.node.tenant.nodes import ALONE, bytes_of
from fondaco.protocol import codec
from fondaco.protocol.agreement import Header
from fondaco.protocol.errors import FondacoError, Unreachable
from fondaco.protocol.light import LightBlock
from fondaco.protocol.scalars import Millis

log = logging.getLogger("fondaco.tenant")
STALE_HEARTBEATS = 3
"""A head older than this many heartbeats is refused: somebody may be hiding newer ones."""
LOOK_PAUSE_S = 1.0
"""Between two looks at a chain that makes no blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStanding:
    """What a light client has seen of one node that it asked."""

    peer: PeerId
    height: int | None
    """Of the newest block it showed when it was asked last; None if it showed none."""
    behind: int | None
    """Blocks between that and the newest one verified by then."""
    behind_ms: int | None
    """Likewise, in block time."""
    told: int
    """Answers to this client's orders that it passed on."""
    missed: int
    """Those that others passed on, and it had not when nothing more was waited for: it may be slow."""
    withheld: int
    """Those of them that it still had not passed on when there had been time enough."""
    fault: str
    """Why it is asked no more; empty for one that is."""


class Heads(Headers):
    """The newest headers of all nodes."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.heads: dict[PeerId, Header] = {}
        """The newest header that each showed when it was asked last, verified."""
        self.told: Counter[PeerId] = Counter()
        self.missed: Counter[PeerId] = Counter()
        self.withheld: Counter[PeerId] = Counter()
        """Of answers to orders, see `NodeStanding`."""
        self.hearings = 0
        """Nodes that are still heard out on what they may have withheld."""
        self._all_heard = News()

    def heard_out(self) -> None:
        """One of the hearings is over."""
        self.hearings -= 1
        self._all_heard.ring()

    async def wait_heard_out(self) -> None:
        """Wait until it is known who withheld what; at most for `bounds.WITHHELD_GRACE_S`."""
        while self.hearings:
            await self._all_heard.next.wait()

    @property
    def trusted_time(self) -> Millis:
        """Block time as far as it is verified."""
        return Millis(self.trusted.time)

    async def look_around(self) -> None:
        """Have every node show its newest header; the newest that holds is trusted from then on.

        Where all that answer show the same one, that is as good as `cross_check`. Raises `Unreachable`
        `light.all_lied`, or `Refused` `light.fork`.
        """

        async def ask(peer: PeerId) -> None:
            block = codec.decode(bytes_of(await self._call(peer, "head", [])), LightBlock)
            await self._trust(peer, block)
            self.heads[peer] = block.signed.header
            shown.append(block.signed.header.height)

        shown: list[int] = []
        await self._hear_all(ask)
        self._ask_whom()
        if len(shown) >= ALONE and set(shown) == {self.trusted.height}:
            self._checked_height = max(self._checked_height, self.trusted.height)

    async def watch_heads(self) -> None:
        """Look around whenever no newer header came for a heartbeat, in the background; ends with a fork."""
        heartbeat_s = self.genesis.params.heartbeat_ms / 1_000
        while self.fork is None:
            age_s = (clock.now() - self.trusted.time) / 1_000
            await trio.sleep(min(heartbeat_s, max(LOOK_PAUSE_S, heartbeat_s - age_s)))
            if clock.now() - self.trusted.time < self.genesis.params.heartbeat_ms:
                continue
            try:
                await self.look_around()
            except FondacoError as error:
                log.info("looking around: %s", error)

    async def check_fresh_head(self, heartbeat_ms: int) -> None:
        """Raise `Unreachable` `light.stale` if the newest header of all nodes is too old for a living chain."""
        if clock.now() - self.trusted.time > STALE_HEARTBEATS * heartbeat_ms:
            await self.look_around()
        age = clock.now() - self.trusted.time
        if age > STALE_HEARTBEATS * heartbeat_ms:
            raise Unreachable("light.stale", f"the newest block these nodes show is {age // 1_000} s old")

    def standings(self) -> list[NodeStanding]:
        """Of every node connected to in the beginning."""
        newest = max((head.height for head in self.heads.values()), default=0)
        at = max((head.time for head in self.heads.values()), default=0)
        return [
            NodeStanding(
                peer=peer,
                height=head.height if head else None,
                behind=newest - head.height if head else None,
                behind_ms=at - head.time if head else None,
                told=self.told[peer],
                missed=self.missed[peer],
                withheld=self.withheld[peer],
                fault=self.faults.get(peer, ""),
            )
            for peer in self.known
            for head in [self.heads.get(peer)]
        ]
