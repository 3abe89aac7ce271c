"""Who is to blame, and why no honest validator ever is.

Each kind is checked from the signed statements alone:

* *Duplicate vote*: an honest validator signs one statement for each (height, round, kind); its sign state refuses
  a second one even after a crash. A prevote that differs only in the polka it names is a second one.
* *Amnesia*: who precommitted A in round r is locked on it (arXiv 1807.04938, L38-41). It prevotes another value B
  later only after a polka for B in some round from r on: the proposal named it (L28-29), or it locked anew on B
  (L36). The prevote says the latest such round, so one that names none, or one before r, gives a forgotten lock
  away. Nil may be prevoted at any time.
* *Light-client attack*: two headers of one height, the chain's own and another. Where the other commits to
  validators that never were (lunatic), all who signed it made it up. Where it has the right ones and the same
  round, those who signed both voted twice. Where the rounds differ the headers name nobody: it takes the votes
  of the rounds between, which `consensus.forensics` finds in journals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import assert_never

from fondaco.consensus.certificates import Holds, verify_commit
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol.agreement import SignedHeader, SignedVote, Vote, VoteKind
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.evidence import Amnesia, DuplicateVote, Evidence, LightClientAttack, duplicate_vote
from fondaco.protocol.scalars import ChainId, Height, PublicKey

SetAt = Callable[[Height], ValidatorSet | None]
"""The validators of a height of this chain; None for one that is too old or not decided yet."""


def forgets_lock(precommit: Vote, prevote: Vote) -> bool:
    """Whether one validator saying both shows amnesia."""
    return (
        precommit.kind is VoteKind.PRECOMMIT
        and prevote.kind is VoteKind.PREVOTE
        and precommit.height == prevote.height
        and precommit.round < prevote.round
        and None not in (precommit.value, prevote.value)
        and precommit.value != prevote.value
        and (prevote.valid_round is None or prevote.valid_round < precommit.round)
    )


def contradicts(one: Vote, other: Vote) -> bool:
    """Whether one validator saying both has voted twice."""
    return one != other and (one.height, one.round, one.kind) == (other.height, other.round, other.kind)


def check(evidence: Evidence, chain: ChainId, set_at: SetAt, holds: Holds) -> tuple[PublicKey, ...]:
    """The validators that `evidence` convicts, ordered by key. `holds` judges signatures on `chain`.

    Raises `Refused` `evidence.*` for what proves nothing here.
    """
    try:
        match evidence:
            case DuplicateVote():
                return _check_duplicate(evidence, set_at, holds)
            case Amnesia():
                return _check_amnesia(evidence, set_at, holds)
            case LightClientAttack():
                return _check_attack(evidence, chain, set_at, holds)
            case _:
                assert_never(evidence)
    except PeerFault as fault:
        raise Refused(fault.code, fault.message) from None


def _check_duplicate(evidence: DuplicateVote, set_at: SetAt, holds: Holds) -> tuple[PublicKey, ...]:
    first, second = evidence.first, evidence.second
    if not contradicts(first.vote, second.vote) or duplicate_vote(first, second) != evidence:
        raise Refused("evidence.votes", "these are not two contradicting votes in their one order")
    return _one_culprit(first, second, set_at, holds)


def _check_amnesia(evidence: Amnesia, set_at: SetAt, holds: Holds) -> tuple[PublicKey, ...]:
    if not forgets_lock(evidence.precommit.vote, evidence.prevote.vote):
        raise Refused("evidence.votes", "the prevote does not show that the precommit was forgotten")
    return _one_culprit(evidence.precommit, evidence.prevote, set_at, holds)


def _one_culprit(one: SignedVote, other: SignedVote, set_at: SetAt, holds: Holds) -> tuple[PublicKey, ...]:
    if one.validator != other.validator:
        raise Refused("evidence.votes", "the two votes are of different validators")
    if one.validator not in _require(set_at, one.vote.height).index:
        raise Refused("evidence.stranger", "the votes are of somebody who was no validator at that height")
    for vote in (one, other):
        if not holds(vote.validator, vote.vote, vote.signature):
            raise Refused("signature.bad", "a vote in the evidence is not signed by its validator")
    return (one.validator,)


def _check_attack(
    evidence: LightClientAttack, chain: ChainId, set_at: SetAt, holds: Holds
) -> tuple[PublicKey, ...]:
    ours, other = evidence.ours, evidence.conflicting
    height = ours.header.height
    for signed in (ours, other):
        if signed.header.chain != chain or signed.header.height != height or not _names_header(signed):
            raise Refused("evidence.headers", "the headers are not two certified ones of one height of this chain")
    if ours.header == other.header or not evidence.common_height < height:
        raise Refused("evidence.headers", "the headers are the same, or agree above the height they fork from")
    actual, common = _require(set_at, height), _require(set_at, evidence.common_height)
    verify_commit(ours.certificate, actual, holds)
    shown = ValidatorSet(members=evidence.validators)
    if shown.hash != other.header.validators:
        raise Refused("evidence.validators", "the validators are not those of the conflicting header")
    if shown.hash != actual.hash:
        return _lunatics(other, shown, common, holds)
    if ours.certificate.round != other.certificate.round:
        raise Refused(
            "evidence.rounds",
            "two rounds of one height name nobody by themselves",
            hint="`fondaco forensics` finds the culprits in the journals of that height",
        )
    verify_commit(other.certificate, actual, holds)
    return tuple(sorted(set(_signers(ours, actual)) & set(_signers(other, actual))))


def _lunatics(
    other: SignedHeader, shown: ValidatorSet, common: ValidatorSet, holds: Holds
) -> tuple[PublicKey, ...]:
    """Those of the common set who signed a header of invented validators."""
    if len(other.certificate.signatures) != len(shown.members):
        raise Refused("certificate.places", "the conflicting certificate does not fit its validators")
    culprits = tuple(key for key in _signers(other, shown) if key in common.index)
    signatures = dict(zip(shown.index, other.certificate.signatures, strict=True))
    statement = other.certificate.vote()
    for key in culprits:
        signature = signatures[key]
        assert signature is not None, "a signer has signed"
        if not holds(key, statement, signature):
            raise Refused("signature.bad", "a signature on the conflicting header does not hold")
    if not common.has_third(sum(map(common.power_of, culprits))):
        raise Refused("evidence.weak", "no more than a third of the common validators signed the other header")
    return culprits


def _names_header(signed: SignedHeader) -> bool:
    certificate = signed.certificate
    return certificate.value == signed.header.hash() and certificate.height == signed.header.height


def _signers(signed: SignedHeader, validators: ValidatorSet) -> Iterator[PublicKey]:
    for member, signature in zip(validators.members, signed.certificate.signatures, strict=True):
        if signature is not None:
            yield member.public_key


def _require(set_at: SetAt, height: Height) -> ValidatorSet:
    validators = set_at(height)
    if validators is None:
        raise Refused("evidence.height", f"the validators of height {height} are not known here")
    return validators
