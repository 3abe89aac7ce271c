"""What stake holders decide together, and what they may decide."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.messages.validators import ParameterChange
from fondaco.protocol.scalars import MicroCredits, MicroStake, ProposalNumber, PublicKey


class Choice(enum.IntEnum):
    YES = 1
    NO = 2
    ABSTAIN = 3
    """Counts towards the quorum only."""
    VETO = 4
    """A no that says that the proposal should not have been made: with enough of them its deposit is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeParameters:
    """Parameters take these values, all of them or none."""

    TAG: ClassVar[int] = 60
    changes: tuple[ParameterChange, ...]
    """Ordered by name, each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The community pool pays."""

    TAG: ClassVar[int] = 61
    to: PublicKey
    credits: MicroCredits
    stake: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The text is all there is to decide."""

    TAG: ClassVar[int] = 62


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAuthority:
    """The key that genesis names changes parameters no longer; from then on only votes do."""

    TAG: ClassVar[int] = 63


Action = ChangeParameters | Grant | Resolution | EndAuthority


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """Puts something to the vote. The deposit comes back unless too few vote, or too many object."""

    TAG: ClassVar[int] = 55
    title: str
    text: str
    action: Action
    deposit: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class CastVote:
    """The sender's word on a proposal, in place of what it said before.

    It weighs the stake that the sender has bonded and had bonded when the proposal was made.
    """

    TAG: ClassVar[int] = 56
    proposal: ProposalNumber
    choice: Choice
