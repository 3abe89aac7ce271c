"""Who broke its word at a height: transcripts in, culprits out, each with the signed statements that convict it.

Where two values are decided at one height, more than a third of the power has misbehaved, and honest validators'
transcripts name it ("Revisiting Tendermint", Buchman et al., on accountability). Say A had more than two thirds of
the precommits of round r, and B those of a later round r'; at least the honest among them had seen the polkas.

* r = r': more than a third precommitted both. Two votes for one place convict each of them.
* r < r': take the first round v after r that shows a polka for B. More than a third both precommitted A in r and
  prevoted B in v. Their prevotes name the polka that let them: none, or one before r, is a forgotten lock. One
  between r and v does not exist, for v was the first. One in r itself would stand beside A's own polka of r, and
  more than a third prevoted both.

Only the third case is not proven by two statements: a prevote that names a polka nobody shows. So whoever said
something that rests on a polka missing here is listed apart, as *unexplained*: an honest validator has the polka
in its journal, and is cleared by showing it. Everything else is found by holding each validator's statements
against each other, which finds the misbehaviour too that came to nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from fondaco.consensus.certificates import Holds
from fondaco.consensus.evidence import check, contradicts, forgets_lock
from fondaco.consensus.journal_entries import MessageEntry, decode_entry
from fondaco.consensus.validators import ValidatorSet
from fondaco.consensus.watch import commit_votes, votes_in
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import ConsensusMessage, SignedVote, Vote, VoteKind
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.evidence import Amnesia, Evidence, LightClientAttack, duplicate_vote
from fondaco.protocol.light import Fork
from fondaco.protocol.scalars import ChainId, Hash, Height, PublicKey, Round


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """More than two thirds of the power precommitted `value` in `round`."""

    round: Round
    value: Hash
    signers: tuple[PublicKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    validator: PublicKey
    power: int
    evidence: tuple[Evidence, ...]
    """Each of them was checked, and convicts this validator by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexplained:
    """A vote that rests on a polka which no transcript shows."""

    validator: PublicKey
    power: int
    vote: Vote
    polka: Round


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the transcripts of one height show."""

    height: Height
    total: int
    """Voting power in all."""
    decisions: tuple[Decision, ...]
    culprits: tuple[Culprit, ...]
    unexplained: tuple[Unexplained, ...]
    """Looked for only where two values are decided; at most one vote of each who is no culprit anyway."""

    @property
    def disagreement(self) -> bool:
        return len({decision.value for decision in self.decisions}) > 1

    @property
    def convicted(self) -> int:
        """The culprits' power."""
        return sum(culprit.power for culprit in self.culprits)

    @property
    def accounted_for(self) -> bool:
        """Whether more than a third is convicted, as a disagreement needs."""
        return 3 * self.convicted > self.total


