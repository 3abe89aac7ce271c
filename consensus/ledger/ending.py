"""How leases end: closed by those they concern, reclaimed with notice, or given up as their provider is gone.

A tenant may end a lease at any time. A provider may where it promised no notice, and while the escrow is dry;
else it reclaims the lease, and the ledger itself closes it when the window is over. Where a provider has been
silent for `fault_after_ms`, anybody may close.
"""

from __future__ import annotations

from dataclasses import replace

from fondaco.consensus.ledger import accounts, alive, deployments, escrow
from fondaco.consensus.ledger.context import Context
from fondaco.consensus.ledger.deployments import Working
from fondaco.consensus.ledger.leasing import deployment_of, lease_of
from fondaco.protocol import reasons
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import LeaseReclaimed
from fondaco.protocol.messages import CloseDeployment, CloseLease, Reclaim
from fondaco.protocol.records import DeploymentState, Lease, LeaseState, Reclamation
from fondaco.protocol.scalars import Millis


def close_lease(context: Context, message: CloseLease) -> None:
    work, lease = lease_of(context, message.lease)
    if lease.state == LeaseState.CLOSED:
        raise Refused("lease.closed", "the lease has already ended")
    if context.sender == lease.tenant:
        check_tenant_reason(message.reason)
    elif context.sender == lease.provider:
        _check_reason(message.reason, reasons.PROVIDER)
        if lease.reclamation_window_ms and work.deployment.state != DeploymentState.GRACE:
            raise Refused(
                "lease.reclamation",
                "the provider promised notice before it ends this lease",
                hint="reclaim it: the ledger closes it when the window is over",
            )
    else:
        _check_fault(context, lease, message.reason)
    deployments.settle(work, at=context.now)
    end(context, work, lease, message.reason)
    deployments.save(work)


def close_deployment(context: Context, message: CloseDeployment) -> None:
    work = deployment_of(context, message.deployment)
    if context.sender != work.deployment.tenant:
        raise Refused("deployment.tenant", "only its tenant may close a whole deployment")
    if work.deployment.state == DeploymentState.CLOSED:
        raise Refused("deployment.closed", "this deployment has already ended")
    check_tenant_reason(message.reason)
    deployments.settle(work, at=context.now)
    for lease in work.leases:
        end(context, work, lease, message.reason)
    deployments.save(work)


def reclaim(context: Context, message: Reclaim) -> None:
    work, lease = lease_of(context, message.lease)
    if context.sender != lease.provider:
        raise Refused("lease.provider", "only the provider of a lease may reclaim it")
    if lease.state == LeaseState.CLOSED:
        raise Refused("lease.closed", "the lease has already ended")
    if lease.reclamation is not None:
        raise Refused("lease.reclaimed", f"the lease ends at {lease.reclamation.at} already")
    if not lease.reclamation_window_ms:
        raise Refused("lease.window", "no notice was promised for this lease", hint="close it")
    _check_reason(message.reason, reasons.PROVIDER)
    at = Millis(context.now + lease.reclamation_window_ms)
    work.replace_lease(replace(lease, reclamation=Reclamation(at=at, reason=message.reason)))
    context.events.append(LeaseReclaimed(lease=lease.id, at=at, reason=message.reason))
    deployments.save(work)


def check_tenant_reason(reason: int) -> None:
    """Raise `Refused` `lease.reason` unless a tenant may give it."""
    _check_reason(reason, reasons.TENANT)


def _check_reason(reason: int, allowed: range) -> None:
    if reason not in allowed:
        raise Refused("lease.reason", f"reason {reason} is not the sender's, use {allowed[0]}..{allowed[-1]}")


def _check_fault(context: Context, lease: Lease, reason: int) -> None:
    params = accounts.params_of(context.state)
    signs = alive.signs_of(context.state, lease.provider)
    if not alive.is_at_fault(signs, params, now=context.now):
        raise Refused(
            "lease.party",
            "only the tenant or the provider of a lease may close it, unless the provider has been silent"
            f" for {params.fault_after_ms} ms",
        )
    _check_reason(reason, range(reasons.FAULT, reasons.FAULT + 1))


def end(context: Context, work: Working, lease: Lease, reason: int) -> None:
    """Close one lease that may have ended already; a tenant that let its provider wait pays for the wait."""
    current = next(one for one in work.leases if one.id == lease.id)
    if current.state == LeaseState.AWAITING and context.sender == lease.tenant:
        waited_ms = min(context.now - lease.opened_at, work.params.handoff_window_ms)
        price = lease.price_per_hour * waited_ms // escrow.HOUR_MS
        if price > 0:
            deployments.charge_wait(work, lease, price)
    deployments.close(work, lease, at=context.now, reason=reason)
