"""The driver of one height: turns votes, proposals, verdicts and timeouts into inputs of the round machine.

The round machine knows no votes and the vote keeper no steps. The driver holds both, and the blocks; after
everything it is told it asks "which rule of the paper holds now that did not before?", until none does.

Held are at most two proposals a round (an honest proposer makes one) for rounds up to the current + 1, and
always a block that more than two thirds voted for, whichever round it came with: if that many prevoted a
value then some honest validator had it proposed to it. Blocks of past rounds that gathered no quorum go.
"""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.consensus import rounds
from fondaco.consensus.rounds import Input, Kind, Output, StartRound, State, Step
from fondaco.consensus.validators import ValidatorSet
from fondaco.consensus.votes import VoteKeeper
from fondaco.protocol.agreement import (
    Block,
    CompactProposal,
    RoundCertificate,
    SignedProposal,
    SignedVote,
    VoteKind,
)
from fondaco.protocol.scalars import Hash, PublicKey, Round

PROPOSALS_PER_ROUND = 2
ROUNDS_BLOCKS_ARE_KEPT = 4
"""How many rounds back a block without a quorum is kept, in case its precommits are only late."""

_TIMEOUTS = {
    Step.PROPOSE: Kind.TIMEOUT_PROPOSE,
    Step.PREVOTE: Kind.TIMEOUT_PREVOTE,
    Step.PRECOMMIT: Kind.TIMEOUT_PRECOMMIT,
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposal, and whether it came in time (PBTS); only the first of a round may be prevoted."""

    signed: SignedProposal
    timely: bool


class Driver:
    """Everything it is given has been verified. Methods return the machine's outputs, in order."""

    def __init__(self, validators: ValidatorSet, key: PublicKey | None) -> None:
        self.validators = validators
        self.keeper = VoteKeeper(validators)
        self.state = State()
        self.blocks: dict[Hash, Block] = {}
        self.verdicts: dict[Hash, bool] = {}
        """Whether the ledger accepts a value; it judges each once a height."""
        self.justification: RoundCertificate | None = None
        """What let us leave the previous round; None in round 0."""
        self._key = key
        self._candidates: dict[Round, list[Candidate]] = {}
        self._given: set[Kind] = set()
        """Inputs that the paper gives "for the first time" and this round has had."""
        self._entering: Round | None = None

    @property
    def started(self) -> bool:
        return self.state.step is not Step.UNSTARTED or self._entering is not None

    def start(self) -> list[Output]:
        """Begin round 0."""
        assert not self.started, "the height has begun"
        self._entering = Round(0)
        return self._run()

    def add_vote(self, vote: SignedVote) -> list[Output]:
        # Nothing holds that did not before unless a threshold was crossed; most votes cross none.
        return self._run() if self.keeper.add(vote) else []

    def add_certificate(self, certificate: RoundCertificate) -> list[Output]:
        """Take a verified round certificate whole."""
        for vote in certificate.votes:
            self.keeper.add(vote)
        first = certificate.votes[0].vote
        if self.is_quorum(certificate):
            self.keeper.certify(first.kind, first.round, first.value, certificate.votes)
        return self._run()

    def add_commit(self, round: Round, value: Hash) -> list[Output]:
        """Take a verified commit certificate's word."""
        self.keeper.certify(VoteKind.PRECOMMIT, round, value, ())
        return self._run()

    def wants_proposal(self, signed: SignedProposal | CompactProposal) -> bool:
        """Whether there is room for, and use in, this proposal: ask before verifying it."""
        round, value = signed.proposal.round, signed.proposal.value
        held = self._candidates.get(round, [])
        if any(candidate.signed.proposal == signed.proposal for candidate in held):
            return False
        if round <= self.state.round + 1 and len(held) < PROPOSALS_PER_ROUND:
            return True
        return value not in self.blocks and self.has_quorum(value)

    def add_proposal(self, signed: SignedProposal, *, timely: bool) -> list[Output]:
        self._candidates.setdefault(signed.proposal.round, []).append(Candidate(signed, timely))
        self.blocks.setdefault(signed.proposal.value, signed.block)
        return self._run()

    def judge(self, value: Hash, *, valid: bool) -> list[Output]:
        """The ledger's word on a value."""
        self.verdicts[value] = valid
        return self._run()

    def build(self, round: Round, block: Block) -> list[Output]:
        """The host built `block` for us to propose in `round`; too late if the round has moved on."""
        value = block.header.hash()
        self.blocks.setdefault(value, block)
        self.verdicts[value] = True
        return self._apply(Input(kind=Kind.PROPOSE_VALUE, round=round, value=value)) + self._run()

    def timeout(self, step: Step, round: Round) -> list[Output]:
        return self._apply(Input(kind=_TIMEOUTS[step], round=round)) + self._run()

    def has_quorum(self, value: Hash) -> bool:
        """Whether some round holds a polka or more than two thirds of the precommits for `value`."""
        if any(committed == value for _, committed in self.keeper.commits):
            return True
        return any(value in self.keeper.polkas(Round(round)) for round in range(self.keeper.current + 2))

    def proposal_of(self, round: Round, value: Hash) -> SignedProposal | None:
        """The proposal that brought `value` up in `round`, to be shown to others."""
        for candidate in self._candidates.get(round, []):
            if candidate.signed.proposal.value == value:
                return candidate.signed
        return None

    def polka_certificate(self, round: Round, value: Hash) -> RoundCertificate:
        """The polka for `value` in `round`, to be shown to others."""
        votes = self.keeper.quorum_votes(VoteKind.PREVOTE, round, value)
        assert votes, "shown without having been seen"
        return RoundCertificate(votes=votes)

    def is_quorum(self, certificate: RoundCertificate) -> bool:
        """Whether all its votes agree and come from more than two thirds."""
        first = certificate.votes[0].vote
        weight = sum(self.validators.power_of(vote.validator) for vote in certificate.votes)
        agree = all(vote.vote.kind is first.kind and vote.vote.value == first.value for vote in certificate.votes)
        return agree and self.validators.has_quorum(weight)

    def _run(self) -> list[Output]:
        """Apply every rule that holds, until none does."""
        outputs: list[Output] = []
        while (event := self._next()) is not None:
            outputs.extend(self._apply(event))
        return outputs

    def _apply(self, event: Input) -> list[Output]:
        self.state, output = rounds.apply(self.state, event)
        if output is None:
            return []
        if isinstance(output, StartRound):
            self._leave_for(output.round, skipping=event.kind is Kind.SKIP_ROUND)
        return [output]

    def _leave_for(self, round: Round, *, skipping: bool) -> None:
        keeper = self.keeper
        votes = keeper.votes(VoteKind.PRECOMMIT, self.state.round)
        if skipping:
            votes = keeper.votes(VoteKind.PREVOTE, round) + keeper.votes(VoteKind.PRECOMMIT, round)
        self.justification = RoundCertificate(votes=votes) if votes else None
        self._entering = round

    def _enter(self, round: Round) -> Input:
        self._entering = None
        self._given.clear()
        self.keeper.advance(round)
        for old in [old for old in self._candidates if old < round - ROUNDS_BLOCKS_ARE_KEPT]:
            for candidate in self._candidates.pop(old):
                self._forget(candidate.signed.proposal.value)
        mine = self._key is not None and self.validators.proposer(round) == self._key
        return Input(kind=Kind.NEW_ROUND, round=round, proposer=mine)

    def _forget(self, value: Hash) -> None:
        again = any(
            candidate.signed.proposal.value == value for held in self._candidates.values() for candidate in held
        )
        if not again and not self.has_quorum(value):
            self.blocks.pop(value, None)

    def _next(self) -> Input | None:
        """The next rule that holds, decisions first."""
        if self.state.step is Step.DECIDED:
            return None
        for round, value in self.keeper.commits:  # L49
            if self.verdicts.get(value) and value in self.blocks:
                return Input(kind=Kind.PROPOSAL_AND_PRECOMMIT_VALUE, round=round, value=value)
        if self._entering is not None:  # L11
            return self._enter(self._entering)
        if self.state.step is Step.UNSTARTED:
            return None
        later = self.keeper.skip_to()  # L55
        if later is not None:
            return Input(kind=Kind.SKIP_ROUND, round=later)
        found = self._next_in_propose() if self.state.step is Step.PROPOSE else self._next_in_votes()
        return found or self._once(
            Kind.PRECOMMIT_ANY, self.keeper.has_any(VoteKind.PRECOMMIT, self.state.round)
        )  # L47

    def _next_in_propose(self) -> Input | None:
        """L22, L28: only the first proposal of the round can be prevoted."""
        round = self.state.round
        held = self._candidates.get(round)
        if not held:
            return None
        candidate, proposal = held[0], held[0].signed.proposal
        valid = self.verdicts.get(proposal.value)
        if valid is None:
            return None
        if proposal.valid_round is None:
            # Timeliness is asked of fresh values only: a polka shows that a value was timely once.
            kind = Kind.PROPOSAL if valid and candidate.timely else Kind.INVALID_PROPOSAL
            return Input(kind=kind, round=round, value=proposal.value)
        if proposal.valid_round >= round or not self.keeper.has_polka(proposal.valid_round, proposal.value):
            return None
        kind = Kind.PROPOSAL_AND_POLKA_PREVIOUS if valid else Kind.INVALID_PROPOSAL_AND_POLKA_PREVIOUS
        return Input(kind=kind, round=round, value=proposal.value, valid_round=proposal.valid_round)

    def _next_in_votes(self) -> Input | None:
        round, keeper = self.state.round, self.keeper
        for value in keeper.polkas(round):  # L36
            if self.verdicts.get(value) and value in self.blocks:
                found = self._once(Kind.PROPOSAL_AND_POLKA_CURRENT, True, value)
                if found is not None:
                    return found
        if self.state.step is not Step.PREVOTE:
            return None
        if keeper.has_polka(round, None):  # L44
            return Input(kind=Kind.POLKA_NIL, round=round)
        return self._once(Kind.POLKA_ANY, keeper.has_any(VoteKind.PREVOTE, round))  # L34

    def _once(self, kind: Kind, holds: bool, value: Hash | None = None) -> Input | None:
        if not holds or kind in self._given:
            return None
        self._given.add(kind)
        return Input(kind=kind, round=self.state.round, value=value)
