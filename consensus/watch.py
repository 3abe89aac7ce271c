"""Watching the validators of one height: what each said, and what it said against its own word.

Kept is the first vote of each (validator, kind, round) that the vote keeper weighs, so this is bounded as the
keeper is. Against them every further vote is held, those too that come when nothing is left to decide: a late
vote, or the certificate that others decided by, shows what they were told and we were not. Each broken word is
found once: one pair of votes a (validator, kind, round), and one forgotten lock a validator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from fondaco.consensus.certificates import Holds
from fondaco.consensus.evidence import forgets_lock
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol.agreement import (
    CommitCertificate,
    ConsensusMessage,
    RoundCertificate,
    SignedProposal,
    SignedVote,
    VoteKind,
)
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.evidence import Amnesia, DuplicateVote, duplicate_vote
from fondaco.protocol.scalars import PublicKey, Round

Place = tuple[VoteKind, Round]
_Offence = tuple[PublicKey, Place | None]
"""Two votes for one place; or, with None, a forgotten lock."""
_Found = DuplicateVote | Amnesia


class Watch:
    """Everything it is given but late messages has been verified."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._said: dict[PublicKey, dict[Place, SignedVote]] = {}
        self._found: dict[_Offence, _Found] = {}
        self._taken = 0

    def note(self, vote: SignedVote) -> None:
        """A vote that was weighed, or contradicts one that was."""
        for offence, evidence in self._compare(vote):
            self._found[offence] = evidence
        self._said.setdefault(vote.validator, {}).setdefault(_place(vote), vote)

    def note_certificate(self, certificate: CommitCertificate) -> None:
        """A certificate's precommits; they are compared, and nothing of them is kept."""
        for vote in commit_votes(certificate, self._validators):
            for offence, evidence in self._compare(vote):
                self._found[offence] = evidence

    def note_late(self, message: ConsensusMessage, holds: Holds) -> None:
        """Hold what came too late to matter against what was said before.

        Signatures are checked where they would convict, and only there. Raises `PeerFault` for one that does
        not hold.
        """
        for vote in votes_in(message, self._validators):
            for offence, evidence in self._compare(vote):
                if not holds(vote.validator, vote.vote, vote.signature):
                    raise PeerFault("signature.bad", "a late vote is not signed by its validator")
                self._found[offence] = evidence

    def take(self) -> list[_Found]:
        """What was found since the last time."""
        new = list(self._found.values())[self._taken :]
        self._taken = len(self._found)
        return new

    def untake(self) -> None:
        """Everything found is new again, after a replay: what was reported before a crash may be lost."""
        self._taken = 0

    def _compare(self, vote: SignedVote) -> Iterator[tuple[_Offence, _Found]]:
        said = self._said.get(vote.validator)
        if said is None:
            return
        place = _place(vote)
        first = said.get(place)
        if first is not None and first.vote == vote.vote:
            return  # heard before, and held against all the rest then or when the rest came
        twice = (vote.validator, place)
        if first is not None and twice not in self._found:
            yield twice, duplicate_vote(first, vote)
        forgot = (vote.validator, None)
        if vote.vote.value is not None and forgot not in self._found:
            amnesia = next(filter(None, (_amnesia(vote, other) for other in said.values())), None)
            if amnesia is not None:
                yield forgot, amnesia


def culprit(evidence: DuplicateVote | Amnesia) -> PublicKey:
    """Whose two votes they are."""
    return evidence.first.validator if isinstance(evidence, DuplicateVote) else evidence.precommit.validator


def commit_votes(certificate: CommitCertificate, validators: ValidatorSet) -> Iterator[SignedVote]:
    """The precommits that a certificate is made of; none where it does not fit the set."""
    if len(certificate.signatures) != len(validators.members):
        return
    statement = certificate.vote()
    for member, signature in zip(validators.members, certificate.signatures, strict=True):
        if signature is not None:
            yield SignedVote(vote=statement, validator=member.public_key, signature=signature)


def votes_in(message: ConsensusMessage, validators: ValidatorSet) -> Iterator[SignedVote]:
    """The votes that a message carries about its own height, whose validators these are."""
    match message:
        case SignedVote():
            yield message
        case RoundCertificate():
            yield from message.votes
        case CommitCertificate():
            yield from commit_votes(message, validators)
        case SignedProposal():
            return
        case _:
            assert_never(message)


def _place(vote: SignedVote) -> Place:
    return vote.vote.kind, vote.vote.round


def _amnesia(one: SignedVote, other: SignedVote) -> Amnesia | None:
    for precommit, prevote in ((one, other), (other, one)):
        if forgets_lock(precommit.vote, prevote.vote):
            return Amnesia(precommit=precommit, prevote=prevote)
    return None
