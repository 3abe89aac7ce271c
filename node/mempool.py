"""Transactions waiting for a block: checked on the way in, checked again after every block, bounded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from fondaco.consensus.ledger.application import Checked, Execution
from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.node.news import News
from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.scalars import Millis, TxId


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    raw: bytes
    checked: Checked


class Mempool:
    """In order of arrival; the ledger decides what may be in it."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._pending: dict[TxId, Pending] = {}
        self._bytes = 0
        self.news = News()
        """Rings when a transaction came in."""
        self._later: list[bytes] = []
        """Refused by our state, perhaps because it lags behind the sender's: tried once more after a block."""
        self.refused = 0
        """Transactions that were dropped after a block made them impossible."""
        chain.listeners.append(self._after_commit)

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, identity: TxId) -> bool:
        return identity in self._pending

    def add(self, raw: bytes) -> TxId:
        """Take a transaction in. Raises `Refused` with the ledger's reason, or `mempool.full`; or `PeerFault`."""
        checked = self._chain.ledger.check_tx(raw, now=self._now())
        if checked.id in self._pending:
            return checked.id
        if len(self._pending) >= limits.MEMPOOL_TRANSACTIONS or self._bytes + len(raw) > limits.MEMPOOL_BYTES:
            raise Refused("mempool.full", "this node has no room for more transactions", hint="try again shortly")
        self._pending[checked.id] = Pending(raw=raw, checked=checked)
        self._bytes += len(raw)
        self.news.ring()
        return checked.id

    def add_from_peer(self, raw: bytes) -> bool:
        """Take in what gossip brought; whether it can go on to others. Raises `PeerFault`."""
        try:
            self.add(raw)
        except Refused:
            if len(self._later) < limits.MEMPOOL_LATER:
                self._later.append(raw)
            return False
        return True

    def candidates(self) -> Iterator[bytes]:
        """What the next block may hold, in order of arrival."""
        return (pending.raw for pending in self._pending.values())

    def _now(self) -> Millis:
        """Block time does not run backwards, though clocks may."""
        return Millis(max(clock.now(), self._chain.head.time + 1))

    def _after_commit(self, execution: Execution) -> None:
        included = set(execution.block.transactions)
        now = self._now()
        again, self._later = self._later, []
        for raw in again:
            with contextlib.suppress(Refused, PeerFault):
                self.add(raw)
        for identity, pending in list(self._pending.items()):
            try:
                if pending.raw in included:
                    self._drop(identity)
                else:
                    self._chain.ledger.check_tx(pending.raw, now=now)
            except (Refused, PeerFault):
                self.refused += 1
                self._drop(identity)

    def _drop(self, identity: TxId) -> None:
        self._bytes -= len(self._pending.pop(identity).raw)
