"""How much a voter's word weighs, and what it must leave bonded for it.

A vote weighs what its voter has bonded, but no more than it had bonded when the proposal was made. To know
that, nothing is copied when a proposal is made: whoever bonds more while it is open gets a ballot first, on which
what was bonded before is noted. So a proposal costs one record, and a growing stake at most one for each proposal
that is open, of which there are few.
"""

from __future__ import annotations

from dataclasses import replace

from fondaco.consensus.ledger.state import State
from fondaco.protocol.records import GOVERNANCE, Ballot, Governance, Stake, key_ballot
from fondaco.protocol.scalars import MicroStake, ProposalNumber, PublicKey

NONE = Governance(made=ProposalNumber(0), open=(), electorate=MicroStake(0))


def governance_of(state: State) -> Governance:
    return state.get(GOVERNANCE, Governance) or NONE


def voting_stake(stake: Stake) -> int:
    """What stands behind a key that may be voted with: none of who broke its word."""
    return 0 if stake.tombstoned else stake.bonded


def ballot_of(state: State, proposal: ProposalNumber, stake: Stake) -> Ballot:
    """The ballot of one voter as it is, or as it would be now; what it may weigh is up to date if not cast."""
    ballot = state.get(key_ballot(proposal, stake.validator), Ballot)
    weight = MicroStake(voting_stake(stake))
    if ballot is None:
        return Ballot(proposal=proposal, voter=stake.validator, weight=weight, choice=None)
    return ballot if ballot.choice is not None else replace(ballot, weight=min(ballot.weight, weight))


def stake_changes(state: State, before: Stake, after: Stake) -> None:
    """Keep count of what can be voted with. Where it grows, note for each open proposal what was there before."""
    grown = voting_stake(after) - voting_stake(before)
    if not grown:
        return
    governance = governance_of(state)
    if grown > 0:
        for proposal in governance.open:
            ballot = ballot_of(state, proposal, before)
            if ballot.choice is None:
                state.put(key_ballot(proposal, before.validator), ballot)
    electorate = MicroStake(governance.electorate + grown)
    state.put(GOVERNANCE, replace(governance, electorate=electorate))


def locked(state: State, voter: PublicKey) -> int:
    """Ustake that `voter` must leave bonded: what its word weighs on some proposal that is open."""
    ballots = (state.get(key_ballot(proposal, voter), Ballot) for proposal in governance_of(state).open)
    return max((one.weight for one in ballots if one is not None and one.choice is not None), default=0)
