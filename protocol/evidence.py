"""Proof that validators broke their word: statements they signed, and nothing else.

Tags 150-152. Evidence travels as bytes, sits in blocks before the transactions, and is known by the hash of its
bytes; the same offence therefore has one form. What each kind proves, and of whom, is `consensus.evidence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import SignedHeader, SignedVote, Validator
from fondaco.protocol.scalars import Hash, Height
from fondaco.protocol.signing import sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateVote:
    """Two votes of one validator, of one kind and round, that say different things."""

    TAG: ClassVar[int] = 150
    first: SignedVote
    """The one whose bytes are smaller, whichever was seen first."""
    second: SignedVote

    @property
    def height(self) -> Height:
        return self.first.vote.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Amnesia:
    """A precommit, and a later prevote for another value that names no polka since: the lock was forgotten."""

    TAG: ClassVar[int] = 151
    precommit: SignedVote
    prevote: SignedVote

    @property
    def height(self) -> Height:
        return self.precommit.vote.height


@dataclass(frozen=True, slots=True, kw_only=True)
class LightClientAttack:
    """A header that was signed beside the chain's own one, to be shown to light clients."""

    TAG: ClassVar[int] = 152
    conflicting: SignedHeader
    validators: tuple[Validator, ...]
    """The set that the conflicting header commits to; its certificate has a place for each."""
    ours: SignedHeader
    common_height: Height
    """The last height at which both chains agree."""

    @property
    def height(self) -> Height:
        """Where the common set signed what it should not have; the age of the evidence counts from here."""
        return self.common_height


Evidence = DuplicateVote | Amnesia | LightClientAttack


def duplicate_vote(one: SignedVote, other: SignedVote) -> DuplicateVote:
    """The evidence that two votes are, in the one form it has."""
    first, second = sorted((one, other), key=codec.encode)
    return DuplicateVote(first=first, second=second)


def evidence_hash(raw: bytes) -> Hash:
    """What evidence is known by."""
    return sha256(raw)


def decode_evidence(raw: bytes) -> Evidence:
    """Read evidence. Raises `Malformed`."""
    evidence: Evidence = codec.decode_union(raw, Evidence, limit=limits.EVIDENCE_BYTES)
    return evidence
