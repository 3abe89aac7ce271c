"""Proposals, votes, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.messages.governance import Action, Choice
from fondaco.protocol.records.governance import ProposalState, Tally
from fondaco.protocol.scalars import MicroCredits, MicroStake, Millis, ProposalNumber, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalMade:
    TAG: ClassVar[int] = 185
    proposal: ProposalNumber
    proposer: PublicKey
    title: str
    action: Action
    deposit: MicroCredits
    ends_at: Millis
    electorate: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteCast:
    TAG: ClassVar[int] = 186
    proposal: ProposalNumber
    voter: PublicKey
    choice: Choice
    weight: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalEnded:
    """Its deposit is back with its proposer, or (`deposit_lost`) in the community pool."""

    TAG: ClassVar[int] = 187
    proposal: ProposalNumber
    outcome: ProposalState
    tally: Tally
    deposit: MicroCredits
    deposit_lost: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpent:
    """The community pool paid what a proposal granted."""

    TAG: ClassVar[int] = 188
    proposal: ProposalNumber
    to: PublicKey
    credits: MicroCredits
    stake: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityEnded:
    """The key that genesis named changes parameters no longer."""

    TAG: ClassVar[int] = 189
    authority: PublicKey
