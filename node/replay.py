"""Executing a stored chain again from genesis: whether the database says what its blocks say.

Every block is held against its certificate, its own header and the validators that the blocks below it chose, and
is executed anew in an empty store; a header commits to the state, the events and the parameters that must come of
it. At the newest block the records themselves are compared, with the tree over them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from fondaco.consensus.blocks import check_bound
from fondaco.consensus.certificates import SignatureCache, verify_commit
from fondaco.consensus.ledger.application import Execution, Ledger
from fondaco.consensus.ledger.carrying import every
from fondaco.consensus.ledger.envelope import USED
from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.ledger.memo import Records
from fondaco.consensus.ledger.start import read_head
from fondaco.consensus.ledger.state import AUX, NODE, RECORD, Store
from fondaco.node.chain import begin
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.records import VALIDATORS, ValidatorSets
from fondaco.protocol.scalars import Hash, Height
from fondaco.protocol.signing import verify

Progress = Callable[[Height, Height], None]
"""(height done, height to reach)."""


class Differs(Refused):
    """The first height at which a database does not say what its blocks come to."""

    def __init__(self, code: str, height: Height, message: str) -> None:
        super().__init__(code, f"height {height}: {message}")
        self.height = height


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What was executed again, and came to the same."""

    first: Height
    last: Height
    blocks: int
    transactions: int
    hash: Hash
    """Of the last header; of genesis where there is no block."""
    state_root: Hash
    state_compared: bool
    """Whether the last block is the newest, so that its records could be compared too."""


def replay(
    source: ChainStore,
    genesis: Genesis,
    state: Path | None,
    into: ChainStore,
    *,
    to: Height | None = None,
    progress: Progress = lambda _done, _last: None,
) -> Replayed:
    """Execute what `source` holds, up to `to` or its newest block, in the new store `into`.

    `state` is the file of genesis records, where there is one. A node may be running on `source`.
    Raises `Differs` (`replay.missing`, `replay.malformed`, `replay.header`, `replay.certificate`, `replay.block`,
    `replay.refused`, `replay.result`, `replay.validators`, `replay.state`), or `Refused` `chain.other`,
    `replay.height`, `replay.pruned` or `genesis.*` where there is nothing to compare.
    """
    last = _last(source, genesis, to)
    begin(into, genesis, state)
    again = _Again(source, into, genesis)
    transactions = 0
    for height in range(genesis.initial_height, last + 1):
        transactions += len(again.repeat(Height(height)).block.transactions)
        progress(Height(height), last)
    with source.unchanging():
        compared = read_head(source, Records()).height == last
        if compared:
            _compare(source, into, last)
    head = again.ledger.head
    return Replayed(
        first=genesis.initial_height,
        last=last,
        blocks=last - genesis.initial_height + 1,
        transactions=transactions,
        hash=head.hash,
        state_root=again.ledger.state().seal(),
        state_compared=compared,
    )


def _last(source: ChainStore, genesis: Genesis, to: Height | None) -> Height:
    """The height to go to; raises `Refused` where one cannot begin, or not get there."""
    recorded = (source.get(b"a/chain") or b"").decode()
    if recorded != genesis.chain:
        raise Refused(
            "chain.other", f"the database holds chain {recorded}, the genesis file is of {genesis.chain}"
        )
    newest, first = read_head(source, Records()).height, source.first_height()
    last = newest if to is None else to
    if not genesis.initial_height - 1 <= last <= newest:
        raise Refused(
            "replay.height",
            f"there is no height {last} here: the chain goes from {genesis.initial_height} to {newest}",
        )
    if newest >= genesis.initial_height and (first is None or first > genesis.initial_height):
        raise Refused(
            "replay.pruned",
            f"the oldest block kept is {first or 'none'}, the chain begins at {genesis.initial_height}",
            hint="use the database of a node that keeps all blocks",
        )
    return last


class _Again:
    """The chain, executed a second time."""

    def __init__(self, source: ChainStore, into: ChainStore, genesis: Genesis) -> None:
        self._source = source
        self._into = into
        self._holds = SignatureCache(genesis.chain, verify).holds
        self.ledger = Ledger(into, genesis.chain)

    def repeat(self, height: Height) -> Execution:
        """One block. Raises `Differs`."""
        block, certificate = self._read(height)
        try:
            verify_commit(certificate, self.ledger.validators, self._holds)
        except PeerFault as fault:
            raise Differs("replay.certificate", height, fault.message) from None
        try:
            check_bound(block, certificate.value)
        except PeerFault as fault:
            raise Differs("replay.block", height, fault.message) from None
        try:
            execution = self.ledger.finalize_block(block)
        except Refused as refusal:
            code = "replay.result" if refusal.code == "block.header" else "replay.refused"
            raise Differs(code, height, f"{refusal.message} [{refusal.code}]") from None
        sets = self.ledger.state().require(VALIDATORS, ValidatorSets)
        if self._source.validator_set(height) != codec.encode(sets.next):
            raise Differs("replay.validators", height, "the stored validators are not those the chain chose")
        self._into.commit(execution.writes)
        self.ledger.committed()
        return execution

    def _read(self, height: Height) -> tuple[Block, CommitCertificate]:
        try:
            block, signed = self._source.block(height), self._source.signed_header(height)
        except Malformed as fault:
            raise Differs("replay.malformed", height, fault.message) from None
        if block is None or signed is None:
            raise Differs("replay.missing", height, "there is no such block")
        if block.header.height != height or signed.header != block.header:
            raise Differs("replay.header", height, "the stored header is not the block's")
        if self._source.block_by_hash(signed.header.hash()) != block:
            raise Differs("replay.header", height, "the block does not stand under its hash")
        if signed.certificate.height != height:
            raise Differs("replay.certificate", height, "the certificate is of another height")
        return block, signed.certificate


def _compare(source: Store, again: Store, height: Height) -> None:
    """Hold the stored records, and the tree over them, to those executed again."""
    for what, prefix in (("record", RECORD), ("tree page", NODE), ("transaction id", AUX + USED)):
        for ours, theirs in zip_longest(every(source, prefix), every(again, prefix)):
            if ours == theirs:
                continue
            key = min(one[0] for one in (ours, theirs) if one is not None)[len(prefix) :]
            name, slash, rest = key.partition(b"/") if prefix == RECORD else (b"", b"", key)
            where = name.decode("ascii", "replace") + slash.decode() + rest.hex()
            raise Differs("replay.state", height, f"the stored {what} {where} is not what the blocks come to")
