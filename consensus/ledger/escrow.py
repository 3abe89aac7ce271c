"""What leases owe, when an escrow runs dry, and how the last money is shared. Pure arithmetic.

Accrual is cumulative: a lease owes `price * active_ms // 3_600_000 - paid`, so that settling often pays what
settling once pays. Time is told by the provider's clock, which stands while the provider is silent (`alive`): a
`Clock` gives what it shows at a moment. An escrow is dry from the first millisecond in which its leases owe all it
holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fondaco.protocol import limits
from fondaco.protocol.records import EscrowDeposit, Lease
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey

HOUR_MS = 3_600_000
Clock = Callable[[PublicKey, Millis], Millis]
"""What the clock of a provider shows at a moment, in ms; never less for a later one."""


def owed(lease: Lease, clock: Clock, *, at: Millis) -> MicroCredits:
    """Ucredit that an active lease has served until `at` and was not yet paid."""
    active_ms = lease.active_ms + clock(lease.provider, at) - lease.reading
    return MicroCredits(lease.price_per_hour * active_ms // HOUR_MS - lease.paid)


def accrue(lease: Lease, clock: Clock, *, at: Millis) -> Lease:
    """An active lease with its time counted until `at`."""
    shown = clock(lease.provider, at)
    active_ms = Millis(lease.active_ms + shown - lease.reading)
    return replace(lease, active_ms=active_ms, accrued_to=at, reading=shown)


def dry_moment(
    funds: MicroCredits,
    active: Sequence[Lease],
    clock: Clock,
    *,
    now: Millis,
    until: Millis = Millis(limits.BLOCK_TIME_MS),  # noqa: B008 - a NewType is its integer
) -> Millis | None:
    """The first moment from `now` to `until` at which the active leases owe all of `funds`; None if there is none.

    Owing grows with time, so it is found by bisection: O(log time) for any number of leases.
    """

    def dry(at: int) -> bool:
        return sum(owed(lease, clock, at=Millis(at)) for lease in active) >= funds

    rate = sum(lease.price_per_hour for lease in active)
    if rate == 0 or not dry(until):
        return None
    low, high = int(now), min(now + (funds + len(active)) * HOUR_MS // rate + 1, int(until))
    if not dry(high):  # some clock stood still on the way
        high = int(until)
    while low < high:
        middle = (low + high) // 2
        if dry(middle):
            high = middle
        else:
            low = middle + 1
    return Millis(low)


def share(funds: int, owing: Sequence[int], weights: Sequence[int]) -> list[int]:
    """Divide `funds` among claims in proportion to `weights`, nobody getting more than it is owed.

    Units left by rounding go by largest remainder, then to the earlier claim (callers sort by lease id).
    """
    if sum(owing) <= funds:
        return list(owing)
    total = sum(weights)
    shares = [funds * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(funds * weights[i] % total), i))
    for index in by_remainder[: funds - sum(shares)]:
        shares[index] += 1
    surplus = sum(max(0, got - owes) for got, owes in zip(shares, owing, strict=True))
    shares = [min(got, owes) for got, owes in zip(shares, owing, strict=True)]
    for index, owes in enumerate(owing):
        extra = min(surplus, owes - shares[index])
        shares[index] += extra
        surplus -= extra
    return shares


def funds_of(deposits: Sequence[EscrowDeposit]) -> MicroCredits:
    return MicroCredits(sum(deposit.amount for deposit in deposits))


def spend(deposits: Sequence[EscrowDeposit], amount: int) -> tuple[EscrowDeposit, ...]:
    """Take `amount` from the earliest deposits; exhausted ones go."""
    assert amount <= funds_of(deposits), "an escrow paid more than it holds"
    left = []
    for deposit in deposits:
        taken = min(amount, deposit.amount)
        amount -= taken
        if deposit.amount > taken:
            left.append(replace(deposit, amount=MicroCredits(deposit.amount - taken)))
    return tuple(left)


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose money a deposit is, and by whose grant it was paid if not by its owner."""

    depositor: PublicKey
    grantee: PublicKey | None = None


def add(deposits: Sequence[EscrowDeposit], payer: Payer, amount: MicroCredits) -> tuple[EscrowDeposit, ...]:
    """Put money in; a payer's money is kept in one place, where it first stood."""
    new = EscrowDeposit(depositor=payer.depositor, amount=amount, grantee=payer.grantee)
    for place, old in enumerate(deposits):
        if (old.depositor, old.grantee) == (new.depositor, new.grantee):
            merged = replace(old, amount=MicroCredits(old.amount + amount))
            return (*deposits[:place], merged, *deposits[place + 1 :])
    return (*deposits, new)
