"""What goes into the engine, and what it asks of its host.

The host carries effects out **in the order returned**. Everything a `Record` has handed over, in this tuple or
an earlier one, must be on disk before a `Sign`, `Broadcast`, `Send` or `Commit` that follows is begun: so the
host appends at once and flushes before the first of those (a flush with nothing to flush costs nothing). If
the journal cannot be written the process stops. Keys stay with the host: it checks its sign state, signs,
and answers `Sign` with `Signed`, or not at all if the statement would contradict one signed before.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol.agreement import (
    Block,
    CommitCertificate,
    ConsensusMessage,
    Proposal,
    SignedProposal,
    SignedVote,
    Vote,
)
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.evidence import Amnesia, DuplicateVote
from fondaco.protocol.scalars import Hash, Height, Millis, PublicKey, Round


class Timer(enum.IntEnum):
    """One of each may run; setting it again replaces it."""

    START = 0
    """The minimum block interval is over."""
    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3
    REBROADCAST = 4


# Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class StartHeight:
    """The chain stands at `height - 1`: agree on `height`. After a commit, a sync, and at start-up."""

    height: Height
    validators: ValidatorSet
    """Of `height`, with the priorities of its round 0."""
    previous: Hash
    """Hash of the header below (of the genesis at the first height)."""
    previous_time: Millis
    previous_certificate: CommitCertificate | None
    previous_validators: ValidatorSet | None = None
    """Of the height below. Where None the engine leaves a proposal's previous certificate to the ledger
    unless it is the one it knows."""


@dataclass(frozen=True, slots=True)
class Wake:
    """There is something to agree on. Until this, or a message of this height, round 0 does not begin."""


@dataclass(frozen=True, slots=True)
class Received:
    message: ConsensusMessage
    sender: PublicKey | None
    """The peer that is to blame for it; None for what the host itself fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueReady:
    """Answers `GetValue`. The host has executed `block`: the engine does not ask to validate it."""

    height: Height
    round: Round
    block: Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """Answers `Validate`."""

    height: Height
    value: Hash
    valid: bool


@dataclass(frozen=True, slots=True)
class Signed:
    """Answers `Sign`."""

    message: SignedVote | SignedProposal


@dataclass(frozen=True, slots=True)
class TimerFired:
    timer: Timer
    generation: int
    """As in `SetTimer`; any other is a stale firing and is dropped."""


Happening = Wake | Received | ValueReady | Validated | Signed | TimerFired
"""What can happen at a height."""
Event = StartHeight | Happening


# Effects


@dataclass(frozen=True, slots=True)
class Record:
    """Append `entry` to the journal of the current height; see the module on when to flush."""

    entry: bytes


@dataclass(frozen=True, slots=True)
class Sign:
    """Sign `statement`, if the sign state allows it, and answer with `Signed`."""

    statement: Vote | Proposal
    block: Block | None
    """What a proposal proposes; goes into the `SignedProposal`."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """To every peer with a consensus link; not back to us."""

    message: ConsensusMessage


@dataclass(frozen=True, slots=True)
class Send:
    peer: PublicKey
    message: ConsensusMessage


@dataclass(frozen=True, slots=True)
class SetTimer:
    timer: Timer
    generation: int
    delay_ms: Millis


@dataclass(frozen=True, slots=True)
class CancelTimer:
    timer: Timer


@dataclass(frozen=True, slots=True)
class GetValue:
    """Build a block with exactly this header time, execute it, answer with `ValueReady`."""

    height: Height
    round: Round
    time: Millis
    """Later than the block below."""


@dataclass(frozen=True, slots=True)
class Validate:
    """Execute `block` on an overlay and say whether it is valid. It fits its header and the chain below."""

    block: Block


@dataclass(frozen=True, slots=True)
class Commit:
    """`block` is final. Apply it, then send `StartHeight` for the next height."""

    block: Block
    certificate: CommitCertificate


@dataclass(frozen=True, slots=True)
class ReportEvidence:
    """Somebody broke its word. After a restart it is said again."""

    evidence: DuplicateVote | Amnesia


@dataclass(frozen=True, slots=True)
class RequestSync:
    """`height` is decided elsewhere, as a verified certificate or a third of the power shows: fetch it."""

    height: Height


@dataclass(frozen=True, slots=True)
class Punish:
    """`peer` broke the protocol: drop it."""

    peer: PublicKey
    fault: PeerFault


Effect = (
    Record
    | Sign
    | Broadcast
    | Send
    | SetTimer
    | CancelTimer
    | GetValue
    | Validate
    | Commit
    | ReportEvidence
    | RequestSync
    | Punish
)
