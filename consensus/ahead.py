"""Messages of the next height, kept for a node that is one step behind.

The next set is not known for certain before this height is decided, so only what today's set signs is kept:
of every validator one vote a kind in rounds 0 and 1, and the proposals of the expected proposers of those
two. What a changed set makes of them is judged again when the height begins.
"""

from __future__ import annotations

from functools import cached_property

from fondaco.consensus.admission import check_shape
from fondaco.consensus.certificates import Holds
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol.agreement import CompactProposal, SignedProposal, SignedVote, VoteKind
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import Millis, PublicKey, Round

ROUNDS = 2

Waiting = tuple[SignedVote | SignedProposal, PublicKey | None, Millis]
"""The message, who sent it, and when it came."""


class Ahead:
    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._votes: dict[tuple[PublicKey, VoteKind, Round], Waiting] = {}
        self._proposals: dict[Round, Waiting] = {}

    @cached_property
    def _next(self) -> ValidatorSet:
        return self._validators.advance(1)

    def keep(
        self, message: SignedVote | SignedProposal, sender: PublicKey | None, now: Millis, holds: Holds
    ) -> None:
        """Keep `message` if there is a place for it; raises `PeerFault` if its signature does not hold."""
        if isinstance(message, SignedVote):
            self._keep_vote(message, sender, now, holds)
        else:
            self._keep_proposal(message, sender, now, holds)

    def waiting(self) -> list[Waiting]:
        """All of it, proposals first."""
        return [*self._proposals.values(), *self._votes.values()]

    def weight(self) -> int:
        """The power of the validators seen voting in the next height: they have decided this one."""
        return sum(self._validators.power_of(key) for key in {key for key, _, _ in self._votes})

    def _keep_vote(self, signed: SignedVote, sender: PublicKey | None, now: Millis, holds: Holds) -> None:
        vote = signed.vote
        check_shape(vote)
        place = (signed.validator, vote.kind, vote.round)
        if vote.round >= ROUNDS or place in self._votes or signed.validator not in self._validators.index:
            return
        if not holds(signed.validator, vote, signed.signature):
            raise PeerFault("signature.bad", "a vote is not signed by its validator")
        self._votes[place] = (signed, sender, now)

    def _keep_proposal(self, signed: SignedProposal, sender: PublicKey | None, now: Millis, holds: Holds) -> None:
        if self.wants_proposal(signed, holds):
            self._proposals[signed.proposal.round] = (signed, sender, now)

    def wants_proposal(self, signed: SignedProposal | CompactProposal, holds: Holds) -> bool:
        """Whether there is a place for it; raises `PeerFault` if its signature does not hold."""
        round = signed.proposal.round
        if round >= ROUNDS or round in self._proposals or self._next.proposer(round) != signed.proposer:
            return False
        if not holds(signed.proposer, signed.proposal, signed.signature):
            raise PeerFault("signature.bad", "a proposal is not signed by its proposer")
        return True
