"""What binds a block to its header, and a header to the chain below it.

A proposal signs the header's hash and nothing else, so a relay could swap the transactions under an honest
signature. `check_bound` is therefore asked of every block before it is kept under its hash; only then can a
block that fails `follows` or the ledger be held against the proposer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fondaco.consensus import merkle_list
from fondaco.consensus.certificates import Holds, verify_commit
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import PROTOCOL_VERSION, Block, CommitCertificate, CompactProposal
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.events import Event, TransactionApplied
from fondaco.protocol.scalars import ChainId, Hash, Height, Millis


def data_root(previous_certificate: CommitCertificate | None, transactions: Sequence[bytes]) -> Hash:
    """`Header.data_root`: leaf 0 is the encoded previous certificate, then come the transactions."""
    return merkle_list.root([codec.encode(previous_certificate), *transactions])


def data_root_of_names(previous_certificate: CommitCertificate | None, names: Sequence[Hash]) -> Hash:
    """`Header.data_root` of a block whose transactions have these names; see `name_of`."""
    return merkle_list.root_of_hashes([merkle_list.leaf_hash(codec.encode(previous_certificate)), *names])


def name_of(transaction: bytes) -> Hash:
    """What stands for a transaction, its signature included: its leaf under `Header.data_root`."""
    return merkle_list.leaf_hash(transaction)


def evidence_root(evidence: Sequence[bytes]) -> Hash:
    """`Header.evidence_root`."""
    return merkle_list.root(evidence)


def check_bound(block: Block, value: Hash) -> None:
    """Raise `PeerFault` unless `block` is what the header hash `value` commits to."""
    header = block.header
    if header.hash() != value:
        raise PeerFault("block.value", "the header is not the one proposed")
    size = sum(map(len, block.transactions)) + sum(map(len, block.evidence))
    if len(block.transactions) > limits.BLOCK_TRANSACTIONS or size > limits.BLOCK_BYTES:
        raise PeerFault("block.size", f"{len(block.transactions)} transactions, {size} bytes")
    if data_root(block.previous_certificate, block.transactions) != header.data_root:
        raise PeerFault("block.data", "the transactions are not the ones the header commits to")
    if evidence_root(block.evidence) != header.evidence_root:
        raise PeerFault("block.evidence", "the evidence is not what the header commits to")


def check_named(compact: CompactProposal) -> None:
    """As `check_bound`, of a proposal whose transactions need not be here; how large they are is not known yet."""
    header = compact.header
    if header.height != compact.proposal.height:
        raise PeerFault("proposal.height", "the proposal and its block differ in height")
    if header.hash() != compact.proposal.value:
        raise PeerFault("block.value", "the header is not the one proposed")
    if len(compact.names) > limits.BLOCK_TRANSACTIONS or sum(map(len, compact.evidence)) > limits.BLOCK_BYTES:
        raise PeerFault("block.size", f"{len(compact.names)} transactions are named")
    if data_root_of_names(compact.previous_certificate, compact.names) != header.data_root:
        raise PeerFault("block.data", "the transactions are not the ones the header commits to")
    if evidence_root(compact.evidence) != header.evidence_root:
        raise PeerFault("block.evidence", "the evidence is not what the header commits to")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the next block goes: what is known of it before anybody proposes it."""

    chain: ChainId
    height: Height
    validators: ValidatorSet
    previous: Hash
    """Header hash of the block below."""
    previous_time: Millis
    previous_certificate: CommitCertificate | None
    """None at the chain's first height."""
    previous_validators: ValidatorSet | None
    """Of the height below; where None the certificate in a block is left to the ledger to check."""


def follows(block: Block, place: Place, holds: Holds) -> bool:
    """Whether the header fits the chain here, and the certificate shows that the block below is final."""
    header, certificate = block.header, block.previous_certificate
    if (
        header.version != PROTOCOL_VERSION
        or header.chain != place.chain
        or header.height != place.height
        or header.time <= place.previous_time
        or header.previous != place.previous
        or header.validators != place.validators.hash
        or header.proposer not in place.validators.index
    ):
        return False
    if certificate is None or place.previous_certificate is None:
        return certificate is place.previous_certificate
    if certificate == place.previous_certificate or place.previous_validators is None:
        return certificate.height == place.height - 1
    if certificate.height != place.height - 1 or certificate.value != place.previous:
        return False
    try:
        verify_commit(certificate, place.previous_validators, holds)
    except PeerFault:
        return False
    return True


def event_hashes(events: Sequence[Event]) -> bytes:
    """What stands for each event under `Header.events_root`, one behind the other."""
    return b"".join(merkle_list.leaf_hash(event_leaf(event)) for event in events)


def event_leaf(event: Event) -> bytes:
    """What a header commits to of an event: all but the words of a refusal.

    Those are for people, and change between releases (and, where a name is quoted, between versions of Python);
    the code is what is agreed.
    """
    if isinstance(event, TransactionApplied):
        event = replace(event, message="")
    return codec.encode(event)
