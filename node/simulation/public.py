"""What people on a simulated chain do together: publish services, propose and vote.

It has a seed of its own, so that what the market does by itself stays what it was.
"""

from __future__ import annotations

from random import Random

from fondaco.consensus.ledger.application import Ledger
from fondaco.consensus.ledger.ballots import governance_of
from fondaco.consensus.ledger.params import CREDIT
from fondaco.protocol.messages import (
    Action,
    CastVote,
    ChangeParameters,
    Choice,
    ForkTemplate,
    Grant,
    Message,
    ParameterChange,
    Propose,
    RegisterTemplate,
    Resolution,
)
from fondaco.protocol.records import Template, key_template, template_id
from fondaco.protocol.scalars import MicroCredits, MicroStake, ProposalNumber, PublicKey, TemplateId
from fondaco.protocol.signing import sha256

CONTENTS = tuple(sha256(bytes((number,))) for number in range(6))


class Public:
    """Messages, and who sends them."""

    def __init__(self, seed: int, tenants: list[PublicKey]) -> None:
        self.random = Random(f"public {seed}")
        self._tenants = tenants

    def next(self, view: Ledger) -> tuple[PublicKey, tuple[Message, ...]] | None:
        """Something of the kind, in one transaction of eight; else None: the market goes on."""
        if self.random.random() >= 0.12:
            return None
        act = self.random.choices((self._propose, self._vote, self._publish), weights=(3, 8, 2))[0]
        return act(view)

    def template(self, view: Ledger) -> TemplateId | None:
        """For an order: mostly none, sometimes one that exists, now and then one that does not."""
        chance = self.random.random()
        if chance > 0.99:
            return TemplateId(bytes(32))
        known = [one for one in self._templates() if view.state().get(key_template(one), Template) is not None]
        return self.random.choice(known) if known and chance > 0.5 else None

    def _templates(self) -> list[TemplateId]:
        return [template_id(author, content) for author in self._tenants for content in CONTENTS]

    def _propose(self, view: Ledger) -> tuple[PublicKey, tuple[Message, ...]]:
        random = self.random
        amount = MicroCredits(random.choice((1, 1, 10_000 * CREDIT)))
        change = ParameterChange(name="fee_base", value=random.choice((49, 50, 51)))
        action: Action = random.choice(
            (
                Resolution(),
                ChangeParameters(changes=(change,)),
                ChangeParameters(changes=(ParameterChange(name="nonsense", value=1),)),
                Grant(to=random.choice(self._tenants), credits=amount, stake=MicroStake(0)),
                Grant(to=random.choice(self._tenants), credits=amount, stake=MicroStake(0)),
            )
        )
        deposit = MicroCredits(random.choice((0, view.params.proposal_deposit, view.params.proposal_deposit)))
        message = Propose(title="a proposal", text="for the good of all", action=action, deposit=deposit)
        return random.choice(self._tenants), (message,)

    def _vote(self, view: Ledger) -> tuple[PublicKey, tuple[Message, ...]]:
        """Validators mostly agree; who has nothing bonded, or nothing to vote on, is refused."""
        random, state = self.random, view.state()
        voters = [member.public_key for member in view.validators.members]
        proposals = governance_of(state).open or (ProposalNumber(1),)
        choices = (Choice.YES, Choice.YES, Choice.YES, Choice.NO, Choice.ABSTAIN, Choice.VETO)
        voter = random.choice(voters if random.random() < 0.9 else self._tenants)
        return voter, (CastVote(proposal=random.choice(proposals), choice=random.choice(choices)),)

    def _publish(self, view: Ledger) -> tuple[PublicKey, tuple[Message, ...]]:
        random = self.random
        author, content = random.choice(self._tenants), random.choice(CONTENTS)
        points = random.choice((0, 1, 333, 500, 1_000, 2_001))
        if random.random() < 0.5:
            return author, (RegisterTemplate(content=content, title="a service", royalty_basis_points=points),)
        parent = random.choice(self._templates())
        return author, (ForkTemplate(parent=parent, content=content, title="a fork", royalty_basis_points=points),)
