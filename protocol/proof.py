"""One file that proves a record to somebody who was not there, and who is not on the network.

Tags 143-144. It holds the way from a header that the reader trusts to the header under whose state root the
record stands, each with its signatures, and the Merkle proof. The tenant writes it, `consensus.proof` checks it.
The encoding leaves no freedom: a set that did not change is left out, priorities (which no header commits to)
do not appear, so that every byte of a file is covered by a signature or a hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.agreement import SignedHeader
from fondaco.protocol.scalars import Power, PublicKey

Voters = tuple[tuple[PublicKey, Power], ...]
"""A validator set as headers commit to it: keys with their power, ordered by key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofStep:
    """A final header, and the sets it names."""

    TAG: ClassVar[int] = 143
    signed: SignedHeader
    validators: Voters
    next_validators: Voters | None
    """None exactly where it is the same set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProof:
    """What a key held at one height."""

    TAG: ClassVar[int] = 144
    path: tuple[ProofStep, ...]
    """Lowest first; the record stands under the last. From genesis, or beginning with the header to be trusted."""
    key: bytes
    value: bytes | None
    """The record's canonical bytes, or None for its absence."""
    proof: bytes
    """Canonical bytes of a `consensus.merkle.Proof`."""
