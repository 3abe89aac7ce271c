"""A deployment's life: paying as time passes, running dry, resuming, closing, refunding.

Everything that moves a deployment goes the same way: `catch_up` first handles what fell due before this block,
as of the moment it fell due; then the change; then `save`, which finds the next due moment and files it. So
settlement is lazy, and the order of handling never changes what anybody is paid.

When an escrow runs dry depends on signs of life that are still to come. So it is filed under the earliest moment
at which that can be: as if providers that are there stayed, and looked at again after one cover time at the latest
where one is silent. What `catch_up` then finds, with every sign of life known, is the exact moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fondaco.consensus.ledger import accounts, alive, closed, due, escrow, grants, royalties
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.state import State
from fondaco.protocol import reasons
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
    SignsOfLife,
    key_deployment,
    key_due,
    key_lease,
    key_live,
)
from fondaco.protocol.scalars import DeploymentId, LeaseId, MicroCredits, Millis, PublicKey


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
    signs: dict[PublicKey, SignsOfLife] = field(default_factory=dict)
    """Of the providers, as far as they were asked for."""

    def signs_of(self, provider: PublicKey) -> SignsOfLife:
        found = self.signs.get(provider)
        if found is None:
            found = self.signs[provider] = alive.signs_of(self.state, provider)
        return found

    def clock(self, provider: PublicKey, at: Millis) -> Millis:
        """What a provider's clock shows, by the signs of life known now."""
        return alive.reading(self.signs_of(provider), at)

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
        known = work.stored.get(lease.id)
        if known != lease:
            work.stored[lease.id] = lease
            state.put(key_lease(lease.id), lease)
            _file_live(state, known, lease)
    if before.state == DeploymentState.CLOSED:
        closed.file(state, before.id, work.leases)


def _file_live(state: State, before: Lease | None, lease: Lease) -> None:
    """Keep the index of what each provider serves."""
    old, new = (None if one is None else _live_key(one) for one in (before, lease))
    if old is not None and old != new:
        state.put(old, None)
    if new is not None and old != new:
        state.put(new, lease.id)


def _live_key(lease: Lease) -> bytes | None:
    if lease.state == LeaseState.CLOSED:
        return None
    return key_live(lease.provider, lease.id, announced=lease.reclamation is not None)


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
    moments += [one.reclamation.at for one in work.leases if one.reclamation and one.state != LeaseState.CLOSED]
    start = max((lease.accrued_to for lease in work.active), default=Millis(0))
    moments += _may_be_dry(work, start)
    # Where parameters have shortened a window it may be over already: that happens at the next moment that is not
    # paid for yet, for nothing is paid backwards.
    return max(start, min(moments)) if moments else None


def _may_be_dry(work: Working, start: Millis) -> list[Millis]:
    """When to see whether the escrow is dry, as the module says; empty if it never can be."""
    here = [lease for lease in work.active if work.signs_of(lease.provider).covered_to > start]

    def running(provider: PublicKey, at: Millis) -> Millis:
        return Millis(work.clock(provider, start) + at - start)

    dry_at = escrow.dry_moment(escrow.funds_of(work.deployment.deposits), here, running, now=start)
    moments = [] if dry_at is None else [dry_at]
    if len(here) < len(work.active):
        moments.append(Millis(start + work.params.alive_cover_ms))
    return moments


def catch_up(work: Working, *, until: Millis) -> None:
    """Handle what fell due at or before `until`, each as of its own moment."""
    while (moment := _next_moment(work, until)) is not None:
        settle(work, at=moment)
        for lease in work.leases:
            lapses_at = lease.opened_at + work.params.handoff_window_ms
            if lease.state == LeaseState.AWAITING and lapses_at <= moment:
                _lapse(work, lease, at=moment)
            elif lease.reclamation is not None and lease.reclamation.at <= moment:
                close(work, lease, at=moment, reason=lease.reclamation.reason)
        dry_at = work.deployment.dry_at
        if dry_at is not None and dry_at + work.params.grace_ms <= moment:
            for lease in work.leases:
                close(work, lease, at=moment, reason=reasons.INSUFFICIENT_FUNDS)
        save(work)


