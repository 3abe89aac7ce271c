"""Whether the ledger, as this node sees it, would let an order become leases: time, money, and what it replaces.

None of this is a neighbour's fault: honest nodes see different states.
"""

from __future__ import annotations

from fondaco.consensus.ledger import escrow, grants
from fondaco.consensus.ledger.accounts import account_of, params_of
from fondaco.consensus.ledger.state import State
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import Order, Replaced
from fondaco.protocol.messages import Scope
from fondaco.protocol.records import Deployment, DeploymentState, Lease, key_deployment, key_lease
from fondaco.protocol.scalars import Millis, PublicKey


def payer_of(order: Order) -> PublicKey:
    """Whose account the deposit comes from."""
    return order.tenant if order.payer is None else order.payer


def check_affordable(state: State, order: Order, *, promised: int, now: Millis) -> None:
    """Raise `Refused` unless it could be used now; `promised` are the other open orders' deposits of its payer."""
    if order.expires_at <= now:
        raise Refused("order.expired", "the order has expired")
    if order.expires_at > now + limits.ORDER_LIFE_MS + limits.CLOCK_SLACK_MS:
        raise Refused("order.expiry", "an order lives for an hour at most")
    rate = sum(group.max_price_per_hour for group in order.groups)
    least = -(-rate * params_of(state).min_runway_ms // escrow.HOUR_MS)
    if order.replaces is not None:
        _check_replaced(state, order, order.replaces, least)
        return
    if order.deposit < least:
        raise Refused("deposit.too_small", f"the deposit is {order.deposit} ucredit, {least} are needed")
    payer, promised = payer_of(order), promised + order.deposit
    free = account_of(state, payer).credits
    if promised > free:
        raise Refused(
            "deposit.unaffordable",
            f"the deposits of this payer's open orders come to {promised} ucredit, it has {free}",
        )
    if payer != order.tenant:
        _check_grant(state, payer, order)


def _check_grant(state: State, payer: PublicKey, order: Order) -> None:
    grant = grants.grant_of(state, payer, order.tenant)
    if grant is None or grant.scope not in (Scope.OPEN, Scope.ANY):
        raise Refused("grant.none", "the payer has not granted this tenant to open deployments")
    left = grant.limit - grant.spent
    if left < order.deposit:
        raise Refused("grant.limit", f"{left} ucredit are left of the grant, {order.deposit} are needed")


def _check_replaced(state: State, order: Order, replaced: Replaced, least: int) -> None:
    deployment = state.get(key_deployment(replaced.deployment), Deployment)
    if deployment is None or deployment.tenant != order.tenant or deployment.state != DeploymentState.OPEN:
        raise Refused("order.replaces", "the tenant has no such deployment that goes on")
    leases = (state.require(key_lease(lease), Lease) for lease in deployment.leases)
    old = next((lease for lease in leases if lease.group == replaced.group), None)
    if old is None or (old.generation + 1, old.commitment) != (replaced.generation, order.commitments[0]):
        raise Refused("order.replaces", "this is not the lease, or not the manifest, that the ledger has")
    funds = escrow.funds_of(deployment.deposits)
    if funds < least:
        raise Refused("escrow.runway", f"the escrow holds {funds} ucredit, {least} are needed")
