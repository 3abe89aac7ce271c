"""Random days at the market: messages valid, nearly valid and absurd, from one seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, HOUR, MINUTE, Actor, Draft, World

from fondaco.consensus.ledger.application import Execution
from fondaco.protocol.events import LeaseOpened, TransactionApplied
from fondaco.protocol.scalars import INT_MAX, DeploymentId, LeaseId, Millis

NAMES = ("alice", "bob", "carol", "paul", "petra", "piet")

LEASES = 30
"""Leases that messages choose among; older ones are forgotten by the fuzz, not by the ledger."""


class Fuzz:
    """Makes drafts for a world, keeps its blocks, and counts what came of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(
            *NAMES,
            **FREE | {"fee_base": 2, "faucet_credits": 1_000_000, "faucet_stake": 1_000_000, "due_per_block": 5},
        )
        self.world.judged = False
        self.books = Bookkeeper(self.world)
        self.people = self.world.actors(*NAMES)
        self.leases: list[tuple[LeaseId, Actor, Actor]] = [(LeaseId(bytes(32)), self.people[0], self.people[3])]
        self.deployments: list[DeploymentId] = [DeploymentId(bytes(32))]
        self.outcomes: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.messages = 0
        self.drafted: dict[DeploymentId, Actor] = {}
        self.keep(self.world.block(*(one.registers() for one in self.people[3:])))

    def keep(self, execution: Execution) -> None:
        drafted, self.drafted = self.drafted, {}
        for event in execution.events:
            if isinstance(event, LeaseOpened):
                parties = (drafted[event.deployment], self.world.by_key[event.provider])
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
        makers += (self._activate, self._activate, self._withdraw, self._close)
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
        return one.registers(bond=self.random.choice((10**6, 10**6, 2 * 10**6, 5, one.stake, INT_MAX)))

    def _open(self) -> Draft:
        tenant = self.random.choice(self.people[:4])
        offers = [
            (
                self.random.choice(self.people[2:]),
                self.random.choice((0, 7, 3_600, 360_000, 1_000_000, 36_000_000, INT_MAX)),
            )
            for _ in range(self.random.choice((1, 1, 2, 3)))
        ]
        window = {"reclamation_window_ms": Millis(HOUR)} if self.random.random() < 0.2 else {}
        deposit = self._amount(tenant.credits // 20)
        draft = tenant.leases(*offers, deposit=deposit, **window)
        self.drafted[draft.deployment] = tenant
        return draft

    def _lease(self) -> tuple[LeaseId, Actor, Actor]:
        lease, tenant, provider = self.random.choice(self.leases)
        if self.random.random() < 0.1:
            tenant, provider = self._person(), self._person()
        return lease, tenant, provider

    def _deposit(self) -> Draft:
        one = self._person()
        return one.deposits(self.random.choice(self.deployments), self._amount(one.credits))

    def _activate(self) -> Draft:
        lease, tenant, provider = self._lease()
        return provider.activates(lease, receipt_of=tenant)

    def _withdraw(self) -> Draft:
        lease, _, provider = self._lease()
        return provider.withdraws(lease, lease)

    def _close(self) -> Draft:
        lease, tenant, provider = self._lease()
        reason = self.random.choice((0, 9_999, 10_000, 10_000, 20_000, INT_MAX))
        return self.random.choice((tenant, provider)).closes(lease, reason=reason)
