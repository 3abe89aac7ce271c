"""What validators say to each other, and what they agree on.

Tags 10-19. A `Vote` or `Proposal` is the statement that is signed; `SignedVote` and `SignedProposal` carry it
with who said it. A precommit's signed bytes are the same for every validator, which is what lets a
`CommitCertificate` be one header hash and a row of signatures.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol import codec
from fondaco.protocol.scalars import (
    ChainId,
    Hash,
    Height,
    Millis,
    Power,
    Priority,
    PublicKey,
    Round,
    Signature,
)
from fondaco.protocol.signing import sha256

PROTOCOL_VERSION = 1


class VoteKind(enum.IntEnum):
    PREVOTE = 1
    PRECOMMIT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One validator's word on one round."""

    TAG: ClassVar[int] = 10
    kind: VoteKind
    height: Height
    round: Round
    value: Hash | None
    """The header hash voted for; None is nil."""
    valid_round: Round | None
    """Prevotes only: the latest polka known for the value, which makes amnesia provable (accountable BFT)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedVote:
    TAG: ClassVar[int] = 11
    vote: Vote
    validator: PublicKey
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitCertificate:
    """More than two thirds of the voting power precommitted `value`: the block is final."""

    TAG: ClassVar[int] = 12
    height: Height
    round: Round
    value: Hash
    signatures: tuple[Signature | None, ...]
    """One place for each validator of `height`, in the set's order."""

    def vote(self) -> Vote:
        """The precommit that every signature here signs."""
        return Vote(
            kind=VoteKind.PRECOMMIT, height=self.height, round=self.round, value=self.value, valid_round=None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCertificate:
    """Votes that together justify a step: a polka, or a third of the power being in a later round."""

    TAG: ClassVar[int] = 13
    votes: tuple[SignedVote, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validator:
    """A member of a validator set."""

    public_key: PublicKey
    power: Power
    priority: Priority
    """Its place in the weighted rotation of proposers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a block commits to; its hash is the value validators vote on."""

    TAG: ClassVar[int] = 14
    version: int
    chain: ChainId
    height: Height
    time: Millis
    """Chosen by the proposer, judged timely by the others (PBTS); strictly increasing."""
    previous: Hash
    """Hash of the header below; the genesis hash at the first height."""
    validators: Hash
    """Of the set that decides this height."""
    next_validators: Hash
    params: Hash
    data_root: Hash
    """Over the previous certificate and the full bytes of the transactions, signatures included."""
    evidence_root: Hash
    events_root: Hash
    """Over the events that executing this block emits."""
    state_root: Hash
    """Of the state AFTER executing this block: a lease is provable in the block that made it."""
    proposer: PublicKey

    def hash(self) -> Hash:
        return sha256(codec.encode(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    TAG: ClassVar[int] = 15
    header: Header
    previous_certificate: CommitCertificate | None
    """Shows who signed the block below; None only at the first height."""
    evidence: tuple[bytes, ...]
    transactions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    TAG: ClassVar[int] = 16
    height: Height
    round: Round
    value: Hash
    valid_round: Round | None
    """The round whose polka the proposer re-proposes from, or None for a fresh value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedProposal:
    TAG: ClassVar[int] = 17
    proposal: Proposal
    block: Block
    proposer: PublicKey
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactProposal:
    """A `SignedProposal` that only names its transactions: its receivers mostly have them."""

    TAG: ClassVar[int] = 19
    proposal: Proposal
    header: Header
    previous_certificate: CommitCertificate | None
    evidence: tuple[bytes, ...]
    names: tuple[Hash, ...]
    """The transactions in the block's order, each by its leaf under `Header.data_root`: so the names themselves
    are checked against the header, before one transaction is there."""
    proposer: PublicKey
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHeader:
    """What a light client follows."""

    TAG: ClassVar[int] = 18
    header: Header
    certificate: CommitCertificate


ConsensusMessage = SignedVote | SignedProposal | RoundCertificate | CommitCertificate
"""Everything that the engine says and hears."""
WireMessage = ConsensusMessage | CompactProposal
"""Everything of it that travels on `/fondaco/consensus/1` once the hello is over."""
