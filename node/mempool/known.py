"""What became of transactions that were met before, so that it need not be found out again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.scalars import Hash, Height

FOR_GOOD = frozenset({"tx.version", "tx.chain", "tx.messages", "tx.expired", "tx.used"})
"""Refusals that no block takes back; what else the ledger refuses may hold after the next one."""


@dataclass(frozen=True, slots=True)
class _Fault:
    kind: type[PeerFault | Refused]
    code: str
    message: str
    until: Height | None
    """The head it was found at, where another one may make a difference."""

    def error(self) -> PeerFault | Refused:
        return self.kind(self.code, self.message)


_INCLUDED = _Fault(Refused, "tx.used", "this transaction has already been included", None)


class Known:
    """By the hash of the full bytes; beyond `limits.MEMPOOL_KNOWN` the oldest go."""

    def __init__(self) -> None:
        self._faults: dict[Hash, _Fault] = {}
        self._order: deque[Hash] = deque()
        """The oldest first; a row beside a plain dictionary takes half as much as an ordered one."""
        self.repeated = 0
        """Transactions that were not looked at again."""

    def __len__(self) -> int:
        return len(self._faults)

    def check(self, digest: Hash, head: Height) -> None:
        """Raise what is known to be wrong with it."""
        fault = self._faults.get(digest)
        if fault is not None and fault.until in (None, head):
            self.repeated += 1
            raise fault.error()

    def included(self, digest: Hash) -> None:
        self._put(digest, _INCLUDED)

    def refused(self, digest: Hash, error: PeerFault | Refused, head: Height) -> None:
        for_good = isinstance(error, PeerFault) or error.code in FOR_GOOD
        message = error.message[: limits.MEMO_BYTES]
        self._put(digest, _Fault(type(error), error.code, message, None if for_good else head))

    def _put(self, digest: Hash, fault: _Fault) -> None:
        if digest not in self._faults:
            self._order.append(digest)
        self._faults[digest] = fault
        if len(self._faults) > limits.MEMPOOL_KNOWN:
            del self._faults[self._order.popleft()]
