"""A deployment's life: paying as time passes, running dry, resuming, closing, refunding.

Everything that moves a deployment goes the same way: `catch_up` first handles what fell due before this block,
as of the moment it fell due; then the change; then `save`, which finds the next due moment and files it. So
settlement is lazy, and the order of handling never changes what anybody is paid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fondaco.consensus.ledger import accounts, escrow
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.state import State
from fondaco.protocol.events import (
    Event,
    HandoffLapsed,
    LeaseClosed,
    Paid,
    RanDry,
    Refunded,
    Resumed,
)
from fondaco.protocol.records import (
    Deployment,
    DeploymentState,
    Lease,
    LeaseState,
    key_deployment,
    key_due,
    key_lease,
)
from fondaco.protocol.scalars import DeploymentId, LeaseId, MicroCredits, Millis

INSUFFICIENT_FUNDS = 20_000
HANDOFF_TIMEOUT = 20_001
DUE = b"due/"
"""Where the due index starts; `key_due` goes on from here."""


@dataclass(slots=True)
class Working:
    """A deployment and its leases, loaded to be changed within one step."""

    state: State
    params: Params
    events: list[Event]
    deployment: Deployment
    leases: list[Lease]
    stored: dict[LeaseId, Lease]
    """As the state has them: only what differs is written."""

    @property
    def active(self) -> list[Lease]:
        """The leases that accrue: none do while the escrow is dry."""
        if self.deployment.state != DeploymentState.OPEN:
            return []
        return [lease for lease in self.leases if lease.state == LeaseState.ACTIVE]

    def replace_lease(self, lease: Lease) -> None:
        self.leases = [lease if old.id == lease.id else old for old in self.leases]


def load(state: State, deployment: DeploymentId, events: list[Event]) -> Working | None:
    """Bring a deployment and its leases up for a change; None if there is no such deployment."""
    record = state.get(key_deployment(deployment), Deployment)
    if record is None:
        return None
    leases = sorted(
        (state.require(key_lease(lease), Lease) for lease in record.leases), key=lambda lease: lease.id
    )
    return Working(
        state=state,
        params=accounts.params_of(state),
        events=events,
        deployment=record,
        leases=leases,
        stored={lease.id: lease for lease in leases},
    )


def save(work: Working) -> None:
    """Write everything back, and file the deployment under its next due moment."""
    before, state = work.deployment, work.state
    due_at = _next_due(work)
    if before.due_at is not None and before.due_at != due_at:
        state.put(key_due(before.due_at, before.id), None)
    if due_at is not None and before.due_at != due_at:
        state.put(key_due(due_at, before.id), before.id)
    work.deployment = replace(before, due_at=due_at)
    state.put(key_deployment(before.id), work.deployment)
    for lease in work.leases:
        if work.stored.get(lease.id) != lease:
            work.stored[lease.id] = lease
            state.put(key_lease(lease.id), lease)


def _next_due(work: Working) -> Millis | None:
    deployment = work.deployment
    if deployment.state == DeploymentState.CLOSED:
        return None
    moments = [
        Millis(lease.opened_at + work.params.handoff_window_ms)
        for lease in work.leases
        if lease.state == LeaseState.AWAITING
    ]
    if deployment.dry_at is not None:
        moments.append(Millis(deployment.dry_at + work.params.grace_ms))
    if work.active:
        start = max(lease.accrued_to for lease in work.active)
        dry_at = escrow.dry_moment(escrow.funds_of(deployment.deposits), work.active, now=start)
        if dry_at is not None:
            moments.append(dry_at)
    return min(moments, default=None)


def catch_up(work: Working, *, until: Millis) -> None:
    """Handle what fell due at or before `until`, each as of its own moment."""
    while (due_at := work.deployment.due_at) is not None and due_at <= until:
        settle(work, at=due_at)
        for lease in work.leases:
            lapses_at = lease.opened_at + work.params.handoff_window_ms
            if lease.state == LeaseState.AWAITING and lapses_at <= due_at:
                _lapse(work, lease, at=due_at)
        dry_at = work.deployment.dry_at
        if dry_at is not None and dry_at + work.params.grace_ms <= due_at:
            for lease in work.leases:
                close(work, lease, at=due_at, reason=INSUFFICIENT_FUNDS)
        save(work)


def settle(work: Working, *, at: Millis) -> None:
    """Pay each provider what its lease owes at `at`; if that is all there is, the deployment runs dry.

    The last money is shared in proportion to the rates, and what it does not cover is recorded as debt.
    """
    active = work.active
    if not active:
        return
    funds = escrow.funds_of(work.deployment.deposits)
    owing = [escrow.owed(lease, at=at) for lease in active]
    dry = sum(owing) >= funds
    shares = escrow.share(funds, owing, [lease.price_per_hour for lease in active])
    for lease, owes, paid in zip(active, owing, shares, strict=True):
        _pay(work, escrow.accrue(lease, at=at), paid, debt=owes - paid)
    if dry:
        work.deployment = replace(work.deployment, state=DeploymentState.GRACE, dry_at=at)
        work.events.append(RanDry(deployment=work.deployment.id, debt=MicroCredits(sum(owing) - sum(shares))))


def _pay(work: Working, lease: Lease, amount: int, *, debt: int) -> None:
    work.replace_lease(replace(lease, paid=MicroCredits(lease.paid + amount), debt=MicroCredits(debt)))
    if amount == 0:
        return
    work.deployment = replace(work.deployment, deposits=escrow.spend(work.deployment.deposits, amount))
    accounts.change(work.state, lease.provider, credits=amount)
    accounts.shift(work.state, escrow_credits=-amount)
    work.events.append(Paid(lease=lease.id, provider=lease.provider, amount=MicroCredits(amount)))


def resume(work: Working, *, at: Millis) -> None:
    """After a deposit: pay the debts and go on, if the escrow then covers the least runway again."""
    if work.deployment.state != DeploymentState.GRACE:
        return
    waiting = [lease for lease in work.leases if lease.state == LeaseState.ACTIVE]
    debts = sum(lease.debt for lease in waiting)
    rate = sum(lease.price_per_hour for lease in waiting)
    runway = -(-rate * work.params.min_runway_ms // escrow.HOUR_MS)
    if escrow.funds_of(work.deployment.deposits) < debts + runway:
        return
    for lease in waiting:
        _pay(work, replace(lease, accrued_to=at), lease.debt, debt=0)
    work.deployment = replace(work.deployment, state=DeploymentState.OPEN, dry_at=None)
    work.events.append(Resumed(deployment=work.deployment.id))


def close(work: Working, lease: Lease, *, at: Millis, reason: int) -> None:
    """End one lease, paid up to `at` by a settlement before; with the last one the escrow goes back."""
    if lease.state == LeaseState.CLOSED:
        return
    current = next(one for one in work.leases if one.id == lease.id)
    work.replace_lease(
        replace(current, state=LeaseState.CLOSED, closed_at=at, reason=reason, debt=MicroCredits(0))
    )
    work.events.append(LeaseClosed(lease=lease.id, reason=reason, paid=current.paid))
    if all(one.state == LeaseState.CLOSED for one in work.leases):
        _refund(work)


def _refund(work: Working) -> None:
    for deposit in work.deployment.deposits:
        accounts.change(work.state, deposit.depositor, credits=deposit.amount)
        accounts.shift(work.state, escrow_credits=-deposit.amount)
        work.events.append(
            Refunded(deployment=work.deployment.id, depositor=deposit.depositor, amount=deposit.amount)
        )
    work.deployment = replace(work.deployment, state=DeploymentState.CLOSED, deposits=(), dry_at=None)


def _lapse(work: Working, lease: Lease, *, at: Millis) -> None:
    """Nobody took the lease up: a small fee goes to the pool, so that neither side gains by letting it lapse."""
    window_price = lease.price_per_hour * work.params.handoff_window_ms // escrow.HOUR_MS
    fee = min(window_price, work.params.handoff_fee_cap, escrow.funds_of(work.deployment.deposits))
    work.deployment = replace(work.deployment, deposits=escrow.spend(work.deployment.deposits, fee))
    accounts.shift(work.state, escrow_credits=-fee, pool_credits=fee)
    work.events.append(HandoffLapsed(lease=lease.id, fee=MicroCredits(fee)))
    close(work, lease, at=at, reason=HANDOFF_TIMEOUT)


def handle_due(state: State, events: list[Event], *, now: Millis, limit: int) -> None:
    """Handle what fell due by `now`, earliest first, at most `limit` deployments."""
    for key, _ in state.scan_before(DUE, now + 1, limit):
        deployment = DeploymentId(key[len(DUE) + 8 :])
        work = load(state, deployment, events)
        assert work is not None, "the due index names a deployment that is not there"
        catch_up(work, until=now)


def next_due_moment(state: State) -> Millis | None:
    """When the ledger next has something to do by itself; None if nothing is waiting."""
    first = state.scan(DUE, 1)
    return Millis(int.from_bytes(first[0][0][len(DUE) :][:8], "big")) if first else None
