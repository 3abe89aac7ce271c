"""A ledger where stake decides: four voters, and people who propose."""

from __future__ import annotations

from typing import Any

from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, HOUR, Actor, World, of_kind

from fondaco.protocol.events import ProposalEnded
from fondaco.protocol.messages import Choice
from fondaco.protocol.records import TOTALS, Ballot, Totals, key_ballot
from fondaco.protocol.scalars import ProposalNumber

YES, NO, ABSTAIN, VETO = Choice.YES, Choice.NO, Choice.ABSTAIN, Choice.VETO
FOUR = {"ann": 10, "ben": 20, "cat": 30, "dan": 40}
MILLION = 1_000_000
RULES: dict[str, Any] = FREE | {"voting_ms": HOUR, "proposal_deposit": 10, "unbonding_ms": HOUR}


class Parish(World):
    """Four voters with 10, 20, 30 and 40 percent, and people without stake bonded."""

    def __init__(self, *names: str, **params: Any) -> None:
        super().__init__("alice", "bob", *names, validators=FOUR, **(RULES | params))
        self.alice, self.bob = self.actors("alice", "bob")
        self.ann, self.ben, self.cat, self.dan = self.voters = self.actors(*FOUR)
        self.books = Bookkeeper(self)

    def run(self, *votes: tuple[Actor, Choice], proposal: int = 1) -> ProposalEnded:
        """Have these voted, wait until the end, and say what came of it."""
        self.block(*(voter.says(choice, proposal) for voter, choice in votes))
        self.books.count()
        execution = self.block(after_ms=HOUR)
        self.books.count()
        (ended,) = of_kind(execution.events, ProposalEnded)
        assert isinstance(ended, ProposalEnded)
        return ended


def pool(world: World) -> Totals:
    return world.ledger.state().require(TOTALS, Totals)


def ballot(world: World, voter: Actor, proposal: int = 1) -> Ballot | None:
    return world.ledger.state().get(key_ballot(ProposalNumber(proposal), voter.key), Ballot)
