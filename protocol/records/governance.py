"""What is put to the vote, and who has said what."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.messages.governance import Action, Choice
from fondaco.protocol.scalars import MicroCredits, MicroStake, Millis, ProposalNumber, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """Where all proposals stand together."""

    TAG: ClassVar[int] = 212
    made: ProposalNumber
    """The newest proposal's number; they count from 1."""
    open: tuple[ProposalNumber, ...]
    """Those being voted on, in order."""
    electorate: MicroStake
    """Bonded behind all validators, and whoever would be one, but those convicted."""


class ProposalState(enum.IntEnum):
    VOTING = 1
    PASSED = 2
    REJECTED = 3
    """As many were against it as for it, or more."""
    NO_QUORUM = 4
    VETOED = 5
    FAILED = 6
    """Passed, and could not be done: the pool did not hold what was granted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Stake behind each choice."""

    yes: MicroStake
    no: MicroStake
    abstain: MicroStake
    veto: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Something put to the vote, with the rules it is decided by: changing them changes nothing under way."""

    TAG: ClassVar[int] = 213
    number: ProposalNumber
    proposer: PublicKey
    title: str
    text: str
    action: Action
    deposit: MicroCredits
    """Held for it; 0 once it has ended."""
    made_at: Millis
    ends_at: Millis
    """Blocks from then on take no more votes on it."""
    electorate: MicroStake
    """All that could vote when it was made."""
    quorum_basis_points: int
    threshold_basis_points: int
    veto_basis_points: int
    tally: Tally
    state: ProposalState
    due_at: Millis
    """When the ledger next does something about it: count the votes, then forget it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """What one voter has said on one proposal, and the most it can weigh."""

    TAG: ClassVar[int] = 214
    proposal: ProposalNumber
    voter: PublicKey
    weight: MicroStake
    """Bonded when the proposal was made; as cast, also the stake that stays bonded until it ends."""
    choice: Choice | None
    """None: not voted yet, but bonded more since the proposal was made, which does not count."""


GOVERNANCE = b"governance"


def key_proposal(proposal: ProposalNumber) -> bytes:
    return b"proposal/" + proposal.to_bytes(8, "big")


def key_proposal_due(at: Millis, proposal: ProposalNumber) -> bytes:
    """Ordered by time, so that a scan finds what fell due first."""
    return b"proposal-due/" + at.to_bytes(8, "big") + proposal.to_bytes(8, "big")


def key_ballot(proposal: ProposalNumber, voter: PublicKey) -> bytes:
    """Ordered by proposal, so that ballots are forgotten when no proposal as old is open."""
    return b"ballot/" + proposal.to_bytes(8, "big") + voter
