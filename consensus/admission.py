"""Which messages of the current height are let in.

Cheap questions first: a signature costs more than everything else together, so it is verified last and only
where the message would be kept. A question answered "no, and no honest peer asks it" raises `PeerFault`; "no,
but that can happen" returns False.
"""

from __future__ import annotations

from fondaco.consensus.blocks import check_bound
from fondaco.consensus.certificates import Holds, verify_commit, verify_round
from fondaco.consensus.driver import Driver
from fondaco.protocol.agreement import (
    CommitCertificate,
    CompactProposal,
    Header,
    RoundCertificate,
    SignedProposal,
    SignedVote,
    Vote,
    VoteKind,
)
from fondaco.protocol.errors import PeerFault


def check_shape(vote: Vote) -> None:
    """Only a prevote for a value names a valid round, and an earlier one."""
    if vote.valid_round is None:
        return
    if vote.kind is not VoteKind.PREVOTE or vote.value is None or vote.valid_round >= vote.round:
        raise PeerFault("vote.valid_round", f"valid round {vote.valid_round} makes no sense here")


def admit_vote(signed: SignedVote, driver: Driver, holds: Holds) -> bool:
    check_shape(signed.vote)
    if signed.validator not in driver.validators.index:
        raise PeerFault("vote.stranger", "a vote of somebody who is not a validator")
    if not driver.keeper.wants(signed):
        return False
    if not holds(signed.validator, signed.vote, signed.signature):
        raise PeerFault("signature.bad", "a vote is not signed by its validator")
    return True


def admit_proposal(signed: SignedProposal, driver: Driver, holds: Holds) -> bool:
    if not admit_announced(signed, signed.block.header, driver, holds):
        return False
    check_bound(signed.block, signed.proposal.value)
    return True


def admit_announced(
    signed: SignedProposal | CompactProposal, header: Header, driver: Driver, holds: Holds
) -> bool:
    """What can be asked of a proposal before its block is here: nothing is fetched for one that fails this."""
    proposal = signed.proposal
    if header.height != proposal.height:
        raise PeerFault("proposal.height", "the proposal and its block differ in height")
    if proposal.valid_round is not None and proposal.valid_round >= proposal.round:
        raise PeerFault("proposal.valid_round", f"valid round {proposal.valid_round} is not earlier")
    if not driver.wants_proposal(signed):
        return False
    if driver.validators.proposer(proposal.round) != signed.proposer:
        raise PeerFault("proposal.turn", f"it is not this validator's turn in round {proposal.round}")
    if proposal.valid_round is None and header.proposer != signed.proposer:
        raise PeerFault("proposal.proposer", "a fresh block names another proposer")
    if not holds(signed.proposer, proposal, signed.signature):
        raise PeerFault("signature.bad", "a proposal is not signed by its proposer")
    return True


def admit_round(certificate: RoundCertificate, driver: Driver, holds: Holds) -> bool:
    keeper = driver.keeper
    for vote in certificate.votes:
        check_shape(vote.vote)
    first = certificate.votes[0].vote
    new = any(vote.validator in driver.validators.index and keeper.wants(vote) for vote in certificate.votes)
    if not new and not (
        keeper.can_certify(first.kind, first.round, first.value) and driver.is_quorum(certificate)
    ):
        return False
    verify_round(certificate, driver.validators, holds)
    return True


def admit_commit(certificate: CommitCertificate, driver: Driver, holds: Holds) -> bool:
    """Though the same precommits be here one by one: what is final is not signed at, and can be asked for."""
    verify_commit(certificate, driver.validators, holds)
    return True
