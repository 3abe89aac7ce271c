"""A lease gives way to another one: the same group, manifest and escrow, another provider, in one block.

The tenant orders the group anew, naming what it replaces, and takes a bid, as it does when it opens a deployment.
The old lease ends as if its tenant had closed it, and stays on record for as long as what has ended does; the new
one waits for its hand-off. The deployment names the newest lease of each group only.
"""

from __future__ import annotations

from dataclasses import replace

from fondaco.consensus.ledger import closed, deployments, ending, escrow, leasing
from fondaco.consensus.ledger.context import Context
from fondaco.consensus.ledger.deployments import Working
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import LeaseReplaced
from fondaco.protocol.market import Replaced
from fondaco.protocol.matching import check_bid_units
from fondaco.protocol.messages import ReplaceLease
from fondaco.protocol.records import DeploymentState, Lease, LeaseState
from fondaco.protocol.scalars import GroupIndex


def replace_lease(context: Context, message: ReplaceLease) -> None:
    """Raises `Refused`: `deployment.*`, `order.*`, `bid.*`, `lease.*`, or `escrow.runway` where money lacks."""
    order, only = message.order.order, GroupIndex(0)
    identity = leasing.check_order_and_bids(context, message, (message.bid,))
    work = leasing.deployment_of(context, message.deployment)
    old = leasing.lease_of_group(work, message.group)
    _check_replaced(context, work, old, message)
    new = replace(
        leasing.agreed_lease(
            context, message.order, message.bid, only, order=identity, deployment=message.deployment
        ),
        group=message.group,
        version=old.version,
        generation=old.generation + 1,
    )
    leasing.mark_used(context, identity, order.expires_at)
    deployments.settle(work, at=context.now)
    work.leases.append(new)  # before the old one ends, or the deployment would end with it
    ending.end(context, work, old, message.reason)
    _check_runway(context, work)
    work.deployment = replace(
        work.deployment, leases=tuple(new.id if lease == old.id else lease for lease in work.deployment.leases)
    )
    context.events.extend([leasing.opened(new, identity, only), LeaseReplaced(lease=old.id, by=new.id)])
    deployments.save(work)
    closed.file(context.state, old.id, [lease for lease in work.leases if lease.id == old.id])


def _check_replaced(context: Context, work: Working, old: Lease, message: ReplaceLease) -> None:
    order, deployment = message.order.order, work.deployment
    if context.sender != deployment.tenant:
        raise Refused("deployment.tenant", "only its tenant may give a lease to another provider")
    if deployment.state == DeploymentState.CLOSED:
        raise Refused("deployment.closed", "this deployment has ended", hint="order anew")
    if deployment.state == DeploymentState.GRACE:
        raise Refused("deployment.dry", "the escrow is dry", hint="pay into it first")
    if order.replaces != Replaced(
        deployment=message.deployment, group=message.group, generation=old.generation + 1
    ):
        raise Refused("order.replaces", "the order does not seek another provider for this lease")
    ending.check_tenant_reason(message.reason)
    if order.commitments[0] != old.commitment:
        raise Refused("order.commitment", "the order is for another manifest than the lease's")
    if order.template != deployment.template:
        raise Refused("order.template", "the order names another template than the deployment's")
    more = check_bid_units(order.groups[0].units, old.units)
    if more:
        raise Refused("order.resources", "more than the lease has: " + "; ".join(map(str, more)))


def _check_runway(context: Context, work: Working) -> None:
    funds = escrow.funds_of(work.deployment.deposits)
    rate = sum(lease.price_per_hour for lease in work.leases if lease.state != LeaseState.CLOSED)
    least = leasing.runway(context, rate)
    if funds < least:
        raise Refused(
            "escrow.runway", f"the escrow holds {funds} ucredit, {least} are needed", hint="pay into it first"
        )
