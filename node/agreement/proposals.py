"""Compact proposals at their host: `consensus.rebuilding` says what becomes of them, and here peers are asked.

A node answers `transactions` [names] -> [bytes...] on `/fondaco/sync/1`, with those that it has.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from fondaco.consensus.engine import Engine
from fondaco.consensus.rebuilding import Answered, Ask, Rebuilder
from fondaco.node.mempool import Mempool
from fondaco.node.network.links import Links
from fondaco.node.network.peers import PeerId, peer_id_of, public_key_of
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import ConsensusMessage, SignedProposal
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.scalars import PublicKey

FETCH_MS = 500
"""For one peer to answer: half of the shortest time that a proposal is waited for."""


class Call(Protocol):
    """Asks a peer on sync's protocol. Raises `Refused` or `Unreachable`."""

    async def __call__(self, peer: PeerId, method: str, params: Any, *, timeout_ms: int) -> Any: ...


class Proposals:
    """Says proposals shortly, and finds out what those of others stand for."""

    def __init__(self, engine: Engine, mempool: Mempool) -> None:
        self.rebuilder = Rebuilder(engine.expects, mempool.named, self._others)
        self.links: Links | None = None
        """The peers that have a link may be asked."""
        self.call: Call | None = None
        """Without it nobody is: a proposal that names what is not here comes to nothing."""

    def encode(self, message: ConsensusMessage) -> bytes:
        """As it travels."""
        return codec.encode(self.rebuilder.shorten(message) if isinstance(message, SignedProposal) else message)

    async def fetch(self, ask: Ask) -> Answered:
        """Ask, and wait no longer than `FETCH_MS`. Raises `PeerFault` for what is no answer."""
        if self.call is None:
            return Answered(ask, ())
        try:
            answer = await self.call(peer_id_of(ask.peer), "transactions", [list(ask.names)], timeout_ms=FETCH_MS)
        except (Refused, Unreachable):
            return Answered(ask, ())
        if type(answer) is not list or not all(type(one) is bytes for one in answer):
            raise PeerFault("proposal.answer", "transactions come as a list of bytes")
        return Answered(ask, answer)

    def methods(self) -> dict[str, Callable[..., Any]]:
        return {"transactions": self.transactions}

    async def transactions(self, peer: PeerId, params: Any) -> Sequence[bytes]:
        """Those of these that wait here, or are in a block that was proposed lately."""
        if type(params) is not list or len(params) != 1 or type(params[0]) is not list:
            raise Refused("request.params", "wanted [names]")
        names = params[0]
        if len(names) > limits.BLOCK_TRANSACTIONS or not all(type(name) is bytes for name in names):
            raise Refused("request.params", f"wanted at most {limits.BLOCK_TRANSACTIONS} names")
        return self.rebuilder.give(names)

    def _others(self) -> Iterable[PublicKey]:
        peers = [] if self.links is None else self.links.peers()
        return map(public_key_of, random.sample(peers, len(peers)))
