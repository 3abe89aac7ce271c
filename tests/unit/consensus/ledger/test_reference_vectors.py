"""The reference vectors of market.md: rates in ucredit an hour, blocks one hour apart, settled in every block."""

from __future__ import annotations

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, HOUR, World

from fondaco.consensus.ledger import escrow
from fondaco.protocol.records import DeploymentState


def run(
    funds: int, rates: list[int], blocks: int, *, settled_every: int = 1
) -> tuple[int, list[int], DeploymentState]:
    """What is left, what each lease was paid, and how the deployment stands."""
    names = [f"provider{place}" for place in range(len(rates))]
    world = World("alice", *names, **FREE)
    alice, *providers = world.actors("alice", *names)
    world.block(*(provider.registers() for provider in providers))
    draft = alice.leases(*zip(providers, rates, strict=True), deposit=funds)
    world.block(draft)
    pairs = list(zip(draft.leases, providers, strict=True))
    world.block(*(provider.activates(lease, receipt_of=alice) for lease, provider in pairs))
    books = Bookkeeper(world)
    for _ in range(blocks // settled_every):
        world.block(*(one.withdraws(lease) for lease, one in pairs), after_ms=HOUR * settled_every)
        books.count()
    paid: list[int] = [world.lease(lease).paid for lease in draft.leases]
    return world.funds(draft.deployment), paid, world.deployment(draft.deployment).state


OPEN, GRACE, CLOSED = DeploymentState.OPEN, DeploymentState.GRACE, DeploymentState.CLOSED


@pytest.mark.parametrize(
    ("funds", "rates", "blocks", "left", "paid", "state"),
    [
        (100, [1, 2], 5, 85, [5, 10], OPEN),
        (100, [10, 10], 5, 0, [50, 50], GRACE),
        (200, [10, 10], 5, 100, [50, 50], OPEN),
        (200, [10, 10], 10, 0, [100, 100], GRACE),
        (1_000, [30], 10, 700, [300], OPEN),
        (100, [10, 10], 6, 0, [50, 50], CLOSED),
        (90, [10, 10], 6, 0, [45, 45], CLOSED),
        (1_000, [10], 101, 0, [1_000], CLOSED),
    ],
)
def test_what_is_left_and_paid(
    funds: int, rates: list[int], blocks: int, left: int, paid: list[int], state: DeploymentState
) -> None:
    assert run(funds, rates, blocks) == (left, paid, state)
    assert run(funds, rates, blocks, settled_every=blocks) == (left, paid, state), "settled once it is the same"


@pytest.mark.parametrize(
    ("funds", "weights", "shares"),
    [
        (10_000_000, [20, 30], [4_000_000, 6_000_000]),
        (10_000_000, [45, 55], [4_500_000, 5_500_000]),
        (90, [10, 10], [45, 45]),
        (10, [1, 1, 1], [4, 3, 3]),
        (11, [1, 1, 1], [4, 4, 3]),
        (1, [1, 2], [0, 1]),
        (0, [1, 2], [0, 0]),
    ],
)
def test_the_last_money_is_shared_in_proportion(funds: int, weights: list[int], shares: list[int]) -> None:
    assert escrow.share(funds, [10**12] * len(weights), weights) == shares


def test_nobody_gets_more_than_it_is_owed_and_the_rest_goes_to_the_others() -> None:
    assert escrow.share(10, [1, 20], [9, 1]) == [1, 9]
    assert escrow.share(10, [20, 1], [1, 9]) == [9, 1]
    assert escrow.share(10, [4, 5], [1, 1]) == [4, 5]


def test_of_several_deposits_the_earliest_money_is_used_first() -> None:
    """Four deposits of 500,000: the owner's two in one place, a friend's by its grant, a stranger's; one block."""
    world = World("owner", "friend", "stranger", "paul", **FREE)
    owner, friend, stranger, paul = world.actors("owner", "friend", "stranger", "paul")
    draft = owner.leases((paul, 500_000), deposit=500_000)
    world.block(paul.registers())
    world.block(draft)
    world.block(friend.grants(owner, 500_000, for_ms=HOUR))
    world.block(
        owner.deposits(draft.deployment, 500_000),
        owner.deposits(draft.deployment, 500_000, payer=friend),
        stranger.deposits(draft.deployment, 500_000),
    )
    world.block(paul.activates(draft.lease, receipt_of=owner))
    world.block(paul.withdraws(draft.lease), after_ms=HOUR)
    deposits = world.deployment(draft.deployment).deposits
    assert [(world.by_key[one.depositor].name, one.amount) for one in deposits] == [
        ("owner", 500_000),
        ("friend", 500_000),
        ("stranger", 500_000),
    ]
    assert world.funds(draft.deployment) == 1_500_000
    Bookkeeper(world).count()
