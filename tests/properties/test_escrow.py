"""The arithmetic of an escrow, for any rates and any money."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, HOUR, START, World

from fondaco.consensus.ledger import escrow
from fondaco.protocol import limits
from fondaco.protocol.records import DeploymentState, EscrowDeposit, Lease, LeaseState
from fondaco.protocol.scalars import (
    DeploymentId,
    GroupIndex,
    Hash,
    LeaseId,
    MicroCredits,
    Millis,
    PublicKey,
)

prices = st.integers(1, 10**9) | st.integers(1, 2**63 - 1)
money = st.integers(0, 10**7) | st.integers(0, limits.SUPPLY)
claims = st.lists(st.tuples(st.integers(0, 10**6) | money, prices), min_size=1, max_size=6)


def lease(price: int, *, active_ms: int = 0, accrued_to: int = START) -> Lease:
    return Lease(
        id=LeaseId(bytes(32)),
        deployment=DeploymentId(bytes(32)),
        group=GroupIndex(0),
        tenant=PublicKey(bytes(32)),
        provider=PublicKey(bytes(32)),
        price_per_hour=MicroCredits(price),
        units=(),
        commitment=Hash(bytes(32)),
        version=1,
        reclamation_window_ms=Millis(0),
        state=LeaseState.ACTIVE,
        opened_at=START,
        activated_at=START,
        active_ms=Millis(active_ms),
        accrued_to=Millis(accrued_to),
        reading=Millis(accrued_to),
        paid=MicroCredits(price * active_ms // escrow.HOUR_MS),
        debt=MicroCredits(0),
        reclamation=None,
        closed_at=None,
        reason=None,
    )


def wall(_provider: PublicKey, at: Millis) -> Millis:
    """The clock of a provider that is always there."""
    return at


@given(funds=money, claims=claims)
def test_sharing_gives_all_there_is_and_nobody_more_than_it_is_owed(
    funds: int, claims: list[tuple[int, int]]
) -> None:
    owing, weights = [owes for owes, _ in claims], [weight for _, weight in claims]
    shares = escrow.share(funds, owing, weights)
    assert sum(shares) == min(funds, sum(owing))
    assert all(0 <= got <= owes for got, owes in zip(shares, owing, strict=True))


@given(funds=money, weights=st.lists(prices, min_size=1, max_size=6))
def test_shares_are_within_one_unit_of_the_proportion(funds: int, weights: list[int]) -> None:
    shares = escrow.share(funds, [limits.SUPPLY + 1] * len(weights), weights)
    assert all(
        abs(got * sum(weights) - funds * weight) < sum(weights)
        for got, weight in zip(shares, weights, strict=True)
    )


@given(
    funds=money,
    leases=st.lists(st.tuples(prices, st.integers(0, 10 * HOUR)), max_size=5),
)
@example(funds=limits.SUPPLY, leases=[(1, 0)])
@example(funds=0, leases=[(1, 0)])
def test_the_dry_moment_is_the_first_at_which_everything_is_owed(
    funds: int, leases: list[tuple[int, int]]
) -> None:
    active = [lease(price, active_ms=active_ms) for price, active_ms in leases]
    moment = escrow.dry_moment(MicroCredits(funds), active, wall, now=START)

    def owing(at: int) -> int:
        return sum(escrow.owed(one, wall, at=Millis(at)) for one in active)

    if moment is None:
        assert not active or owing(limits.BLOCK_TIME_MS) < funds
        return
    assert START <= moment <= limits.BLOCK_TIME_MS
    assert owing(moment) >= funds
    assert moment == START or owing(moment - 1) < funds


@given(price=prices, cuts=st.lists(st.integers(0, 100 * HOUR), min_size=1, max_size=20))
def test_cutting_time_up_never_changes_what_is_owed(price: int, cuts: list[int]) -> None:
    one = lease(price)
    paid = 0
    for cut in sorted(cuts):
        at = Millis(START + cut)
        owes = escrow.owed(one, wall, at=at)
        assert owes >= 0
        paid += owes
        accrued = escrow.accrue(one, wall, at=at)
        one = replace(accrued, paid=MicroCredits(accrued.paid + owes))
    assert paid == price * max(cuts) // escrow.HOUR_MS


@given(
    deposits=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 100)), max_size=10),
    spent=st.integers(0, 1_000),
)
def test_spending_takes_from_the_earliest_and_keeps_the_sum(
    deposits: list[tuple[int, int, int]], spent: int
) -> None:
    held: tuple[EscrowDeposit, ...] = ()
    for owner, by, amount in deposits:
        grantee = PublicKey(bytes((9 + by,)) * 32) if by else None
        payer = escrow.Payer(PublicKey(bytes((owner,)) * 32), grantee)
        held = escrow.add(held, payer, MicroCredits(amount))
    assert len({(deposit.depositor, deposit.grantee) for deposit in held}) == len(held)
    total = escrow.funds_of(held)
    assert total == sum(amount for *_, amount in deposits)
    spent = min(spent, total)
    left = escrow.spend(held, spent)
    assert escrow.funds_of(left) == total - spent
    assert left[1:] == held[len(held) - len(left) + 1 :], "only the first of those left may have paid a part"


@settings(max_examples=30, deadline=None)
@example(rates=[3_352_000, 49_984_000], deposit=20_000, stops=[1_350], end=1)
@given(
    rates=st.lists(st.integers(1, 50_000_000), min_size=1, max_size=3),
    deposit=st.integers(20_000, 200_000),
    stops=st.lists(st.integers(1, 2 * HOUR), max_size=8),
    end=st.integers(1, 3 * HOUR),
)
def test_settling_often_pays_what_settling_once_pays(
    rates: list[int], deposit: int, stops: list[int], end: int
) -> None:
    """On whole ledgers: blocks at any times, withdrawing in each, against one block at the end.

    Where the escrow runs dry the last funds are shared by rates, and what was paid out before is not shared
    again: the odd ucredit may then fall to another lease, and none is lost.
    """
    often, once = story(rates, deposit, sorted({*stops, end})), story(rates, deposit, [max([*stops, end])])
    assert often[2:] == once[2:]
    if often[2] == DeploymentState.OPEN:
        assert often == once
    for here, there in zip(often[:2], once[:2], strict=True):
        assert sum(here) == sum(there)
        assert all(abs(one - other) <= 1 for one, other in zip(here, there, strict=True))


def story(rates: list[int], deposit: int, stops: list[int]) -> tuple[list[int], list[int], DeploymentState, int]:
    names = [f"provider{place}" for place in range(len(rates))]
    world = World("alice", *names, **FREE | {"grace_ms": HOUR})
    world.judged = False
    alice, *providers = world.actors("alice", *names)
    world.block(*(one.registers() for one in providers))
    draft = alice.leases(*zip(providers, rates, strict=True), deposit=deposit)
    world.block(draft)
    pairs = list(zip(draft.leases, providers, strict=True))
    world.block(*(one.activates(lease, receipt_of=alice) for lease, one in pairs))
    start = world.now
    for stop in stops:
        world.block(*(one.withdraws(lease) for lease, one in pairs), after_ms=start + stop - world.now)
    Bookkeeper(world).count()
    leases = [world.lease(lease) for lease in draft.leases]
    paid, debts = [one.paid for one in leases], [one.debt for one in leases]
    return list(paid), list(debts), world.deployment(draft.deployment).state, alice.credits
