"""Proposals, votes and templates, as proven records tell them, and making them.

The ledger's rules are in `consensus.ledger.governance` and `templates`; here they are only told.
"""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.wallet import Wallet
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Action, CastVote, Choice, ForkTemplate, Propose, RegisterTemplate
from fondaco.protocol.records import (
    GOVERNANCE,
    Ballot,
    Governance,
    Proposal,
    Template,
    key_ballot,
    key_proposal,
    key_template,
    template_id,
)
from fondaco.protocol.scalars import MicroCredits, ProposalNumber, PublicKey, TemplateId

FEES = 20_000
"""Ucredit that one of these messages surely costs no more than."""
LISTED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Voted:
    """A proposal, and what one voter has said on it."""

    proposal: Proposal
    ballot: Ballot | None


async def proposals(light: LightClient) -> list[Proposal]:
    """Those the ledger still keeps, the newest first, each proven."""
    governance = await light.record(GOVERNANCE, Governance)
    if governance is None:
        raise Refused("chain.no_governance", "this chain has no proposals")
    numbers = range(governance.made, max(0, governance.made - LISTED), -1)
    found = [await light.record(key_proposal(ProposalNumber(number)), Proposal) for number in numbers]
    return [one for one in found if one is not None]


async def proposal(light: LightClient, number: int, *, voter: PublicKey | None = None, at_least: int = 0) -> Voted:
    """One proposal, proven. Raises `Refused` `proposal.unknown`."""
    which = ProposalNumber(number)
    found = await light.record(key_proposal(which), Proposal, at_least=at_least)
    if found is None:
        raise Refused("proposal.unknown", f"the ledger holds no proposal {number}; old ones are forgotten")
    ballot = None
    if voter is not None:
        ballot = await light.record(key_ballot(which, voter), Ballot, at_least=at_least)
    return Voted(proposal=found, ballot=ballot)


async def propose(wallet: Wallet, action: Action, *, title: str, text: str, deposit: int | None) -> Proposal:
    """Put something to the vote, with the least deposit unless told; the proposal, proven.

    Raises `Refused` `proposal.*`, `params.*` or `wallet.funds`.
    """
    params = await wallet.params()
    held = MicroCredits(params.proposal_deposit if deposit is None else deposit)
    await wallet.ensure(held + FEES)
    height = await wallet.transact(Propose(title=title, text=text, action=action, deposit=held))
    governance = await wallet.light.record(GOVERNANCE, Governance, at_least=height)
    made = 0 if governance is None else governance.made
    for number in range(made, max(0, made - LISTED), -1):
        found = await wallet.light.record(key_proposal(ProposalNumber(number)), Proposal, at_least=height)
        if found is not None and (found.proposer, found.title) == (wallet.signer.public_key, title):
            return found
    raise Refused("proposal.unproven", "a node says that the proposal was made, and the ledger does not hold it")


async def vote(wallet: Wallet, number: int, choice: Choice) -> Voted:
    """Vote; how the proposal stands then, proven. Raises `Refused` `proposal.*` or `vote.*`."""
    await wallet.ensure(FEES)
    height = await wallet.transact(CastVote(proposal=ProposalNumber(number), choice=choice))
    return await proposal(wallet.light, number, voter=wallet.signer.public_key, at_least=height)


async def template(light: LightClient, identity: TemplateId, *, at_least: int = 0) -> Template:
    """A template, proven. Raises `Refused` `template.unknown`."""
    found = await light.record(key_template(identity), Template, at_least=at_least)
    if found is None:
        raise Refused("template.unknown", f"the ledger holds no template {identity.hex()}")
    return found


async def publish(wallet: Wallet, message: RegisterTemplate | ForkTemplate) -> Template:
    """Register or fork; the template, proven. Raises `Refused` `template.*`."""
    await wallet.ensure(FEES)
    height = await wallet.transact(message)
    return await template(wallet.light, template_id(wallet.signer.public_key, message.content), at_least=height)
