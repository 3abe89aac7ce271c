"""The vote keeper of one height: weighs votes round by round and says, once, when a threshold is crossed.

What is kept is bounded (consensus.md, Shape):

* of every validator, per kind and round, the first vote and at most one that contradicts it, which is evidence
  (`consensus.watch`) and carries no weight;
* whole rounds up to the current one + 1; of later rounds only each sender's highest, which is all that
  the skip rule (L55) needs, and which is weighed in full once that round comes within reach.

A certificate is taken whole. An equivocator whose first vote said something else does not count in the tally
here, but did complete the quorum where the certificate was made: `certify` takes that quorum's word for it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from fondaco.consensus.validators import ValidatorSet
from fondaco.consensus.watch import Watch
from fondaco.protocol.agreement import SignedVote, Vote, VoteKind
from fondaco.protocol.scalars import Hash, PublicKey, Round


class Crossing(enum.Enum):
    """What a vote can bring about."""

    POLKA_ANY = enum.auto()
    POLKA_NIL = enum.auto()
    POLKA_VALUE = enum.auto()
    PRECOMMIT_ANY = enum.auto()
    PRECOMMIT_VALUE = enum.auto()
    SKIP = enum.auto()


@dataclass(frozen=True, slots=True)
class Threshold:
    """A crossing at `round`; each is reported once."""

    crossing: Crossing
    round: Round
    value: Hash | None = None


@dataclass(slots=True)
class _Tally:
    """Votes of one kind in one round."""

    first: dict[PublicKey, SignedVote] = field(default_factory=dict)
    second: dict[PublicKey, SignedVote] = field(default_factory=dict)
    weights: dict[Hash | None, int] = field(default_factory=dict)
    total: int = 0
    any: bool = False
    quorums: dict[Hash | None, tuple[SignedVote, ...] | None] = field(default_factory=dict)
    """Values with more than two thirds; the votes are kept where a whole certificate showed it."""


class VoteKeeper:
    """Votes must have been verified, and be of this height and from this set, before they come here."""

    def __init__(self, validators: ValidatorSet) -> None:
        self.validators = validators
        self.current = Round(0)
        self.commits: list[tuple[Round, Hash]] = []
        """Every (round, value) with more than two thirds of the precommits, in the order they were seen."""
        self.watch = Watch(validators)
        """Finds what no honest validator says."""
        self._tallies: dict[tuple[VoteKind, Round], _Tally] = {}
        self._far: dict[PublicKey, dict[VoteKind, SignedVote]] = {}
        self._skips: set[Round] = set()

    def advance(self, current: Round) -> tuple[Threshold, ...]:
        """Move to round `current`; votes of rounds that come within reach are weighed now."""
        self.current = current
        self._skips = {round for round in self._skips if round > current}
        near = [vote for votes in self._far.values() for vote in votes.values() if vote.vote.round <= current + 1]
        reached: list[Threshold] = []
        for vote in near:
            self._far.pop(vote.validator, None)
            reached.extend(self.add(vote))
        return tuple(reached)

    def wants(self, vote: SignedVote) -> bool:
        """Whether adding `vote` would change anything: ask before spending time on its signature."""
        kind, round = vote.vote.kind, vote.vote.round
        if round > self.current + 1:
            held = self._far.get(vote.validator, {})
            highest = max((other.vote.round for other in held.values()), default=-1)
            return round > highest or (round == highest and kind not in held)
        tally = self._tallies.get((kind, round))
        if tally is None or (first := tally.first.get(vote.validator)) is None:
            return True
        return first.vote != vote.vote and vote.validator not in tally.second

    def holds(self, vote: SignedVote) -> bool:
        """Whether exactly this vote was verified and kept before."""
        key = vote.validator
        if vote.vote.round > self.current + 1:
            return self._far.get(key, {}).get(vote.vote.kind) == vote
        tally = self._tallies.get((vote.vote.kind, vote.vote.round))
        return tally is not None and (tally.first.get(key) == vote or tally.second.get(key) == vote)

    def add(self, vote: SignedVote) -> tuple[Threshold, ...]:
        """Weigh one vote; what that brought about."""
        if not self.wants(vote):
            return ()
        kind, round, key = vote.vote.kind, vote.vote.round, vote.validator
        if round > self.current + 1:
            return self._add_far(vote)
        tally = self._tallies.setdefault((kind, round), _Tally())
        self.watch.note(vote)
        if key in tally.first:
            tally.second[key] = vote
            return ()
        tally.first[key] = vote
        power = self.validators.power_of(key)
        tally.total += power
        value = vote.vote.value
        tally.weights[value] = tally.weights.get(value, 0) + power
        return (*self._weigh(tally, vote.vote), *self._weigh_skip(round))

    def can_certify(self, kind: VoteKind, round: Round, value: Hash | None) -> bool:
        """Whether a certificate for this would be news, and is within reach or decides."""
        if round > self.current + 1 and (kind is VoteKind.PREVOTE or value is None):
            return False
        tally = self._tallies.get((kind, round))
        return tally is None or value not in tally.quorums

    def certify(self, kind: VoteKind, round: Round, value: Hash | None, votes: tuple[SignedVote, ...]) -> bool:
        """Accept on the word of a verified certificate that `value` has its quorum; False if known already.

        `votes` are kept to be shown to others; empty where the proof is a commit certificate.
        """
        if not self.can_certify(kind, round, value):
            return False
        tally = self._tallies.setdefault((kind, round), _Tally())
        tally.any = True
        self._reach(tally, kind, round, value, votes or None)
        return True

    def has_polka(self, round: Round, value: Hash | None) -> bool:
        """Whether more than two thirds prevoted `value` (None is nil) in `round`."""
        tally = self._tallies.get((VoteKind.PREVOTE, round))
        return tally is not None and value in tally.quorums

    def polkas(self, round: Round) -> tuple[Hash, ...]:
        """The values with a polka in `round`: one, unless a third of the power has broken its word."""
        tally = self._tallies.get((VoteKind.PREVOTE, round))
        return () if tally is None else tuple(value for value in tally.quorums if value is not None)

    def has_any(self, kind: VoteKind, round: Round) -> bool:
        """Whether more than two thirds voted in `round`, for whatever."""
        tally = self._tallies.get((kind, round))
        return tally is not None and tally.any

    def skip_to(self) -> Round | None:
        """The highest later round that more than a third of the power is in (L55)."""
        return max(self._skips, default=None)

    def votes(self, kind: VoteKind, round: Round) -> tuple[SignedVote, ...]:
        """All weighed votes of a kind and round, in the set's order, and those of far rounds."""
        tally = self._tallies.get((kind, round))
        found = {} if tally is None else dict(tally.first)
        for key, held in self._far.items():
            if (vote := held.get(kind)) is not None and vote.vote.round == round:
                found[key] = vote
        return _ordered(self.validators, found.values())

    def quorum_votes(self, kind: VoteKind, round: Round, value: Hash | None) -> tuple[SignedVote, ...]:
        """Votes that show the quorum for `value`; empty where only a commit certificate showed it."""
        tally = self._tallies.get((kind, round))
        if tally is None or value not in tally.quorums:
            return ()
        shown = tally.quorums[value]
        own = tuple(vote for vote in tally.first.values() if vote.vote.value == value)
        if self.validators.has_quorum(tally.weights.get(value, 0)):
            return _ordered(self.validators, own)
        return shown or ()

    def voters_of(self, round: Round) -> int:
        """The power seen voting in `round`, by either kind of vote; each sender counts once."""
        senders = {
            key
            for kind in VoteKind
            if (tally := self._tallies.get((kind, round))) is not None
            for key in tally.first
        }
        senders |= {
            key for key, held in self._far.items() if any(vote.vote.round == round for vote in held.values())
        }
        return sum(self.validators.power_of(key) for key in senders)

    def _add_far(self, vote: SignedVote) -> tuple[Threshold, ...]:
        held = self._far.get(vote.validator, {})
        if any(other.vote.round < vote.vote.round for other in held.values()):
            held = {}
        self._far[vote.validator] = {**held, vote.vote.kind: vote}
        return self._weigh_skip(vote.vote.round)

    def _weigh(self, tally: _Tally, vote: Vote) -> Iterable[Threshold]:
        prevote = vote.kind is VoteKind.PREVOTE
        if not tally.any and self.validators.has_quorum(tally.total):
            tally.any = True
            yield Threshold(Crossing.POLKA_ANY if prevote else Crossing.PRECOMMIT_ANY, vote.round)
        if vote.value not in tally.quorums and self.validators.has_quorum(tally.weights[vote.value]):
            self._reach(tally, vote.kind, vote.round, vote.value, None)
            if vote.value is not None:
                crossing = Crossing.POLKA_VALUE if prevote else Crossing.PRECOMMIT_VALUE
                yield Threshold(crossing, vote.round, vote.value)
            elif prevote:
                yield Threshold(Crossing.POLKA_NIL, vote.round)

    def _weigh_skip(self, round: Round) -> tuple[Threshold, ...]:
        if round <= self.current or round in self._skips:
            return ()
        if not self.validators.has_third(self.voters_of(round)):
            return ()
        self._skips.add(round)
        return (Threshold(Crossing.SKIP, round),)

    def _reach(
        self,
        tally: _Tally,
        kind: VoteKind,
        round: Round,
        value: Hash | None,
        votes: tuple[SignedVote, ...] | None,
    ) -> None:
        tally.quorums[value] = votes
        if kind is VoteKind.PRECOMMIT and value is not None:
            self.commits.append((round, value))


def _ordered(validators: ValidatorSet, votes: Iterable[SignedVote]) -> tuple[SignedVote, ...]:
    return tuple(sorted(votes, key=lambda vote: validators.index[vote.validator]))
