"""What will become of a deployment if nobody does anything: how long its money lasts, and what happens next.

The ledger's own rules are asked, on a state that goes nowhere: it is settled as of the newest block, so that
what a lease has earned by then is exact, in the last money of an escrow too.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from fondaco.consensus.ledger import deployments, escrow
from fondaco.consensus.ledger.deployments import Working
from fondaco.consensus.ledger.state import State
from fondaco.protocol.records import DeploymentState, LeaseState
from fondaco.protocol.scalars import DeploymentId, LeaseId, MicroCredits, Millis


class Due(enum.IntEnum):
    """What happens to a deployment by itself."""

    HANDOFF_LAPSES = 1
    RUNS_DRY = 2
    GRACE_ENDS = 3
    RECLAIMED = 4
    OTHER = 5
    """Its escrow is looked at again, since a provider is silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """One lease, as of the newest block."""

    lease: LeaseId
    state: LeaseState
    price_per_hour: MicroCredits
    earned: MicroCredits
    """In all, paid out or not."""
    paid: MicroCredits
    """Paid out already."""
    debt: MicroCredits
    """Served and not covered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    deployment: DeploymentId
    state: DeploymentState
    at: Millis
    """Block time of the newest block, as of which all this is."""
    funds: MicroCredits
    """Left in the escrow, once what is earned by now is paid."""
    price_per_hour: MicroCredits
    """Of all leases that accrue."""
    runway_ms: Millis | None
    """Time until the escrow is dry at this rate; None where nothing accrues."""
    dry_at: Millis | None
    """The moment at which it will be; in grace, at which it was."""
    next_due_at: Millis | None
    """The next moment at which something happens by itself."""
    next_due: Due | None
    """What that is."""
    leases: tuple[Earned, ...]


def project(state: State, identity: DeploymentId, *, now: Millis) -> Projection | None:
    """How a deployment stands at `now` and goes on from there; None if there is none. `state` is used up."""
    before = deployments.load(state, identity, [])
    work = deployments.load(state, identity, [])
    if before is None or work is None:
        return None
    deployments.catch_up(work, until=now)
    deployments.settle(work, at=now)
    deployments.save(work)
    deployment, active = work.deployment, work.active
    funds = escrow.funds_of(deployment.deposits)
    dry_at = escrow.dry_moment(funds, active, _present(work, now), now=now) if active else None
    paid = {lease.id: lease.paid for lease in before.leases}
    return Projection(
        deployment=identity,
        state=deployment.state,
        at=now,
        funds=funds,
        price_per_hour=MicroCredits(sum(lease.price_per_hour for lease in active)),
        runway_ms=None if dry_at is None else Millis(dry_at - now),
        dry_at=deployment.dry_at if dry_at is None else dry_at,
        next_due_at=deployment.due_at,
        next_due=_what(work, dry_at),
        leases=tuple(
            Earned(
                lease=lease.id,
                state=lease.state,
                price_per_hour=lease.price_per_hour,
                earned=lease.paid,
                paid=paid[lease.id],
                debt=lease.debt,
            )
            for lease in work.leases
        ),
    )


def _present(work: Working, now: Millis) -> escrow.Clock:
    """The providers' clocks, if all of them are there from now on."""
    return lambda provider, at: Millis(work.clock(provider, now) + at - now)


def _what(work: Working, dry_at: Millis | None) -> Due | None:
    """What falls due next; where several things do at once, the first of these."""
    due_at, params = work.deployment.due_at, work.params
    if due_at is None:
        return None
    waiting = [lease for lease in work.leases if lease.state == LeaseState.AWAITING]
    if any(lease.opened_at + params.handoff_window_ms <= due_at for lease in waiting):
        return Due.HANDOFF_LAPSES
    if work.deployment.dry_at is not None and work.deployment.dry_at + params.grace_ms <= due_at:
        return Due.GRACE_ENDS
    if any(lease.reclamation is not None and lease.reclamation.at <= due_at for lease in work.leases):
        return Due.RECLAIMED
    return Due.RUNS_DRY if dry_at == due_at else Due.OTHER
