"""Random days at the market: messages valid, nearly valid and absurd, from one seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.support import change_fuzz, trust_fuzz
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, HOUR, MINUTE, Actor, Draft, World

from fondaco.consensus.ledger.application import Execution
from fondaco.consensus.ledger.ballots import governance_of
from fondaco.protocol.events import LeaseOpened, TransactionApplied
from fondaco.protocol.messages import ChangeParameters, Choice, EndAuthority, Grant, ParameterChange, Resolution
from fondaco.protocol.records import Deployment, DeploymentState, key_deployment
from fondaco.protocol.scalars import (
    INT_MAX,
    DeploymentId,
    Hash,
    LeaseId,
    MicroCredits,
    MicroStake,
    Millis,
    TemplateId,
)

NAMES = ("alice", "bob", "carol", "paul", "petra", "piet")

PARAMS = {
    "fee_base": 2,
    "faucet_credits": 1_000_000,
    "faucet_stake": 1_000_000,
    "due_per_block": 5,
    "alive_cover_ms": 30 * MINUTE,
    "closed_kept_ms": HOUR,
}
VOTES = {"voting_ms": 10 * MINUTE, "quorum_basis_points": 1_000, "proposal_deposit": 1_000, "unbonding_ms": MINUTE}
VOTES |= {"evidence_blocks": 1, "evidence_ms": 1_000, "due_per_block": 5}
"""Votes that end, and stake that comes back, within a few blocks."""
CONTENTS = tuple(Hash(bytes((number,)) * 32) for number in range(3))

LEASES = 30
"""Leases that messages choose among; older ones are forgotten by the fuzz, not by the ledger."""


class Fuzz:
    """Makes drafts for a world, keeps its blocks, and counts what came of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(
            *NAMES,
            issuer="alice",
            **FREE | PARAMS | VOTES,
        )
        self.world.judged = False
        self.books = Bookkeeper(self.world)
        self.people = self.world.actors(*NAMES)
        self.leases: list[tuple[LeaseId, Actor, Actor]] = [(LeaseId(bytes(32)), self.people[0], self.people[3])]
        self.deployments: list[DeploymentId] = [DeploymentId(bytes(32))]
        self.outcomes: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.messages = 0
        self.keep(self.world.block(*(one.registers() for one in self.people[3:])))

    def keep(self, execution: Execution) -> None:
        for event in execution.events:
            if isinstance(event, LeaseOpened):
                parties = (self.world.by_key[event.tenant], self.world.by_key[event.provider])
                self.leases = [*self.leases, (event.lease, *parties)][-LEASES:]
                self.deployments = [*self.deployments, event.deployment][-LEASES:]
            self.events[type(event).__name__] += 1
            if isinstance(event, TransactionApplied):
                self.outcomes[event.code] += 1

    def block(self, transactions: int) -> None:
        """One block of random transactions, some of which cannot be included."""
        step = self._step()
        at, self.world.ahead_ms = Millis(self.world.now + step), step
        raws = []
        for _ in range(transactions):
            draft = self.draft()
            self.messages += len(draft.messages)
            raw = self.world.sign(draft, at=at)
            if self.random.random() < 0.02:
                raw = self._damaged(raw)
            raws.append(raw)
        block = self.world.propose(*raws, after_ms=step)
        self.outcomes["left out"] += len(raws) - len(block.transactions)
        self.world.judged = self.random.random() < 0.1
        self.keep(self.world.keep(block))
        del self.world.blocks[:-1]

    def draft(self) -> Draft:
        makers: tuple[Callable[[], Draft], ...]
        makers = (self._pay, self._faucet, self._register, self._open, self._open, self._deposit)
        makers += (self._live, self._reclaim, self._close_all)
        if self.random.random() < 0.2:
            makers += (self._retire,)
        makers += (self._activate, self._activate, self._withdraw, self._close, self._trust)
        makers += (self._stake, self._propose, self._vote, self._publish, self._change, self._grant)
        draft = self.random.choice(makers)()
        while len(draft.messages) < 6 and self.random.random() < 0.3:
            other = self.random.choice(makers)()
            draft = replace(draft, messages=draft.messages + other.messages)
        return replace(draft, tip=self.random.choice((0,) * 9 + (1, 50, INT_MAX)))

    def _step(self) -> int:
        due = self.world.ledger.next_due_moment()
        choices = [1, 500, 500, 1_000, 1_000, 10_000, MINUTE, 5 * MINUTE, HOUR]
        if due is not None and due > self.world.now:
            choices += [due - self.world.now] * 3
        return self.random.choice(choices)

    def _damaged(self, raw: bytes) -> bytes:
        place = self.random.randrange(len(raw))
        return raw[:place] + bytes((raw[place] ^ 1 << self.random.randrange(8),)) + raw[place + 1 :]

    def _amount(self, held: int) -> int:
        absurd = (0, 1, held, held + 1, INT_MAX)
        return self.random.choice(absurd) if self.random.random() < 0.2 else self.random.randrange(1, 20_000)

    def _person(self) -> Actor:
        return self.random.choice(self.people)

    def _pay(self) -> Draft:
        one = self._person()
        return one.pays(self._person(), self._amount(one.credits))

    def _faucet(self) -> Draft:
        return self._person().asks_faucet(self.random.choice((0, 1, 10**6, 10**6 + 1)), self.random.choice((0, 5)))

    def _register(self) -> Draft:
        one = self.random.choice(self.people[2:])
        bond = self.random.choice((10**6, 10**6, 2 * 10**6, 5, one.stake, INT_MAX))
        return one.registers(bond=bond, attributes=trust_fuzz.stated(self.random))

    def _change(self) -> Draft:
        return change_fuzz.change(self.random, self.world, self.random.choice(self.deployments[-5:]), self.people)

    def _grant(self) -> Draft:
        into = self.random.choice(self.deployments[-5:])
        return change_fuzz.grant(self.random, self.people, into, self._amount(1_000))

    def _trust(self) -> Draft:
        return trust_fuzz.word(self.random, self.people)

    def _open(self) -> Draft:
        tenant = self.random.choice(self.people[:4])
        offers = [
            (
                self.random.choice(self.people[2:]),
                self.random.choice((0, 7, 3_600, 360_000, 1_000_000, 36_000_000, INT_MAX)),
            )
            for _ in range(self.random.choice((1, 1, 2, 3)))
        ]
        window: dict[str, Any] = {"reclamation_window_ms": Millis(HOUR)} if self.random.random() < 0.2 else {}
        deposit = self._amount(tenant.credits // 20)
        placement = trust_fuzz.asked(self.random, self.people)
        template = self._template() if self.random.random() < 0.3 else None
        payer = self._person() if self.random.random() < 0.2 else None
        return tenant.leases(
            *offers, deposit=deposit, placement=placement, template=template, payer=payer, **window
        )

    def _stake(self) -> Draft:
        one = self._person()
        amount = self.random.choice((0, 1, 10**6, 3 * 10**6, 5 * 10**6, INT_MAX))
        return one.bonds(amount) if self.random.random() < 0.6 else one.unbonds(amount)

    def _propose(self) -> Draft:
        credits, stake = self.random.choice(((0, 0), (1, 0), (1, 0), (10**12, 0), (0, 1)))
        action = self.random.choice(
            (
                ChangeParameters(
                    changes=(ParameterChange(name="fee_base", value=self.random.choice((1, 2, -5))),)
                ),
                Grant(to=self._person().key, credits=MicroCredits(credits), stake=MicroStake(stake)),
                Resolution(),
                EndAuthority(),
            )
        )
        return self._person().proposes(action, deposit=self.random.choice((0, 1_000, 1_000, INT_MAX)))

    def _vote(self) -> Draft:
        """All but absurd: most agree, on what is open."""
        proposals = governance_of(self.world.ledger.state()).open or (1,)
        choice = self.random.choice((*[Choice.YES] * 5, Choice.NO, Choice.ABSTAIN, Choice.VETO))
        return self._person().says(choice, self.random.choice(proposals))

    def _publish(self) -> Draft:
        one, content = self._person(), self.random.choice(CONTENTS)
        points = self.random.choice((0, 1, 399, 1_000, 2_001, INT_MAX))
        if self.random.random() < 0.5:
            return one.registers_template(points, content=content)
        return one.forks(self._template(), points, content=content)

    def _template(self) -> TemplateId:
        return self._person().template(self.random.choice(CONTENTS))

    def _lease(self) -> tuple[LeaseId, Actor, Actor]:
        lease, tenant, provider = self.random.choice(self.leases)
        if self.random.random() < 0.1:
            tenant, provider = self._person(), self._person()
        return lease, tenant, provider

    def _deposit(self) -> Draft:
        """Half of the time into an escrow that is dry, if one is."""
        one = self._person()
        state = self.world.ledger.state()
        records = (state.get(key_deployment(each), Deployment) for each in self.deployments)
        dry = [record.id for record in records if record and record.state == DeploymentState.GRACE]
        into = self.random.choice(dry if dry and self.random.random() < 0.5 else self.deployments)
        return one.deposits(into, self._amount(one.credits))

    def _activate(self) -> Draft:
        lease, tenant, provider = self._lease()
        return provider.activates(lease, receipt_of=tenant)

    def _withdraw(self) -> Draft:
        lease, _, provider = self._lease()
        return provider.withdraws(lease, lease)

    def _close(self) -> Draft:
        lease, tenant, provider = self._lease()
        reason = self.random.choice((0, 9_999, 10_000, 10_000, 20_000, 20_002, INT_MAX))
        return self.random.choice((tenant, provider, self._person())).closes(lease, reason=reason)

    def _live(self) -> Draft:
        return self.random.choice(self.people[2:]).lives()

    def _reclaim(self) -> Draft:
        lease, tenant, provider = self._lease()
        by = tenant if self.random.random() < 0.1 else provider
        return by.reclaims(lease, reason=self.random.choice((0, 10_000, 10_001)))

    def _retire(self) -> Draft:
        return self.random.choice(self.people[2:]).retires(reclaim=self.random.random() < 0.3)

    def _close_all(self) -> Draft:
        reason = self.random.choice((0, 0, 10_000))
        return self.random.choice(self.people[:4]).closes_all(self.random.choice(self.deployments), reason=reason)
