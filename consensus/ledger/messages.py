"""What each message does. Every function either applies its message whole or raises `Refused`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fondaco.consensus.ledger import accounts, deployments, escrow
from fondaco.consensus.ledger.deployments import Working
from fondaco.consensus.ledger.state import State
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.events import (
    Deposited,
    Event,
    LeaseActivated,
    LeaseOpened,
    Minted,
    ProviderRegistered,
    Transferred,
)
from fondaco.protocol.market import (
    SignedBid,
    check_bid,
    check_order,
    deployment_id,
    lease_id,
)
from fondaco.protocol.matching import check_offer, match_placement
from fondaco.protocol.records import (
    Deployment,
    DeploymentState,
    EscrowDeposit,
    Lease,
    LeaseState,
    Provider,
    UsedOrder,
    key_lease,
    key_provider,
    key_used_order,
    key_used_order_expiry,
)
from fondaco.protocol.resources import Group, check_group
from fondaco.protocol.scalars import (
    ChainId,
    DeploymentId,
    GroupIndex,
    LeaseId,
    MicroCredits,
    Millis,
    OrderId,
    PublicKey,
)
from fondaco.protocol.signing import Verify, require
from fondaco.protocol.transactions import (
    Activate,
    CloseLease,
    Deposit,
    Faucet,
    Message,
    OpenLease,
    RegisterProvider,
    Transfer,
    Withdraw,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where and when a message is applied, and by whom."""

    chain: ChainId
    state: State
    events: list[Event]
    sender: PublicKey
    now: Millis
    """The time of the block."""
    verify: Verify


def apply(context: Context, message: Message) -> None:
    """Apply one message. Raises `Refused`; the caller drops what was changed until then."""
    _APPLY[type(message)](context, message)


def _transfer(context: Context, message: Transfer) -> None:
    if message.amount == 0:
        raise Refused("transfer.zero", "a transfer moves at least one ucredit")
    accounts.change(context.state, context.sender, credits=-message.amount)
    accounts.change(context.state, message.to, credits=message.amount)
    context.events.append(Transferred(sender=context.sender, to=message.to, amount=message.amount))


def _faucet(context: Context, message: Faucet) -> None:
    params = accounts.params_of(context.state)
    if not params.has_faucet:
        raise Refused("faucet.none", "this chain has no faucet")
    if not message.credits and not message.stake:
        raise Refused("faucet.zero", "a faucet gives at least one ucredit or ustake")
    if message.credits > params.faucet_credits or message.stake > params.faucet_stake:
        raise Refused(
            "faucet.limit",
            f"this chain's faucet gives at most {params.faucet_credits} ucredit and {params.faucet_stake} ustake",
        )
    accounts.mint(context.state, context.sender, credits=message.credits, stake=message.stake)
    context.events.append(Minted(to=context.sender, credits=message.credits, stake=message.stake))


def _register_provider(context: Context, message: RegisterProvider) -> None:
    params = accounts.params_of(context.state)
    if message.bond < params.provider_bond:
        raise Refused("provider.bond", f"a provider bonds at least {params.provider_bond} ustake")
    keys = [attribute.key for attribute in message.attributes]
    if len(keys) > limits.ATTRIBUTES or keys != sorted(set(keys)):
        raise Refused(
            "provider.attributes", f"at most {limits.ATTRIBUTES} attributes, sorted by key, each key once"
        )
    if not 1 <= len(message.addresses) <= limits.BID_ADDRESSES:
        raise Refused("provider.addresses", f"a provider names 1..{limits.BID_ADDRESSES} addresses")
    before = context.state.get(key_provider(context.sender), Provider)
    more = message.bond - (0 if before is None else before.bond)
    accounts.change(context.state, context.sender, stake=-more)
    accounts.shift(context.state, bonded_stake=more, providers=0 if before else 1)
    context.state.put(
        key_provider(context.sender),
        Provider(
            key=context.sender,
            attributes=message.attributes,
            peer=message.peer,
            addresses=message.addresses,
            sealing_key=message.sealing_key,
            bond=message.bond,
            registered_at=context.now if before is None else before.registered_at,
        ),
    )
    context.events.append(ProviderRegistered(provider=context.sender, bond=message.bond))


