"""What the journal of a height holds: every input that changed the engine's mind, in order.

Replaying them through the same pure engine rebuilds its state exactly. The receive time of a proposal is
part of its entry, or replay would judge its timeliness by another clock and vote differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol import codec
from fondaco.protocol.agreement import (
    Block,
    CommitCertificate,
    RoundCertificate,
    SignedProposal,
    SignedVote,
)
from fondaco.protocol.scalars import Hash, Height, Millis, Round


@dataclass(frozen=True, slots=True, kw_only=True)
class HeightEntry:
    """Leads a segment: everything up to the next of its kind is about `height`."""

    TAG: ClassVar[int] = 240
    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundZeroEntry:
    """Round 0 began."""

    TAG: ClassVar[int] = 241
    time: Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEntry:
    """A verified message, ours or another's."""

    TAG: ClassVar[int] = 242
    time: Millis
    """When it was received: proposals are judged timely by it."""
    message: SignedVote | SignedProposal | RoundCertificate | CommitCertificate
    own: bool
    """We signed it: it answers a pending `Sign`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutEntry:
    """The wait in a step (1 propose, 2 prevote, 3 precommit) of `round` ended."""

    TAG: ClassVar[int] = 243
    time: Millis
    step: int
    round: Round


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltEntry:
    """The host built a block for us to propose."""

    TAG: ClassVar[int] = 244
    time: Millis
    round: Round
    block: Block


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictEntry:
    """The ledger judged a value."""

    TAG: ClassVar[int] = 245
    time: Millis
    value: Hash
    valid: bool


Happened = RoundZeroEntry | MessageEntry | TimeoutEntry | BuiltEntry | VerdictEntry
Entry = HeightEntry | Happened


def decode_entry(data: bytes) -> Entry:
    """Raises `Malformed`, which for a journal of our own means a damaged disk or another version."""
    entry: Entry = codec.decode_union(data, Entry)
    return entry
