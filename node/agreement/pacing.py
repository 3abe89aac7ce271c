"""When the engine is rung: as soon as there is something to agree on, and where that comes thick not too often."""

from __future__ import annotations

import trio

from fondaco.consensus.ledger.application import Execution
from fondaco.node import clock
from fondaco.node.agreement.evidence_pool import EvidencePool
from fondaco.node.chain import Chain
from fondaco.node.mempool import Mempool
from fondaco.node.news import any_of
from fondaco.protocol import limits
from fondaco.protocol.scalars import Millis


class Pace:
    """Idle blocks are skipped until the heartbeat; a transaction, evidence or a due moment begins one."""

    def __init__(self, chain: Chain, mempool: Mempool, evidence: EvidencePool) -> None:
        self._chain = chain
        self._mempool = mempool
        self._evidence = evidence
        self._carried = 0
        """Transactions in the newest block."""
        chain.listeners.append(self._note)

    async def wait(self) -> trio.Event:
        """Until the next block should begin; what is set once there is one."""
        while True:
            committed = self._chain.news.next
            arrived = self._mempool.news.next, self._evidence.news.next
            due = self._chain.head.time + self._chain.ledger.params.heartbeat_ms
            if self._chain.is_empty:
                due = Millis(0)  # nothing can be proven before there is a block
            moment = self._chain.due_moment()
            if moment is not None:
                due = min(due, moment)
            wait_ms = 0 if len(self._mempool) or len(self._evidence) else due - clock.now()
            if wait_ms <= 0:
                await self._gather()
                return committed
            with trio.move_on_after(wait_ms / 1_000):
                await any_of(committed, *arrived)

    def _note(self, execution: Execution) -> None:
        self._carried = len(execution.block.transactions)

    async def _gather(self) -> None:
        """Where transactions come thick, let some more come in: what a block costs is mostly not theirs."""
        pace = min(limits.BLOCK_PACE_MS, self._carried * limits.BLOCK_PACE_MS_PER_TRANSACTION)
        wait_ms = self._chain.head.time + pace - clock.now()
        if wait_ms > 0:
            await trio.sleep(min(wait_ms, pace) / 1_000)
