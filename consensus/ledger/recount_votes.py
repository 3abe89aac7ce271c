"""Judging what of governance, and of templates, a chain is to begin with; a part of `recount`."""

from __future__ import annotations

from collections import Counter

from fondaco.consensus.ledger.ballots import voting_stake
from fondaco.consensus.ledger.governance import EMPTY, counted
from fondaco.consensus.ledger.judging import wrong
from fondaco.protocol import codec, limits
from fondaco.protocol.records import (
    GOVERNANCE,
    Ballot,
    Deployment,
    Governance,
    Proposal,
    ProposalState,
    Stake,
    Tally,
    Template,
    key_ballot,
    key_proposal,
    key_proposal_due,
    key_template,
    template_id,
)
from fondaco.protocol.scalars import Millis, ProposalNumber, TemplateId


class VotesRecount:
    """Takes records one by one, as `recount` does; of each, what another must agree with is kept."""

    def __init__(self, genesis_time: Millis) -> None:
        self._time = genesis_time
        self._tallies: dict[ProposalNumber, Tally] = {}
        """Of ballots."""
        self._proposals: dict[ProposalNumber, Tally | None] = {}
        """What proposals say of their ballots; None for those that have ended."""
        self._due: Counter[bytes] = Counter()
        """Keys that a proposal names, less those that stand in the index."""
        self._electorate = 0
        self._templates: set[TemplateId] = set()
        self._named: set[TemplateId] = set()

    def take(self, key: bytes, kind: bytes, value: bytes) -> None:
        """A record of `kind`, one of `KINDS`. Raises `Refused` `genesis.record` or `Malformed`."""
        match kind:
            case b"proposal/":
                self._proposal(key, codec.decode(value, Proposal))
            case b"proposal-due/":
                number = codec.decode(value, ProposalNumber)
                if len(key) != len(key_proposal_due(Millis(0), number)) or not key.endswith(
                    number.to_bytes(8, "big")
                ):
                    wrong(key, "this is no entry of an index")
                self._due[key] -= 1
            case b"ballot/":
                self._ballot(key, codec.decode(value, Ballot))
            case _:
                self._template(key, codec.decode(value, Template))

    def stake(self, stake: Stake) -> None:
        self._electorate += voting_stake(stake)

    def deployment(self, deployment: Deployment) -> None:
        if deployment.template is not None:
            self._named.add(deployment.template)

    def deposit_of(self, value: bytes) -> int:
        """Ucredit held for a proposal."""
        return codec.decode(value, Proposal).deposit

    def _proposal(self, key: bytes, proposal: Proposal) -> None:
        number, voting = proposal.number, proposal.state == ProposalState.VOTING
        if key != key_proposal(number):
            wrong(key, "it is of another proposal")
        if proposal.made_at > self._time:
            wrong(key, "it was made after genesis")
        if (proposal.due_at != proposal.ends_at) if voting else proposal.deposit:
            wrong(key, "its state, its time and its deposit contradict each other")
        self._proposals[number] = proposal.tally if voting else None
        self._due[key_proposal_due(proposal.due_at, number)] += 1

    def _ballot(self, key: bytes, ballot: Ballot) -> None:
        if key != key_ballot(ballot.proposal, ballot.voter):
            wrong(key, "it is of another voter, or on another proposal")
        if ballot.choice is not None:
            tally = self._tallies.get(ballot.proposal, EMPTY)
            self._tallies[ballot.proposal] = counted(tally, ballot.choice, ballot.weight)

    def _template(self, key: bytes, template: Template) -> None:
        if not 1 <= len(template.royalties) <= limits.TEMPLATE_FORKS + 1:
            wrong(key, "it is made of too many others, or of nobody's work")
        if template.basis_points > limits.ROYALTY_BASIS_POINTS:
            wrong(key, f"its authors get more than {limits.ROYALTY_BASIS_POINTS} basis points")
        if key != key_template(template_id(template.author, template.content)) or key != key_template(template.id):
            wrong(key, "it is another template's")
        self._templates.add(template.id)

    def close(self, governance: Governance) -> None:
        """Hold what was counted to what the ledger keeps of all proposals together."""
        open_now = tuple(sorted(number for number, tally in self._proposals.items() if tally is not None))
        if governance.open != open_now or len(open_now) > limits.PROPOSALS_OPEN:
            wrong(GOVERNANCE, "it names others than those that are being voted on")
        if max((0, *self._proposals, *self._tallies)) > governance.made:
            wrong(GOVERNANCE, "there are newer proposals, or ballots, than it knows of")
        if governance.electorate != self._electorate:
            wrong(GOVERNANCE, f"{self._electorate} ustake can be voted with, it says {governance.electorate}")
        for number in open_now:
            if self._proposals[number] != self._tallies.get(number, EMPTY):
                wrong(key_proposal(number), "its ballots come to something else")
        lone = sorted(key for key, count in self._due.items() if count)
        if lone:
            wrong(lone[0], "of the proposal and its entry in the index, one is missing")
        if not self._named <= self._templates:
            wrong(
                key_template(min(self._named - self._templates)),
                "there is none, and a deployment pays its authors",
            )


KINDS = (b"proposal/", b"proposal-due/", b"ballot/", b"template/")
