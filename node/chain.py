"""This node's copy of the chain: the ledger over the store, one block at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fondaco.consensus.ledger.application import Execution, Head, Ledger
from fondaco.consensus.ledger.envelope import Envelopes
from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.ledger.state import Writes
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.genesis_file import first_writes, read_genesis
from fondaco.node.market.log import pack_events
from fondaco.node.news import News
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Block, CommitCertificate, Validator
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import TransactionApplied
from fondaco.protocol.records import VALIDATORS, ValidatorSets
from fondaco.protocol.scalars import ChainId, Height, Millis, TxId
from fondaco.protocol.signing import verify

__all__ = ["Chain", "Inclusion", "begin", "read_genesis"]

CHAIN = b"a/chain"
"""Where a database says which chain it holds."""
OnCommit = Callable[[Execution], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """What became of a transaction, and where its block's header commits to that."""

    height: Height
    applied: TransactionApplied
    """As this node's ledger told of it, words included."""
    event_hashes: bytes
    """Of its block, as `Execution` has them."""
    index: int
    """Of this event among them."""

    @property
    def code(self) -> str:
        """Empty where its messages took effect."""
        return self.applied.code

    @property
    def message(self) -> str:
        return self.applied.message


class Chain:
    """Commits blocks and tells who listens; everything else about the chain is read from here."""

    def __init__(self, genesis: Genesis, store: ChainStore) -> None:
        self.genesis = genesis
        self.id: ChainId = genesis.chain
        self.store = store
        self.envelopes = Envelopes(genesis.chain, verify)
        """What the ledger knows of transactions by themselves."""
        self.ledger = Ledger(store, genesis.chain, envelopes=self.envelopes)
        self.news = News()
        """Rings after each commit."""
        self.keeps_events = False
        """Whether blocks are stored with their events, for the market's log."""
        self.listeners: list[OnCommit] = []
        """Called in order, within the commit: they must not wait and must not fail."""
        self._inclusions: OrderedDict[TxId, Inclusion] = OrderedDict()

    @classmethod
    def open(cls, genesis: Genesis, path: Path, state: Path | None = None) -> Self:
        """Open the chain database, starting it from genesis if it is new.

        `state` is the file of the records that a genesis may commit to.
        Raises `Refused` `chain.other` if it holds another chain, `genesis.*` if it cannot begin.
        """
        store = ChainStore.open(path)
        recorded = store.get(CHAIN)
        if recorded is None:
            try:
                begin(store, genesis, state)
            except Refused:
                store.close()
                raise
        elif recorded.decode() != genesis.chain:
            store.close()
            raise Refused(
                "chain.other",
                f"{path} holds chain {recorded.decode()}, the genesis file is of {genesis.chain}",
                hint="use the genesis it was made from, or another --home",
            )
        return cls(genesis, store)

    def close(self) -> None:
        self.store.close()

    @property
    def head(self) -> Head:
        return self.ledger.head

    @property
    def is_empty(self) -> bool:
        """Whether there is no block yet."""
        return self.head.height < self.genesis.initial_height

    async def wait_first_block(self) -> None:
        while self.is_empty:
            await self.news.next.wait()

    def certificate(self) -> CommitCertificate | None:
        """What made the head final; None at genesis."""
        return self.store.certificate(self.head.height)

    def validators_at(self, height: Height) -> ValidatorSet | None:
        """The set that decides `height`, if it is still known here."""
        if height == self.head.height + 1:
            return self.ledger.validators
        raw = self.store.validator_set(height)
        return None if raw is None else ValidatorSet(members=codec.decode(raw, tuple[Validator, ...]))

    def commit(self, block: Block, certificate: CommitCertificate) -> Execution:
        """Make a decided block durable, with all it does. The certificate has been verified."""
        execution = self.ledger.finalize_block(block)
        sets = self.ledger.state().require(VALIDATORS, ValidatorSets)
        self.store.commit_block(
            block,
            certificate,
            execution.writes,
            {block.header.height: codec.encode(sets.next)},
            pack_events(execution.events) if self.keeps_events else None,
        )
        self.ledger.committed()
        self._index(execution)
        for listener in self.listeners:
            listener(execution)
        self.news.ring()
        return execution

    def inclusion(self, identity: TxId) -> Inclusion | None:
        """What became of a recent transaction, as far as this node remembers."""
        return self._inclusions.get(identity)

    def due_moment(self) -> Millis | None:
        return self.ledger.next_due_moment()

    def _index(self, execution: Execution) -> None:
        if execution.block.transactions:
            height, hashes = execution.block.header.height, execution.event_hashes
            for index, event in enumerate(execution.events):
                if isinstance(event, TransactionApplied):
                    self._inclusions[event.id] = Inclusion(
                        height=height, applied=event, event_hashes=hashes, index=index
                    )
        while len(self._inclusions) > limits.INCLUSIONS:
            self._inclusions.popitem(last=False)


def begin(store: ChainStore, genesis: Genesis, state: Path | None) -> None:
    """Fill a new store with what the chain begins with: all of it, or after a crash nothing."""

    def batches() -> Iterator[Writes]:
        yield from first_writes(genesis, state, store)
        yield {CHAIN: genesis.chain.encode()}

    store.commit_all(batches())
