"""What the simulated market does to the real ledger, and ledgers with a bug planted in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from random import Random
from typing import get_args

import pytest

from fondaco.consensus.ledger import accounts, envelope, escrow
from fondaco.consensus.ledger.application import Execution
from fondaco.consensus.ledger.state import State
from fondaco.node.simulation.books import Books
from fondaco.node.simulation.faults import Faults
from fondaco.node.simulation.invariants import Invariants
from fondaco.node.simulation.ledger import entries, root
from fondaco.node.simulation.violation import Violation
from fondaco.node.simulation.world import World
from fondaco.protocol.events import (
    AuthorityEnded,
    Bonded,
    Event,
    Jailed,
    ParameterChanged,
    PowerChanged,
    ProviderSlashed,
    Slashed,
    TransactionApplied,
    Unbonded,
    UnbondingBegan,
    Unjailed,
)
from fondaco.protocol.records import EscrowDeposit, Lease, LeaseState
from fondaco.protocol.scalars import Hash, MicroCredits, Millis, PublicKey
from fondaco.protocol.transactions import Transaction

SEEDS = 6


def a_busy_market(seed: int) -> World:
    """Few faults, many transactions: what the ledger does matters here."""
    return World(seed=seed, faults=Faults(kills_per_minute=3), transaction_every_ms=200)


STAKING = {
    kind.__name__
    for kind in (Bonded, UnbondingBegan, Unbonded, Slashed, Jailed, Unjailed, PowerChanged, ParameterChanged)
}


def run_busy_markets() -> None:
    for seed in range(SEEDS):
        a_busy_market(seed).run(safety_ms=30_000)


def test_everything_that_can_happen_to_a_lease_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """And much of what is refused, in blocks and before: a market in which nothing goes wrong tests nothing."""
    happened, refused = Counter[str](), Counter[str]()
    right = Invariants.executed

    def executed(self: Invariants, execution: Execution, root: Hash) -> None:
        happened.update(type(event).__name__ for event in execution.events)
        refused.update(event.code for event in execution.events if isinstance(event, TransactionApplied))
        right(self, execution, root)

    monkeypatch.setattr(Invariants, "executed", executed)
    run_busy_markets()
    rare = {
        "PoolSpent",
        "RoyaltyPaid",
        "ProviderRetiring",
        "ProviderRetired",
    }  # the fuzz reaches them
    unreached = (
        STAKING | rare | {ProviderSlashed.__name__, AuthorityEnded.__name__}
    )  # by no message, and nobody is named
    assert set(happened) >= {kind.__name__ for kind in get_args(Event)} - unreached
    assert set(refused) >= {"", "lease.state", "lease.closed"}


def test_a_restarted_node_has_what_was_committed_and_nothing_else() -> None:
    world = World(seed=1, transaction_every_ms=200)
    world.advance(5_000)
    node, other = world.nodes[0], world.nodes[1]
    world.kill(node)
    before = entries(node.disk.store)
    world.advance(3_000)
    assert entries(node.disk.store) == before
    node.boot()
    assert node.application.head.height == node.height < other.height
    world.advance(5_000)
    assert node.height > other.height - 2
    world.recount()


def test_blocks_that_the_ledger_refuses_are_never_decided() -> None:
    world = World(seed=11, faults=Faults(ledger_cheats=1))
    world.advance(30_000)
    decided = {block.header.proposer for node in world.honest() for block, _ in node.disk.blocks}
    assert decided == {node.key for node in world.honest()}
    assert any(certificate.round for node in world.honest() for _, certificate in node.disk.blocks)


def test_the_books_notice_a_changed_store() -> None:
    world = World(seed=2, transaction_every_ms=200)
    world.advance(5_000)
    node = max(world.nodes, key=lambda node: node.height)
    store, head, books = entries(node.disk.store), node.disk.blocks[-1][0].header, world.invariants.books
    books.recount(store, root=root(node.disk.store), now=head.time)
    account = next(key for key in store if key.startswith(b"r/account/"))
    for changed in (
        {key: value for key, value in store.items() if key != account},
        {**store, b"r/due/" + bytes(40): bytes(32)},
        {key: value for key, value in store.items() if not key.startswith(b"a/used/")},
        {**store, b"m/" + bytes(5): b"a node nobody needs"},
    ):
        with pytest.raises(Violation):
            books.recount(changed, root=head.state_root, now=head.time)
    with pytest.raises(Violation):
        Books.opened({account: store[account]})


# A simulator that cannot fail shows nothing: bugs, planted by changing a rule from here.


def _pay_by_the_settlement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each settlement rounds down for itself, so that who settles often pays less."""

    def owed(lease: Lease, *, at: Millis) -> MicroCredits:
        active_ms = at - lease.accrued_to if lease.state == LeaseState.ACTIVE else 0
        return MicroCredits(lease.price_per_hour * active_ms // escrow.HOUR_MS)

    monkeypatch.setattr(escrow, "owed", owed)


def _spend_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the deposits of an escrow were a set, with another order in each process."""
    right, order = escrow.spend, Random(1)

    def spend(deposits: Sequence[EscrowDeposit], amount: int) -> tuple[EscrowDeposit, ...]:
        return right(order.sample(deposits, len(deposits)), amount)

    monkeypatch.setattr(escrow, "spend", spend)


def _forget_what_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "has_aux", lambda self, key: False)


def _read_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger whose answer depends on when it is asked."""
    right, calls = escrow.accrue, count()

    def accrue(lease: Lease, clock: escrow.Clock, *, at: Millis) -> Lease:
        return right(lease, clock, at=Millis(at + next(calls) % 2))

    monkeypatch.setattr(escrow, "accrue", accrue)


def _burn_the_tip(monkeypatch: pytest.MonkeyPatch) -> None:
    right = envelope.reward

    def reward(state: State, transaction: Transaction, fee: MicroCredits, proposer: PublicKey) -> None:
        right(state, replace(transaction, tip=MicroCredits(0)), fee, proposer)

    monkeypatch.setattr(envelope, "reward", reward)


def _refund_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """And hide it from the running totals: only who counts the accounts can see it."""
    right = accounts.change

    def change(state: State, owner: PublicKey, *, credits: int = 0, stake: int = 0) -> None:
        right(state, owner, credits=credits, stake=stake)
        if credits == 1_000_000:
            right(state, owner, credits=1)
            accounts.shift(state, account_credits=-1)

    monkeypatch.setattr(accounts, "change", change)


@pytest.mark.parametrize(
    "plant",
    [
        _pay_by_the_settlement,
        _spend_in_any_order,
        _forget_what_was_used,
        _read_the_clock,
        _burn_the_tip,
        _refund_twice,
    ],
)
def test_a_planted_bug_is_caught_within_six_seeds(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plant(monkeypatch)
    with pytest.raises(Violation):
        run_busy_markets()
