"""What stake decides: proposals, and outcomes that the ledger carries out itself."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.ledger import HOUR, RICH, START, codes, of_kind
from tests.support.parish import ABSTAIN, MILLION, NO, VETO, YES, Parish, ballot, pool

from fondaco.consensus.ledger.ballots import governance_of
from fondaco.protocol import codec, limits
from fondaco.protocol.events import AuthorityEnded, ParameterChanged, PoolSpent, ProposalEnded, ProposalMade
from fondaco.protocol.evidence import duplicate_vote
from fondaco.protocol.messages import ChangeParameters, EndAuthority, Grant, ParameterChange
from fondaco.protocol.records import AUTHORITY, Authority, Proposal, ProposalState, key_proposal
from fondaco.protocol.scalars import INT_MAX, Hash, MicroCredits, MicroStake, ProposalNumber, PublicKey


def test_a_proposal_that_most_stake_is_for_is_done_by_the_ledger_itself() -> None:
    parish = Parish()
    made = parish.block(parish.alice.proposes_to_set(fee_base=7))
    (told,) = of_kind(made.events, ProposalMade)
    assert (told.proposal, told.electorate, told.deposit) == (1, 100 * MILLION, 10)
    assert parish.alice.credits == RICH - 10
    ended = parish.run((parish.cat, YES), (parish.dan, YES), (parish.ann, NO))
    assert (ended.outcome, ended.deposit_lost) == (ProposalState.PASSED, False)
    assert parish.ledger.params.fee_base == 7
    assert parish.alice.credits == RICH
    (changed,) = of_kind(parish.blocks[-1].events, ParameterChanged)
    assert (changed.name, changed.value) == ("fee_base", 7)


@pytest.mark.parametrize(
    ("votes", "outcome"),
    [
        ((), ProposalState.NO_QUORUM),
        (("dan", YES), ProposalState.PASSED),
        (("cat", YES), ProposalState.NO_QUORUM),
        (("cat", YES, "ann", ABSTAIN), ProposalState.PASSED),
        (("dan", ABSTAIN), ProposalState.REJECTED),
        (("dan", NO, "cat", YES), ProposalState.REJECTED),
        (("ann", YES, "cat", YES, "dan", NO), ProposalState.REJECTED),
        (("ann", YES, "ben", YES, "cat", ABSTAIN, "dan", NO), ProposalState.REJECTED),
        (("ben", YES, "cat", YES, "dan", NO), ProposalState.PASSED),
        (("dan", VETO, "ann", YES), ProposalState.VETOED),
        (("cat", VETO, "dan", YES), ProposalState.VETOED),
        (("cat", VETO, "dan", YES, "ben", YES), ProposalState.PASSED),
        (("ben", VETO, "cat", NO, "dan", YES), ProposalState.REJECTED),
    ],
)
def test_what_votes_come_to(votes: tuple[Any, ...], outcome: ProposalState) -> None:
    parish = Parish()
    parish.block(parish.alice.proposes())
    before = pool(parish).pool_credits
    ended = parish.run(
        *((parish.actors(name)[0], choice) for name, choice in zip(votes[::2], votes[1::2], strict=True))
    )
    assert ended.outcome == outcome
    lost = outcome in (ProposalState.NO_QUORUM, ProposalState.VETOED)
    assert ended.deposit_lost is lost
    assert parish.alice.credits == (RICH - 10 if lost else RICH)
    assert pool(parish).pool_credits - before == (10 if lost else 0)
    record = parish.proposal()
    assert (record.state, record.deposit) == (outcome, 0)


def test_the_pool_pays_what_was_granted() -> None:
    parish = Parish(fee_base=100)
    parish.block(parish.alice.pays(parish.dan, 1_000), parish.alice.pays(parish.cat, 1_000))
    assert pool(parish).pool_credits == 100
    wish = Grant(to=parish.bob.key, credits=MicroCredits(80), stake=MicroStake(0))
    parish.block(parish.alice.proposes(wish))
    ended = parish.run((parish.dan, YES), (parish.cat, YES))
    assert ended.outcome == ProposalState.PASSED
    assert parish.bob.credits == RICH + 80
    assert pool(parish).pool_credits == 100 + 3 * 50 - 80
    (spent,) = of_kind(parish.blocks[-1].events, PoolSpent)
    assert (spent.proposal, spent.to, spent.credits, spent.stake) == (1, parish.bob.key, 80, 0)


def test_slashed_stake_can_be_granted() -> None:
    parish = Parish()
    evidence = codec.encode(
        duplicate_vote(parish.ann.votes(1, Hash(bytes(32))), parish.ann.votes(1, Hash(b"1" * 32)))
    )
    parish.block()
    parish.block(evidence=[evidence])
    slashed = pool(parish).pool_stake
    assert slashed == 500_000
    parish.block(
        parish.alice.proposes(Grant(to=parish.bob.key, credits=MicroCredits(0), stake=MicroStake(slashed)))
    )
    assert parish.run((parish.dan, YES)).outcome == ProposalState.PASSED
    assert parish.bob.stake == RICH + slashed
    assert pool(parish).pool_stake == 0


@pytest.mark.parametrize(("credits", "stake"), [(1, 0), (0, 1), (0, limits.SUPPLY)])
def test_what_the_pool_does_not_hold_is_not_paid(credits: int, stake: int) -> None:
    parish = Parish()
    parish.block(parish.alice.proposes(grant(credits, stake)))
    ended = parish.run((parish.dan, YES), (parish.cat, YES))
    assert (ended.outcome, ended.deposit_lost) == (ProposalState.FAILED, False)
    assert parish.alice.credits == RICH
    assert not of_kind(parish.blocks[-1].events, PoolSpent)


def test_voters_can_end_the_authority_that_genesis_names() -> None:
    parish = Parish(authority="bob")
    assert parish.code(parish.bob.sets(fee_base=1)) == ""
    parish.block(parish.bob.sets(fee_base=0))
    parish.block(parish.alice.proposes(EndAuthority()), parish.alice.proposes(EndAuthority()))
    parish.block(parish.dan.says(YES, 1), parish.dan.says(YES, 2))
    execution = parish.block(after_ms=HOUR)
    assert [one.outcome for one in of_kind(execution.events, ProposalEnded)] == [
        ProposalState.PASSED,
        ProposalState.FAILED,
    ]
    assert of_kind(execution.events, AuthorityEnded) == [AuthorityEnded(authority=parish.bob.key)]
    assert parish.ledger.state().get(AUTHORITY, Authority) is None
    assert parish.code(parish.bob.sets(fee_base=1)) == "params.authority"
    assert parish.code(parish.alice.proposes(EndAuthority())) == "proposal.authority"
    parish.block(parish.alice.proposes_to_set(fee_base=3))
    assert parish.run((parish.dan, YES), proposal=3).outcome == ProposalState.PASSED
    assert parish.ledger.params.fee_base == 3


def changes(*pairs: tuple[str, int]) -> ChangeParameters:
    return ChangeParameters(changes=tuple(ParameterChange(name=name, value=value) for name, value in pairs))


def grant(credits: int, stake: int) -> Grant:
    return Grant(to=PublicKey(bytes(32)), credits=MicroCredits(credits), stake=MicroStake(stake))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too small a deposit": ({"deposit": 9}, "proposal.deposit"),
    "more than it has": ({"deposit": RICH + 1}, "funds.credits"),
    "no title": ({"title": ""}, "proposal.text"),
    "no text": ({"text": ""}, "proposal.text"),
    "a long title": ({"title": "é" * 65}, "proposal.text"),
    "a long text": ({"text": "a" * 2_049}, "proposal.text"),
    "nothing to change": ({"action": changes()}, "params.changes"),
    "changes out of order": ({"action": changes(("grace_ms", 1), ("fee_base", 1))}, "params.changes"),
    "an unknown parameter": ({"action": changes(("fee", 1))}, "params.value"),
    "a value out of bounds": ({"action": changes(("fee_base", INT_MAX))}, "params.value"),
    "a grant of nothing": ({"action": grant(0, 0)}, "proposal.zero"),
    "a grant of more than all": (
        {"action": grant(INT_MAX, 0)},
        "proposal.grant",
    ),
    "ending an authority that is not": ({"action": EndAuthority()}, "proposal.authority"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_proposals_that_are_refused(name: str) -> None:
    parish = Parish()
    other, code = REFUSED[name]
    assert parish.code(parish.alice.proposes(**({"deposit": 10} | other))) == code
    assert parish.alice.credits == RICH


def test_the_longest_words_are_taken() -> None:
    parish = Parish()
    assert parish.code(parish.alice.proposes(title="é" * 64, text="a" * 2_048)) == ""


def test_few_proposals_are_open_at_once_and_a_few_are_decided_in_one_block() -> None:
    parish = Parish()
    most, few = limits.PROPOSALS_OPEN, limits.PROPOSALS_PER_BLOCK
    assert set(codes(parish.block(*(parish.alice.proposes() for _ in range(most))).events)) == {""}
    assert parish.code(parish.alice.proposes()) == "proposal.open"
    left = []
    parish.block(after_ms=HOUR)
    while being_voted_on := governance_of(parish.ledger.state()).open:
        left.append(len(being_voted_on))
        due = parish.ledger.next_due_moment()
        assert due is not None
        assert due <= parish.now, "the rest is due at once"
        parish.block()
    assert left == list(range(most - few, 0, -few))
    assert parish.code(parish.alice.proposes()) == ""
    parish.books.count()


def test_rules_changed_meanwhile_do_not_change_a_vote_under_way() -> None:
    parish = Parish(authority="bob")
    parish.block(parish.alice.proposes())
    parish.block(parish.bob.sets(quorum_basis_points=9_000, voting_ms=10 * HOUR))
    assert parish.run((parish.dan, YES)).outcome == ProposalState.PASSED
    parish.block(parish.alice.proposes())
    assert parish.proposal(2).ends_at == parish.now + 10 * HOUR


def test_what_is_over_is_forgotten_after_a_week_and_its_ballots_at_once() -> None:
    parish = Parish()
    parish.block(parish.alice.proposes())
    parish.block(parish.dan.says(YES), parish.ann.says(NO))
    assert ballot(parish, parish.dan) is not None
    parish.block(after_ms=HOUR)
    assert ballot(parish, parish.dan) is None
    assert parish.ledger.next_due_moment() == parish.now + limits.PROPOSAL_KEPT_MS
    parish.block(after_ms=limits.PROPOSAL_KEPT_MS)
    assert parish.ledger.state().get(key_proposal(ProposalNumber(1)), Proposal) is None
    assert parish.ledger.next_due_moment() is None
    parish.books.count()
    parish.block(parish.alice.proposes())
    assert parish.proposal(2).number == 2, "numbers are not used again"


def test_a_block_is_due_when_a_vote_ends_though_nobody_sends_anything() -> None:
    parish = Parish()
    parish.block(parish.alice.proposes())
    assert parish.ledger.next_due_moment() == parish.now + HOUR
    assert parish.now > START
