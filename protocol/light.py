"""What nodes answer to those who do not follow the chain: headers with their signatures, records with proofs.

Tags 140-142 and 145, on `/fondaco/light/1`. Nothing here is trusted for who said it: a light client checks the
signatures against the validators it trusts, and the record against the header's state root.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.agreement import SignedHeader, Validator
from fondaco.protocol.scalars import Hash

PROTOCOL = "/fondaco/light/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LightBlock:
    """A final header, and the validators it commits to."""

    TAG: ClassVar[int] = 140
    signed: SignedHeader
    validators: tuple[Validator, ...]
    next_validators: tuple[Validator, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenRecord:
    """What a key holds at one height: the record's bytes, or None for its absence, and the proof of it."""

    TAG: ClassVar[int] = 141
    block: LightBlock
    value: bytes | None
    proof: bytes
    """Canonical bytes of a `consensus.merkle.Proof`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenOutcome:
    """What became of a transaction: an event that the header of its block commits to, and the proof of it."""

    TAG: ClassVar[int] = 142
    block: LightBlock
    event: bytes
    """Canonical bytes of a `TransactionApplied`, without the words of a refusal."""
    index: int
    count: int
    """Which of how many events of its block."""
    path: tuple[Hash, ...]
    """The siblings on the way from the event to the header's events root, lowest first."""
    message: str
    """Why it was refused, in words: these are only said, not proven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionOutcome:
    """What became of a transaction, as far as it was proven."""

    height: int
    fee: int
    """Paid either way, in ucredit."""
    code: str
    """Empty where its messages took effect."""
    message: str
    """In the words of whoever proved it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Two headers of one height, each signed by more than two thirds: what proves a light-client attack.

    More than a third of the validators of `common_height` signed both sides.
    """

    TAG: ClassVar[int] = 145
    common_height: int
    """The last height known at which both chains agree; at genesis the one below the first block."""
    first: LightBlock
    second: LightBlock