def _next_moment(work: Working, until: Millis) -> Millis | None:
    """What comes first, and no later than `until`: the filed moment, or the one at which the escrow was dry."""
    due_at = work.deployment.due_at
    if due_at is not None and due_at <= until:
        until = due_at
    else:
        due_at = None
    active = work.active
    if not active:
        return due_at
    funds = escrow.funds_of(work.deployment.deposits)
    start = max(lease.accrued_to for lease in active)
    return escrow.dry_moment(funds, active, work.clock, now=start, until=until) or due_at


def settle(work: Working, *, at: Millis) -> None:
    """Pay each provider what its lease owes at `at`; if that is all there is, the deployment runs dry.

    The last money is shared in proportion to the rates, and what it does not cover is recorded as debt.
    """
    active = work.active
    if not active:
        return
    funds = escrow.funds_of(work.deployment.deposits)
    owing = [escrow.owed(lease, work.clock, at=at) for lease in active]
    dry = sum(owing) >= funds
    shares = escrow.share(funds, owing, [lease.price_per_hour for lease in active])
    for lease, owes, paid in zip(active, owing, shares, strict=True):
        _pay(work, escrow.accrue(lease, work.clock, at=at), paid, debt=owes - paid)
    if dry:
        work.deployment = replace(work.deployment, state=DeploymentState.GRACE, dry_at=at)
        work.events.append(RanDry(deployment=work.deployment.id, debt=MicroCredits(sum(owing) - sum(shares))))


def _pay(work: Working, lease: Lease, amount: int, *, debt: int) -> None:
    work.replace_lease(replace(lease, paid=MicroCredits(lease.paid + amount), debt=MicroCredits(debt)))
    if amount == 0:
        return
    work.deployment = replace(work.deployment, deposits=escrow.spend(work.deployment.deposits, amount))
    work.events.append(Paid(lease=lease.id, provider=lease.provider, amount=MicroCredits(amount)))
    rest = royalties.pay(work.state, work.events, work.deployment, lease, amount)
    accounts.change(work.state, lease.provider, credits=rest)
    accounts.shift(work.state, escrow_credits=-amount)


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
        _pay(work, replace(lease, accrued_to=at, reading=work.clock(lease.provider, at)), lease.debt, debt=0)
    work.deployment = replace(work.deployment, state=DeploymentState.OPEN, dry_at=None)
    work.events.append(Resumed(deployment=work.deployment.id))


def close(work: Working, lease: Lease, *, at: Millis, reason: int) -> None:
    """End one lease, paid up to `at` by a settlement before; with the last one the escrow goes back."""
    if lease.state == LeaseState.CLOSED:
        return
    current = next(one for one in work.leases if one.id == lease.id)
    work.replace_lease(
        replace(
            current,
            state=LeaseState.CLOSED,
            closed_at=at,
            reason=reason,
            debt=MicroCredits(0),
            reclamation=None,
        )
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
        if deposit.grantee is not None:
            grants.restore(work.state, work.events, deposit.depositor, deposit.grantee, deposit.amount)
    work.deployment = replace(work.deployment, state=DeploymentState.CLOSED, deposits=(), dry_at=None)


def _lapse(work: Working, lease: Lease, *, at: Millis) -> None:
    """Nobody took the lease up: a small fee goes to the pool, so that neither side gains by letting it lapse."""
    charge_wait(work, lease, lease.price_per_hour * work.params.handoff_window_ms // escrow.HOUR_MS)
    close(work, lease, at=at, reason=reasons.HANDOFF_TIMEOUT)


def charge_wait(work: Working, lease: Lease, price: int) -> None:
    """What a provider's waiting for its hand-off costs, up to the cap, goes to the pool."""
    fee = min(price, work.params.handoff_fee_cap, escrow.funds_of(work.deployment.deposits))
    work.deployment = replace(work.deployment, deposits=escrow.spend(work.deployment.deposits, fee))
    accounts.shift(work.state, escrow_credits=-fee, pool_credits=fee)
    work.events.append(HandoffLapsed(lease=lease.id, fee=MicroCredits(fee)))


def handle_due(state: State, events: list[Event], *, now: Millis, limit: int) -> None:
    """Handle what fell due by `now`, earliest first, at most `limit` deployments."""
    for deployment in due.overdue(state, now=now, limit=limit):
        work = load(state, deployment, events)
        assert work is not None, "the due index names a deployment that is not there"
        catch_up(work, until=now)