class Transcript:
    """What all the journals and files at hand say of one height. `holds` judges signatures on `chain`."""

    def __init__(self, chain: ChainId, height: Height, validators: ValidatorSet, holds: Holds) -> None:
        self.height = height
        self.validators = validators
        self.passed_over = 0
        """Votes whose signature does not hold, of strangers, or beyond what is kept."""
        self._chain = chain
        self._holds = holds
        self._said: dict[PublicKey, dict[Vote, SignedVote]] = {}
        self._kept = 0
        self._forks: list[Fork] = []

    def add_entry(self, entry: bytes) -> None:
        """One entry of a journal. Raises `Malformed` for what is none."""
        found = decode_entry(entry)
        if isinstance(found, MessageEntry):
            self.add(found.message)

    def add(self, message: ConsensusMessage) -> None:
        """The votes in a message, those of this height."""
        for vote in votes_in(message, self.validators):
            self._add(vote)

    def add_fork(self, fork: Fork) -> None:
        """Both sides of a fork that a light client was shown."""
        self._forks.append(fork)
        for block in (fork.first, fork.second):
            try:
                validators = ValidatorSet(members=block.validators)
            except Malformed:
                continue
            for vote in commit_votes(block.signed.certificate, validators):
                self._add(vote)

    def examine(self) -> Finding:
        """Everything that the transcript proves."""
        decisions = tuple(sorted(self._decisions(), key=lambda one: (one.round, one.value)))
        found: dict[PublicKey, list[Evidence]] = {}
        for evidence in itertools.chain(self._broken_words(), self._attacks()):
            try:
                convicted = check(evidence, self._chain, self._set_at, self._holds)
            except Refused:
                continue  # a fork that proves nothing
            for key in convicted:
                found.setdefault(key, []).append(evidence)
        disagree = len({decision.value for decision in decisions}) > 1
        return Finding(
            height=self.height,
            total=self.validators.total,
            decisions=decisions,
            culprits=tuple(
                Culprit(validator=key, power=self.validators.power_of(key), evidence=tuple(found[key]))
                for key in sorted(found)
            ),
            unexplained=tuple(self._unexplained(found.keys())) if disagree else (),
        )

    def _add(self, vote: SignedVote) -> None:
        if vote.vote.height != self.height:
            return
        said = self._said.get(vote.validator, {})
        if vote.vote in said:
            return
        known = vote.validator in self.validators.index and self._kept < limits.FORENSIC_VOTES
        if not known or not self._holds(vote.validator, vote.vote, vote.signature):
            self.passed_over += 1
            return
        self._kept += 1
        self._said.setdefault(vote.validator, {})[vote.vote] = vote

    def _set_at(self, height: Height) -> ValidatorSet | None:
        """A fork's common height may have had another set; this one convicts those it knows."""
        return self.validators if height <= self.height else None

    def _quorums(self, kind: VoteKind) -> dict[tuple[Round, Hash], list[PublicKey]]:
        """Who voted for each value in each round; whoever voted twice counts for both."""
        voters: dict[tuple[Round, Hash], list[PublicKey]] = {}
        for key, said in self._said.items():
            # A set, because prevotes for one value may differ in the polka they name.
            for round, value in {(vote.round, vote.value) for vote in said if vote.kind is kind}:
                if value is not None:
                    voters.setdefault((round, value), []).append(key)
        quorum = self.validators.has_quorum
        return {
            place: sorted(keys)
            for place, keys in voters.items()
            if quorum(sum(map(self.validators.power_of, keys)))
        }

    def _decisions(self) -> Iterator[Decision]:
        for (round, value), signers in self._quorums(VoteKind.PRECOMMIT).items():
            yield Decision(round=round, value=value, signers=tuple(signers))

    def _broken_words(self) -> Iterator[Evidence]:
        """Votes of one place in pairs; and of each precommit, the first prevote that forgot it."""
        for _, said in sorted(self._said.items()):
            votes = sorted(said, key=lambda vote: (vote.round, vote.kind, codec.encode(vote)))
            for one, other in itertools.pairwise(votes):
                if contradicts(one, other):
                    yield duplicate_vote(said[one], said[other])
            for precommit in votes:
                forgotten = next((vote for vote in votes if forgets_lock(precommit, vote)), None)
                if forgotten is not None:
                    yield Amnesia(precommit=said[precommit], prevote=said[forgotten])

    def _attacks(self) -> Iterator[LightClientAttack]:
        """A fork is tried from both its sides: which of them is the chain's own is not known here."""
        for fork in self._forks:
            for ours, other in ((fork.first, fork.second), (fork.second, fork.first)):
                yield LightClientAttack(
                    conflicting=other.signed,
                    validators=other.validators,
                    ours=ours.signed,
                    common_height=Height(fork.common_height),
                )

    def _unexplained(self, convicted: Collection[PublicKey]) -> Iterator[Unexplained]:
        polkas = self._quorums(VoteKind.PREVOTE)
        for key in sorted(self._said.keys() - set(convicted)):
            for vote in sorted(self._said[key], key=lambda vote: (vote.round, vote.kind)):
                needed = vote.round if vote.kind is VoteKind.PRECOMMIT else vote.valid_round
                if vote.value is not None and needed is not None and (needed, vote.value) not in polkas:
                    power = self.validators.power_of(key)
                    yield Unexplained(validator=key, power=power, vote=vote, polka=needed)
                    break
