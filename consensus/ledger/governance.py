"""Proposals: made with a deposit, voted on by stake, decided and carried out by the ledger when their time comes.

Nobody closes a vote. Each proposal stands in an index ordered by time; the first block at or after its end counts
it and does at once what it says, before any transaction of that block. Later it is forgotten the same way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from fondaco.consensus.ledger import accounts, ballots, stakes
from fondaco.consensus.ledger.context import Context
from fondaco.consensus.ledger.params import changed
from fondaco.consensus.ledger.state import State
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import (
    AuthorityEnded,
    Event,
    ParameterChanged,
    PoolSpent,
    ProposalEnded,
    ProposalMade,
    VoteCast,
)
from fondaco.protocol.messages import (
    CastVote,
    ChangeParameters,
    Choice,
    EndAuthority,
    Grant,
    ParameterChange,
    Propose,
    Resolution,
    SetParams,
)
from fondaco.protocol.records import (
    AUTHORITY,
    GOVERNANCE,
    PARAMS,
    TOTALS,
    Authority,
    Proposal,
    ProposalState,
    Tally,
    Totals,
    key_ballot,
    key_proposal,
    key_proposal_due,
)
from fondaco.protocol.scalars import MicroCredits, MicroStake, Millis, ProposalNumber

DUE, BALLOTS = b"proposal-due/", b"ballot/"
WHOLE = 10_000
EMPTY = Tally(yes=MicroStake(0), no=MicroStake(0), abstain=MicroStake(0), veto=MicroStake(0))


def propose(context: Context, message: Propose) -> None:
    """Raises `Refused` `proposal.*`, `params.*` or `funds.credits`."""
    state, params = context.state, accounts.params_of(context.state)
    _check(context, message)
    if message.deposit < params.proposal_deposit:
        raise Refused("proposal.deposit", f"a proposal is made with at least {params.proposal_deposit} ucredit")
    governance = ballots.governance_of(state)
    if len(governance.open) >= limits.PROPOSALS_OPEN:
        raise Refused("proposal.open", f"{limits.PROPOSALS_OPEN} proposals are being voted on already")
    accounts.change(state, context.sender, credits=-message.deposit)
    accounts.shift(state, escrow_credits=message.deposit)
    number, ends_at = ProposalNumber(governance.made + 1), Millis(context.now + params.voting_ms)
    state.put(GOVERNANCE, replace(governance, made=number, open=(*governance.open, number)))
    state.put(key_proposal_due(ends_at, number), number)
    proposal = Proposal(
        number=number,
        proposer=context.sender,
        title=message.title,
        text=message.text,
        action=message.action,
        deposit=message.deposit,
        made_at=context.now,
        ends_at=ends_at,
        electorate=governance.electorate,
        quorum_basis_points=params.quorum_basis_points,
        threshold_basis_points=params.threshold_basis_points,
        veto_basis_points=params.veto_basis_points,
        tally=EMPTY,
        state=ProposalState.VOTING,
        due_at=ends_at,
    )
    state.put(key_proposal(number), proposal)
    context.events.append(
        ProposalMade(
            proposal=number,
            proposer=context.sender,
            title=message.title,
            action=message.action,
            deposit=message.deposit,
            ends_at=ends_at,
            electorate=governance.electorate,
        )
    )


def _check(context: Context, message: Propose) -> None:
    for what, text, most in (
        ("title", message.title, limits.PROPOSAL_TITLE_BYTES),
        ("text", message.text, limits.PROPOSAL_TEXT_BYTES),
    ):
        if not 1 <= len(text.encode()) <= most:
            raise Refused("proposal.text", f"the {what} of a proposal has 1..{most} bytes")
    match message.action:
        case ChangeParameters(changes=changes):
            changed(accounts.params_of(context.state), values_of(changes), code="params.value")
        case Grant(credits=credits, stake=stake):
            if not credits and not stake:
                raise Refused("proposal.zero", "a grant pays at least one ucredit or ustake")
            if max(credits, stake) > limits.SUPPLY:
                raise Refused("proposal.grant", "a grant of more than there can ever be")
        case EndAuthority():
            if context.state.get(AUTHORITY, Authority) is None:
                raise Refused("proposal.authority", "nobody but the voters changes parameters here")
        case Resolution():
            pass
        case _:
            assert_never(message.action)


def values_of(changes: tuple[ParameterChange, ...]) -> dict[str, int]:
    """Raises `Refused` `params.changes` unless they are in order."""
    names = [change.name for change in changes]
    if not 1 <= len(names) <= limits.PARAMETER_CHANGES or names != sorted(set(names)):
        raise Refused("params.changes", f"1..{limits.PARAMETER_CHANGES} parameters, ordered by name, each once")
    return {change.name: change.value for change in changes}


def set_params(context: Context, message: SetParams) -> None:
    """What the authority does that genesis names, until it is ended. Raises `Refused` `params.*`."""
    authority = context.state.get(AUTHORITY, Authority)
    if authority is None or authority.key != context.sender:
        raise Refused("params.authority", "only the authority that genesis names changes parameters")
    context.events.extend(_change_parameters(context.state, message.changes))


def vote(context: Context, message: CastVote) -> None:
    """Raises `Refused` `proposal.unknown`, `proposal.over`, `vote.tombstoned` or `vote.no_stake`."""
    state = context.state
    proposal = state.get(key_proposal(message.proposal), Proposal)
    if proposal is None:
        raise Refused("proposal.unknown", f"there is no proposal {message.proposal}")
    if proposal.state != ProposalState.VOTING or context.now >= proposal.ends_at:
        raise Refused("proposal.over", f"proposal {message.proposal} takes no more votes")
    stake = stakes.stake_of(state, context.sender)
    if stake.tombstoned:
        raise Refused("vote.tombstoned", "this key was convicted of breaking its word; it does not vote")
    before = ballots.ballot_of(state, proposal.number, stake)
    if not before.weight:
        raise Refused(
            "vote.no_stake", "the sender had nothing bonded when the proposal was made, or has nothing now"
        )
    tally = proposal.tally if before.choice is None else counted(proposal.tally, before.choice, -before.weight)
    tally = counted(tally, message.choice, before.weight)
    state.put(key_ballot(proposal.number, context.sender), replace(before, choice=message.choice))
    state.put(key_proposal(proposal.number), replace(proposal, tally=tally))
    context.events.append(
        VoteCast(proposal=proposal.number, voter=context.sender, choice=message.choice, weight=before.weight)
    )


def counted(tally: Tally, choice: Choice, weight: int) -> Tally:
    """`tally` with so much more stake behind a choice."""
    name = choice.name.lower()
    return replace(tally, **{name: MicroStake(getattr(tally, name) + weight)})


def handle_due(state: State, events: list[Event], *, now: Millis) -> None:
    """Decide the proposals whose time has come and forget old ones, a few of each; then ballots nobody needs."""
    for key, _ in state.scan_before(DUE, now + 1, limits.PROPOSALS_PER_BLOCK):
        state.put(key, None)
        proposal = state.require(b"proposal/" + key[len(DUE) + 8 :], Proposal)
        if proposal.state == ProposalState.VOTING:
            _end(state, events, proposal, now=now)
        else:
            state.put(key_proposal(proposal.number), None)
    governance = ballots.governance_of(state)
    oldest = governance.open[0] if governance.open else governance.made + 1
    for key, _ in state.scan_before(BALLOTS, oldest, limits.BALLOTS_FORGOTTEN_PER_BLOCK):
        state.put(key, None)


def _end(state: State, events: list[Event], proposal: Proposal, *, now: Millis) -> None:
    outcome = decide(proposal)
    doing = list[Event]()
    if outcome == ProposalState.PASSED:
        try:
            doing = state.attempt(lambda trial: _carry_out(trial, proposal))
        except Refused:
            outcome = ProposalState.FAILED
    lost = outcome in (ProposalState.NO_QUORUM, ProposalState.VETOED)
    accounts.shift(state, escrow_credits=-proposal.deposit)
    if lost:
        accounts.shift(state, pool_credits=proposal.deposit)
    else:
        accounts.change(state, proposal.proposer, credits=proposal.deposit)
    due_at = Millis(now + limits.PROPOSAL_KEPT_MS)
    state.put(key_proposal_due(due_at, proposal.number), proposal.number)
    state.put(
        key_proposal(proposal.number), replace(proposal, deposit=MicroCredits(0), state=outcome, due_at=due_at)
    )
    governance = ballots.governance_of(state)
    still_open = tuple(number for number in governance.open if number != proposal.number)
    state.put(GOVERNANCE, replace(governance, open=still_open))
    events.append(
        ProposalEnded(
            proposal=proposal.number,
            outcome=outcome,
            tally=proposal.tally,
            deposit=proposal.deposit,
            deposit_lost=lost,
        )
    )
    events.extend(doing)


def decide(proposal: Proposal) -> ProposalState:
    """What the votes cast so far come to."""
    tally = proposal.tally
    decisive = tally.yes + tally.no + tally.veto
    votes = decisive + tally.abstain
    if votes * WHOLE < proposal.electorate * proposal.quorum_basis_points:
        return ProposalState.NO_QUORUM
    if tally.veto * WHOLE > votes * proposal.veto_basis_points:
        return ProposalState.VETOED
    if tally.yes * WHOLE > decisive * proposal.threshold_basis_points:
        return ProposalState.PASSED
    return ProposalState.REJECTED


def _carry_out(state: State, proposal: Proposal) -> list[Event]:
    """Raises `Refused` where it cannot be done."""
    match proposal.action:
        case ChangeParameters(changes=changes):
            return _change_parameters(state, changes)
        case Grant() as grant:
            return _grant(state, proposal.number, grant)
        case EndAuthority():
            authority = state.get(AUTHORITY, Authority)
            if authority is None:
                raise Refused("proposal.authority", "the authority has been ended already")
            state.put(AUTHORITY, None)
            return [AuthorityEnded(authority=authority.key)]
        case Resolution():
            return []
        case _:
            assert_never(proposal.action)


def _change_parameters(state: State, changes: tuple[ParameterChange, ...]) -> list[Event]:
    values = values_of(changes)
    state.put(PARAMS, changed(accounts.params_of(state), values, code="params.value"))
    return [ParameterChanged(name=name, value=value) for name, value in values.items()]


def _grant(state: State, number: ProposalNumber, grant: Grant) -> list[Event]:
    pool = state.require(TOTALS, Totals)
    if grant.credits > pool.pool_credits or grant.stake > pool.pool_stake:
        raise Refused("funds.pool", "the community pool does not hold what was granted")
    accounts.shift(state, pool_credits=-grant.credits, pool_stake=-grant.stake)
    accounts.change(state, grant.to, credits=grant.credits, stake=grant.stake)
    return [PoolSpent(proposal=number, to=grant.to, credits=grant.credits, stake=grant.stake)]


def next_due_moment(state: State) -> Millis | None:
    """When the ledger next has a proposal to decide or to forget; None if there is none."""
    first = state.scan(DUE, 1)
    return Millis(int.from_bytes(first[0][0][len(DUE) :][:8], "big")) if first else None
