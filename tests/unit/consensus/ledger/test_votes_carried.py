"""Proposals, votes and templates go along with a chain that goes on; what cannot be is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest
from tests.support import heirs
from tests.support.bookkeeper import Bookkeeper
from tests.support.heirs import Heir
from tests.support.ledger import FREE, HOUR, World

from fondaco.protocol import codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Choice
from fondaco.protocol.records import (
    GOVERNANCE,
    TOTALS,
    Ballot,
    Deployment,
    Governance,
    Proposal,
    ProposalState,
    Royalty,
    Template,
    Totals,
    key_ballot,
    key_deployment,
    key_proposal,
    key_proposal_due,
    key_template,
)
from fondaco.protocol.scalars import Hash, MicroCredits, MicroStake, Millis, ProposalNumber, TemplateId

T = TypeVar("T")
FIRST, SECOND = ProposalNumber(1), ProposalNumber(2)


class Forger(heirs.Forger):
    """One proposal has ended, one is being voted on; a lease pays the authors of a fork."""

    def __init__(self) -> None:
        world = World("alice", "bob", "tess", "paul", **FREE | {"voting_ms": HOUR, "proposal_deposit": 10})
        self.alice, self.bob, self.tess, self.paul = world.actors("alice", "bob", "tess", "paul")
        self.validator = world.validator
        world.block(self.alice.bonds(5_000_000), self.alice.registers_template(100), self.paul.registers())
        world.block(self.alice.proposes(), self.bob.forks(self.alice.template(), 50))
        world.block(after_ms=HOUR)
        self.lease = self.tess.leases((self.paul, 3_600_000), deposit=10_000_000, template=self.bob.template())
        world.block(self.alice.proposes(), self.lease)
        world.block(self.validator.says(Choice.YES, 2), self.alice.says(Choice.NO, 2))
        world.block(self.paul.activates(self.lease.lease, receipt_of=self.tess), self.bob.bonds(5_000_000))
        super().__init__(world)


@pytest.fixture
def forger() -> Forger:
    return Forger()


def test_a_vote_and_a_royalty_go_on_where_they_were(forger: Forger) -> None:
    heir = Heir(forger.world)
    alice, bob, paul, validator = heir.actors("alice", "bob", "paul", forger.validator.name)
    books = Bookkeeper(heir)
    books.made.clear()
    books.made.update(credits=heir.counted.supply.credits, stake=heir.counted.supply.stake)
    books.count()
    assert heir.code(alice.unbonds(1)) == "stake.locked"
    assert heir.code(alice.says(Choice.ABSTAIN, 2)) == ""
    before = alice.credits, bob.credits
    heir.block(paul.withdraws(forger.lease.lease), after_ms=10_000)
    assert (alice.credits, bob.credits) != before
    heir.block(after_ms=HOUR)
    assert heir.proposal(2).state == ProposalState.PASSED
    assert heir.proposal(1).state == ProposalState.NO_QUORUM
    assert heir.code(validator.says(Choice.YES, 2)) == "proposal.over"
    books.count()


def no_index(forger: Forger) -> None:
    del forger.records[key_proposal_due(forger.read(key_proposal(SECOND), Proposal).due_at, SECOND)]


def an_index_too_much(forger: Forger) -> None:
    forger.records[key_proposal_due(Millis(5), SECOND)] = codec.encode(SECOND)


def a_wrong_index(forger: Forger) -> None:
    forger.records[key_proposal_due(Millis(5), SECOND)] = codec.encode(FIRST)


def a_long_index(forger: Forger) -> None:
    forger.records[key_proposal_due(Millis(5), FIRST) + SECOND.to_bytes(8, "big")] = codec.encode(SECOND)


def another_number(forger: Forger) -> None:
    forger.bend(key_proposal(SECOND), Proposal, number=FIRST)


def of_the_future(forger: Forger) -> None:
    forger.bend(key_proposal(SECOND), Proposal, made_at=Millis(forger.genesis.time + 1))


def due_when_it_does_not_end(forger: Forger) -> None:
    forger.bend(key_proposal(SECOND), Proposal, ends_at=Millis(5))


def a_deposit_of_what_has_ended(forger: Forger) -> None:
    forger.bend(key_proposal(FIRST), Proposal, deposit=MicroCredits(1))


def another_tally(forger: Forger) -> None:
    tally = forger.read(key_proposal(SECOND), Proposal).tally
    forger.bend(key_proposal(SECOND), Proposal, tally=replace(tally, no=MicroStake(1)))


def a_ballot_elsewhere(forger: Forger) -> None:
    key = key_ballot(SECOND, forger.alice.key)
    forger.records[key_ballot(SECOND, forger.bob.key)] = forger.records[key]


def a_ballot_less(forger: Forger) -> None:
    del forger.records[key_ballot(SECOND, forger.alice.key)]


def a_ballot_of_tomorrow(forger: Forger) -> None:
    ballot = forger.read(key_ballot(SECOND, forger.alice.key), Ballot)
    later = ProposalNumber(3)
    forger.records[key_ballot(later, ballot.voter)] = codec.encode(replace(ballot, proposal=later))


def a_proposal_too_many(forger: Forger) -> None:
    forger.bend(GOVERNANCE, Governance, open=(FIRST, SECOND))


def fewer_made(forger: Forger) -> None:
    forger.bend(GOVERNANCE, Governance, made=FIRST)


def another_electorate(forger: Forger) -> None:
    forger.bend(GOVERNANCE, Governance, electorate=MicroStake(5))


def no_governance(forger: Forger) -> None:
    del forger.records[GOVERNANCE]


def no_template(forger: Forger) -> None:
    del forger.records[key_template(forger.bob.template())]


def a_deployment_of_nothing(forger: Forger) -> None:
    forger.bend(key_deployment(forger.lease.deployment), Deployment, template=TemplateId(bytes(32)))


def too_high_royalties(forger: Forger) -> None:
    royalties = (Royalty(author=forger.bob.key, basis_points=2_001),)
    forger.bend(key_template(forger.bob.template()), Template, royalties=royalties)


def nobodys_template(forger: Forger) -> None:
    forger.bend(key_template(forger.bob.template()), Template, royalties=())


def another_content(forger: Forger) -> None:
    forger.bend(key_template(forger.bob.template()), Template, content=Hash(bytes(32)))


def another_template(forger: Forger) -> None:
    forger.bend(key_template(forger.bob.template()), Template, id=forger.alice.template())


def garbage(forger: Forger) -> None:
    forger.records[key_proposal(SECOND)] = b"\x00"


LIES: dict[str, tuple[Callable[[Forger], None], str]] = {
    lie.__name__: (lie, words)
    for lie, words in (
        (no_index, "one is missing"),
        (an_index_too_much, "one is missing"),
        (a_wrong_index, "no entry of an index"),
        (a_long_index, "no entry of an index"),
        (another_number, "of another proposal"),
        (of_the_future, "after genesis"),
        (due_when_it_does_not_end, "contradict each other"),
        (a_deposit_of_what_has_ended, "contradict each other"),
        (another_tally, "something else"),
        (a_ballot_elsewhere, "of another voter"),
        (a_ballot_less, "something else"),
        (a_ballot_of_tomorrow, "than it knows of"),
        (a_proposal_too_many, "being voted on"),
        (fewer_made, "than it knows of"),
        (another_electorate, "can be voted with"),
        (no_governance, "there is none"),
        (no_template, "pays its authors"),
        (a_deployment_of_nothing, "pays its authors"),
        (too_high_royalties, "basis points"),
        (nobodys_template, "nobody's work"),
        (another_content, "another template's"),
        (another_template, "another template's"),
        (garbage, ""),
    )
}


@pytest.mark.parametrize("name", LIES)
def test_records_that_cannot_be_are_refused(forger: Forger, name: str) -> None:
    forger.count()
    lie, words = LIES[name]
    lie(forger)
    with pytest.raises(Refused) as caught:
        forger.count()
    assert caught.value.code == "genesis.record"
    assert words in caught.value.message


def test_deposits_are_counted_with_the_escrows(forger: Forger) -> None:
    escrow = forger.read(TOTALS, Totals).escrow_credits
    forger.bend(key_proposal(SECOND), Proposal, deposit=MicroCredits(11))
    with pytest.raises(Refused) as caught:
        forger.count()
    assert caught.value.code == "genesis.supply"
    assert str(escrow) in caught.value.message
