"""Catching up: fetch blocks that others have, with their certificates, and check both before taking them.

Runs beside consensus. It starts when the engine sees that a height was decided elsewhere, when a peer connects,
and when the chain stands still for longer than a heartbeat allows.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from fondaco.consensus.blocks import check_bound
from fondaco.consensus.certificates import SignatureCache, verify_commit
from fondaco.node.chain import Chain
from fondaco.node.news import News
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.errors import FondacoError, PeerFault, Refused
from fondaco.protocol.scalars import Height
from fondaco.protocol.signing import verify

log = logging.getLogger("fondaco.sync")
PROTOCOL = "/fondaco/sync/1"

Call = Callable[[str, str, list[Any]], Awaitable[Any]]
"""(peer, method, parameters) -> result."""
Apply = Callable[[Block, CommitCertificate], Awaitable[bool]]
"""Commits a verified block between two steps of the engine; whether it was the next one."""
Blame = Callable[[str, PeerFault], None]
"""Tells the host of a peer that gave what no honest one gives."""


class SyncService:
    """What this node answers on `/fondaco/sync/1`: `status` -> [height]; `blocks` [from, to] -> pairs of bytes."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def methods(self) -> dict[str, Callable[..., Any]]:
        return {"status": self.status, "blocks": self.blocks}

    async def status(self, peer: str, params: Any) -> list[int]:
        return [self._chain.head.height]

    async def blocks(self, peer: str, params: Any) -> list[list[bytes]]:
        if type(params) is not list or len(params) != 2 or not all(type(one) is int for one in params):
            raise Refused("request.params", "wanted [from, to]")
        start, end = params
        first = self._chain.store.first_height()
        if first is not None and self._chain.genesis.initial_height <= start < first:
            raise Refused("sync.pruned", f"blocks below height {first} are not kept here")
        stored = self._chain.store.range(
            Height(start), Height(min(end, start + limits.SYNC_BATCH_BLOCKS)), limits.SYNC_BATCH_BYTES
        )
        return [[entry.body, entry.certificate] for entry in stored]


class Sync:
    """Brings this node to the height of its peers."""

    def __init__(
        self, chain: Chain, peers: Callable[[], list[str]], call: Call, apply: Apply, blame: Blame
    ) -> None:
        self._chain = chain
        self._peers = peers
        self._call = call
        self._apply = apply
        self._blame = blame
        self._wanted = News()
        self._signatures = SignatureCache(chain.id, verify)
        self._caught_up = trio.Event()
        self.fetched = 0
        """Blocks taken from others since the start."""

    def request(self) -> None:
        """Somebody is ahead: look soon."""
        self._wanted.ring()

    async def wait_caught_up(self) -> None:
        """Until this node stood, once since its start, as high as a peer that it asked."""
        await self._caught_up.wait()

    async def run(self) -> None:
        stale_after = 1.5 * self._chain.ledger.params.heartbeat_ms / 1_000
        while True:
            waiting = self._wanted.next
            await self._catch_up()
            with trio.move_on_after(stale_after):
                await waiting.wait()

    async def _catch_up(self) -> None:
        """Ask peers in random order until none that answers is ahead."""
        peers = self._peers()
        random.shuffle(peers)
        for peer in peers:
            try:
                while (height := await self._height_of(peer)) > self._chain.head.height:
                    await self._fetch(peer, height)
                self._caught_up.set()
            except PeerFault as fault:
                log.warning("peer %s does not give its blocks: %s", peer, fault)
                self._blame(peer, fault)
            except FondacoError as error:
                log.info("peer %s did not help to catch up: %s", peer, error)

    async def _height_of(self, peer: str) -> Height:
        answer = await self._call(peer, "status", [])
        if type(answer) is not list or len(answer) != 1 or type(answer[0]) is not int:
            raise PeerFault("sync.answer", "a status is one height")
        return Height(answer[0])

    async def _fetch(self, peer: str, target: Height) -> None:
        """Take one batch; at its end this node stands higher than before."""
        start = Height(self._chain.head.height + 1)
        batch = await self._call(peer, "blocks", [start, min(start + limits.SYNC_BATCH_BLOCKS, target + 1)])
        if type(batch) is not list or not all(_is_pair_of_bytes(one) for one in batch):
            raise PeerFault("sync.answer", "blocks come as pairs of bytes")
        for raw_block, raw_certificate in batch:
            block = codec.decode(raw_block, Block)
            certificate = codec.decode(raw_certificate, CommitCertificate)
            if block.header.height <= self._chain.head.height:
                continue  # consensus was faster
            self._check(block, certificate)
            if await self._apply(block, certificate):
                self.fetched += 1
        if self._chain.head.height < start:
            raise PeerFault("sync.empty", f"it says it is at {target} but does not give block {start}")
        log.info("caught up to %d of %d", self._chain.head.height, target)

    def _check(self, block: Block, certificate: CommitCertificate) -> None:
        """The certificate first, then that it is for this very block, all that is in it included."""
        if block.header.height != self._chain.head.height + 1 or certificate.height != block.header.height:
            raise PeerFault("sync.order", "the blocks it gives do not follow each other")
        verify_commit(certificate, self._chain.ledger.validators, self._signatures.holds)
        check_bound(block, certificate.value)


def _is_pair_of_bytes(value: object) -> bool:
    return type(value) is list and len(value) == 2 and all(type(one) is bytes for one in value)
