"""Transactions waiting at a simulated node: those rules of `fondaco.node.mempool` that agreement can notice."""

from __future__ import annotations

from collections.abc import Callable

from fondaco.consensus.blocks import name_of
from fondaco.protocol.scalars import Hash

TRANSACTIONS = 500
LATER = 50

Admits = Callable[[bytes], bool]


class Pool:
    """In order of arrival: checked on the way in, and again after every block."""

    def __init__(self, admits: Admits) -> None:
        self._admits = admits
        self._waiting: dict[bytes, None] = {}
        self._later: list[bytes] = []
        """Refused, perhaps because this node lags behind the sender's: tried once more after a block."""
        self._by_name: dict[Hash, bytes] | None = None
        """Made when somebody asks."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def candidates(self) -> tuple[bytes, ...]:
        return tuple(self._waiting)

    def named(self, name: Hash) -> bytes | None:
        """The transaction that a proposal calls so, if it waits here."""
        if self._by_name is None:
            self._by_name = {name_of(transaction): transaction for transaction in self._waiting}
        return self._by_name.get(name)

    def add(self, transaction: bytes) -> bool:
        """Take it in; whether it may go into a block."""
        if self._take(transaction):
            return True
        if len(self._later) < LATER:
            self._later.append(transaction)
        return False

    def after_block(self, included: tuple[bytes, ...]) -> None:
        """Drop what was included and what the block made impossible."""
        for transaction in included:
            self._waiting.pop(transaction, None)
        self._waiting = dict.fromkeys(filter(self._admits, self._waiting))
        self._by_name = None
        again, self._later = self._later, []
        for transaction in again:
            self._take(transaction)

    def _take(self, transaction: bytes) -> bool:
        if transaction in self._waiting:
            return True
        if len(self._waiting) >= TRANSACTIONS or not self._admits(transaction):
            return False
        self._waiting[transaction] = None
        self._by_name = None
        return True