def _open_lease(context: Context, message: OpenLease) -> None:
    order, state = message.order.order, context.state
    identity = _check_order(context, message)
    deployment = deployment_id(identity)
    leases = [_lease(context, message, identity, GroupIndex(index)) for index in range(len(order.groups))]
    _put_in_escrow(context, message.deposit, sum(lease.price_per_hour for lease in leases))
    state.put(key_used_order(identity), UsedOrder(expires_at=order.expires_at))
    state.put(key_used_order_expiry(order.expires_at, identity), identity)
    work = Working(
        state=state,
        params=accounts.params_of(state),
        events=context.events,
        deployment=Deployment(
            id=deployment,
            tenant=context.sender,
            state=DeploymentState.OPEN,
            leases=tuple(lease.id for lease in leases),
            deposits=(EscrowDeposit(depositor=context.sender, amount=message.deposit),),
            opened_at=context.now,
            dry_at=None,
            due_at=None,
        ),
        leases=leases,
        stored={},
    )
    deployments.save(work)
    context.events.extend(
        LeaseOpened(
            lease=lease.id,
            deployment=deployment,
            tenant=lease.tenant,
            provider=lease.provider,
            price_per_hour=lease.price_per_hour,
        )
        for lease in leases
    )


def _check_order(context: Context, message: OpenLease) -> OrderId:
    """The order's id, after all that is asked of the order and of the bids together; cheap questions first."""
    order = message.order.order
    if context.sender != order.tenant:
        raise Refused("order.tenant", "only the tenant that signed an order may turn it into leases")
    if len(message.bids) != len(order.groups):
        raise Refused("bid.count", f"{len(message.bids)} bids for {len(order.groups)} groups")
    offered = sum(len(codec.encode(bid.bid.units)) for bid in message.bids)
    if offered > limits.DEPLOYMENT_UNITS_BYTES:
        raise Refused("bid.size", f"{offered} bytes of resources, at most {limits.DEPLOYMENT_UNITS_BYTES} allowed")
    if order.expires_at < context.now:
        raise Refused("order.expired", f"the order expired {context.now - order.expires_at} ms ago")
    if order.expires_at > context.now + limits.ORDER_LIFE_MS:
        raise Refused("order.expiry", "an order lives for an hour at most")
    try:
        identity = check_order(context.chain, message.order, check=context.verify)
        for bid in message.bids:
            check_bid(context.chain, bid, check=context.verify)
    except PeerFault as fault:
        raise Refused(fault.code, fault.message) from None
    if context.state.get(key_used_order(identity), UsedOrder) is not None:
        raise Refused("order.used", "this order has already been turned into leases")
    return identity


def _lease(context: Context, message: OpenLease, order: OrderId, group: GroupIndex) -> Lease:
    """The lease that one bid makes, after checking that the bid serves its group."""
    asked, bid = message.order.order.groups[group], message.bids[group].bid
    if bid.order != order or bid.group != group:
        raise Refused("bid.order", f"bid {group} answers another order or group")
    if bid.expires_at < context.now:
        raise Refused("bid.expired", f"bid {group} expired {context.now - bid.expires_at} ms ago")
    if bid.expires_at > context.now + limits.BID_LIFE_MS:
        raise Refused("bid.expiry", f"a bid binds for {limits.BID_LIFE_MS} ms at most")
    if bid.provider == context.sender:
        raise Refused("bid.self", "a tenant cannot lease from itself")
    if bid.price_per_hour > asked.max_price_per_hour:
        raise Refused(
            "price.above_maximum",
            f"bid {group} asks {bid.price_per_hour} ucredit/h, the order pays {asked.max_price_per_hour}",
        )
    if bid.reclamation_window_ms < message.order.order.reclamation_window_ms:
        raise Refused("bid.reclamation", f"bid {group} gives a shorter reclamation window than asked")
    low, high = limits.RECLAMATION_WINDOW_MS
    if bid.reclamation_window_ms and not low <= bid.reclamation_window_ms <= high:
        raise Refused("bid.reclamation", f"a reclamation window is none, or {low}..{high} ms")
    _check_fit(context, asked, message.bids[group])
    return Lease(
        id=lease_id(deployment_id(order), group),
        deployment=deployment_id(order),
        group=group,
        tenant=context.sender,
        provider=bid.provider,
        price_per_hour=bid.price_per_hour,
        units=bid.units,
        commitment=message.order.order.commitments[group],
        version=1,
        reclamation_window_ms=bid.reclamation_window_ms,
        state=LeaseState.AWAITING,
        opened_at=context.now,
        activated_at=None,
        active_ms=Millis(0),
        accrued_to=context.now,
        paid=MicroCredits(0),
        debt=MicroCredits(0),
        closed_at=None,
        reason=None,
    )


def _check_fit(context: Context, asked: Group, signed: SignedBid) -> None:
    provider = context.state.get(key_provider(signed.bid.provider), Provider)
    if provider is None:
        raise Refused("provider.unknown", "the bid's provider is not registered")
    check_group(replace(asked, units=signed.bid.units))
    short = check_offer(asked.units, signed.bid.units)
    if short:
        raise Refused("offer.smaller", "; ".join(map(str, short)))
    # No auditor has attested anything until attestations exist on the ledger.
    unmet = match_placement(asked.placement, provider.attributes, {})
    if unmet:
        raise Refused("placement.unmet", "; ".join(map(str, unmet)))


