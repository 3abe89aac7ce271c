"""Certificates: rows of signatures that show what more than two thirds, or more than one third, said.

They are checked and taken whole. A `CommitCertificate` is one precommit and a place for every validator of
its height; every signature in it must hold, so that nobody can be credited with a signature it never gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import limits
from fondaco.protocol.agreement import CommitCertificate, RoundCertificate, SignedVote
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import ChainId, Hash, Height, PublicKey, Round, Signature
from fondaco.protocol.signing import Signable, Verify, signing_bytes

K = TypeVar("K")
V = TypeVar("V")

Holds = Callable[[PublicKey, Signable, Signature], bool]
"""(key, statement, signature) -> whether it holds on this chain."""


class SignatureCache:
    """Checks signatures on one chain, and remembers the good ones.

    A vote comes directly, again in a certificate, and again in the next block: it is verified once. Bounded:
    when full, the older half goes.
    """

    def __init__(self, chain: ChainId, verify: Verify, *, size: int = limits.VERIFIED_SIGNATURES) -> None:
        self._chain = chain
        self._verify = verify
        self._size = size
        self._good: dict[tuple[PublicKey, Signature, Signable], None] = {}
        self._bytes: dict[Signable, bytes] = {}

    def holds(self, key: PublicKey, statement: Signable, signature: Signature) -> bool:
        entry = (key, signature, statement)
        if entry in self._good:
            return True
        if not self._verify(key, self._signed_bytes(statement), signature):
            return False
        _make_room(self._good, self._size)
        self._good[entry] = None
        return True

    def _signed_bytes(self, statement: Signable) -> bytes:
        """Most votes of a round are the same statement: it is encoded once, and soon over."""
        data = self._bytes.get(statement)
        if data is None:
            _make_room(self._bytes, self._size // 16)
            data = self._bytes[statement] = signing_bytes(self._chain, statement)
        return data


def _make_room(cache: dict[K, V], size: int) -> None:
    if len(cache) >= size:
        for key in list(cache)[: size // 2 + 1]:
            del cache[key]


def commit_from_votes(
    validators: ValidatorSet, *, height: Height, round: Round, value: Hash, votes: Iterable[SignedVote]
) -> CommitCertificate:
    """Build the certificate that `votes`, verified precommits for `value` in `round`, amount to."""
    signatures: list[Signature | None] = [None] * len(validators.members)
    for vote in votes:
        signatures[validators.index[vote.validator]] = vote.signature
    return CommitCertificate(height=height, round=round, value=value, signatures=tuple(signatures))


def signed_weight(
    certificate: CommitCertificate,
    signers: ValidatorSet,
    holds: Holds,
    *,
    counted_in: ValidatorSet | None = None,
) -> int:
    """The power that signed `certificate`, whose places are those of `signers`.

    With `counted_in`, only validators of that (trusted) set are checked, and weigh what they weigh there.
    Raises `PeerFault`: `certificate.places` for a row of the wrong length, `signature.bad` for any signature
    that does not hold.
    """
    if len(certificate.signatures) != len(signers.members):
        raise PeerFault(
            "certificate.places", f"{len(certificate.signatures)} places for {len(signers.members)} validators"
        )
    statement = certificate.vote()
    counted = signers if counted_in is None else counted_in
    weight = 0
    for member, signature in zip(signers.members, certificate.signatures, strict=True):
        power = counted.power_of(member.public_key)
        if signature is None or not power:
            continue
        if not holds(member.public_key, statement, signature):
            raise PeerFault("signature.bad", f"a signature for height {certificate.height} does not hold")
        weight += power
    return weight


def verify_commit(certificate: CommitCertificate, validators: ValidatorSet, holds: Holds) -> None:
    """Raise `PeerFault` unless more than two thirds of `validators` signed, and every signature holds."""
    if not validators.has_quorum(signed_weight(certificate, validators, holds)):
        raise PeerFault("certificate.weak", f"height {certificate.height}: no more than two thirds signed")


def verify_round(certificate: RoundCertificate, validators: ValidatorSet, holds: Holds) -> None:
    """Raise `PeerFault` unless the votes are of one height and round and come from more than a third.

    More than a third justifies skipping to the round; where more than two thirds agree the driver sees it.
    """
    votes = certificate.votes
    if not 1 <= len(votes) <= 2 * len(validators.members):
        raise PeerFault("certificate.places", f"{len(votes)} votes from {len(validators.members)} validators")
    where = {(vote.vote.height, vote.vote.round) for vote in votes}
    who = {(vote.validator, vote.vote.kind) for vote in votes}
    if len(where) != 1 or len(who) != len(votes):
        raise PeerFault("certificate.mixed", "votes of several rounds, or two of one validator")
    senders = {vote.validator for vote in votes}
    if not all(sender in validators.index for sender in senders):
        raise PeerFault("certificate.stranger", "a vote of somebody who is not a validator")
    if not validators.has_third(sum(validators.power_of(sender) for sender in senders)):
        raise PeerFault("certificate.weak", "no more than a third voted")
    for vote in votes:
        if not holds(vote.validator, vote.vote, vote.signature):
            raise PeerFault("signature.bad", "a vote in a certificate is not signed by its validator")