def _put_in_escrow(context: Context, amount: MicroCredits, rate: int) -> None:
    params = accounts.params_of(context.state)
    runway = -(-rate * params.min_runway_ms // escrow.HOUR_MS)
    least = max(runway, params.min_deposit)
    if amount < least:
        raise Refused("deposit.too_small", f"the deposit is {amount} ucredit, at least {least} are needed")
    accounts.change(context.state, context.sender, credits=-amount)
    accounts.shift(context.state, escrow_credits=amount)


def _deposit(context: Context, message: Deposit) -> None:
    work = _deployment(context, message.deployment)
    if work.deployment.state == DeploymentState.CLOSED:
        raise Refused("deployment.closed", "this deployment has ended; nothing can be added to its escrow")
    deposits = escrow.add(work.deployment.deposits, context.sender, message.amount)
    if len(deposits) > limits.DEPOSITORS:
        raise Refused("deposit.depositors", f"at most {limits.DEPOSITORS} accounts may pay into one escrow")
    _put_in_escrow(context, message.amount, 0)
    work.deployment = replace(work.deployment, deposits=deposits)
    context.events.append(
        Deposited(deployment=message.deployment, depositor=context.sender, amount=message.amount)
    )
    deployments.settle(work, at=context.now)
    deployments.resume(work, at=context.now)
    deployments.save(work)


def _activate(context: Context, message: Activate) -> None:
    receipt = message.receipt.receipt
    work, lease = _lease_of(context, receipt.lease)
    if context.sender != lease.provider:
        raise Refused("lease.provider", "only the provider of a lease may activate it")
    if lease.state != LeaseState.AWAITING:
        raise Refused("lease.state", f"the lease is {lease.state.name.lower()}, not awaiting its hand-off")
    if receipt.commitment != lease.commitment or receipt.version != lease.version:
        raise Refused("receipt.manifest", "the receipt is for another manifest than the lease's")
    try:
        require(context.chain, receipt, lease.tenant, message.receipt.signature, check=context.verify)
    except PeerFault as fault:
        raise Refused(fault.code, fault.message) from None
    deployments.settle(work, at=context.now)
    work.replace_lease(replace(lease, state=LeaseState.ACTIVE, activated_at=context.now, accrued_to=context.now))
    context.events.append(LeaseActivated(lease=lease.id))
    deployments.save(work)


def _withdraw(context: Context, message: Withdraw) -> None:
    work, lease = _lease_of(context, message.lease)
    if context.sender != lease.provider:
        raise Refused("lease.provider", "only the provider of a lease may withdraw from it")
    deployments.settle(work, at=context.now)
    deployments.save(work)


def _close_lease(context: Context, message: CloseLease) -> None:
    work, lease = _lease_of(context, message.lease)
    if context.sender not in (lease.tenant, lease.provider):
        raise Refused("lease.party", "only the tenant or the provider of a lease may close it")
    if lease.state == LeaseState.CLOSED:
        raise Refused("lease.closed", "the lease has already ended")
    first, last = (0, 9_999) if context.sender == lease.tenant else (10_000, 19_999)
    if not first <= message.reason <= last:
        raise Refused("lease.reason", f"reason {message.reason} is not the sender's, use {first}..{last}")
    by_provider = context.sender == lease.provider
    if by_provider and lease.reclamation_window_ms and work.deployment.state != DeploymentState.GRACE:
        raise Refused("lease.reclamation", "the provider promised a reclamation window for this lease")
    deployments.settle(work, at=context.now)
    deployments.close(work, lease, at=context.now, reason=message.reason)
    deployments.save(work)


def _deployment(context: Context, deployment: DeploymentId) -> Working:
    """Load a deployment with everything handled that fell due before now."""
    work = deployments.load(context.state, deployment, context.events)
    if work is None:
        raise Refused("deployment.unknown", f"there is no deployment {deployment.hex()}")
    deployments.catch_up(work, until=context.now)
    return work


def _lease_of(context: Context, identity: LeaseId) -> tuple[Working, Lease]:
    record = context.state.get(key_lease(identity), Lease)
    if record is None:
        raise Refused("lease.unknown", f"there is no lease {identity.hex()}")
    work = _deployment(context, record.deployment)
    return work, next(lease for lease in work.leases if lease.id == identity)


_APPLY: dict[type, Callable[[Context, Any], None]] = {
    Transfer: _transfer,
    Faucet: _faucet,
    RegisterProvider: _register_provider,
    OpenLease: _open_lease,
    Deposit: _deposit,
    Activate: _activate,
    Withdraw: _withdraw,
    CloseLease: _close_lease,
}
