"""What the messages of a lease's life do: opening, paying in, activating, updating, paying out.

`ending` ends it, `replacing` gives it to another provider.
"""

from __future__ import annotations

from dataclasses import replace

from fondaco.consensus.ledger import accounts, alive, deployments, escrow, grants, templates, trust
from fondaco.consensus.ledger.context import Context
from fondaco.consensus.ledger.deployments import Working
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.events import (
    Deposited,
    LeaseActivated,
    LeaseOpened,
    ManifestUpdated,
)
from fondaco.protocol.market import (
    SignedBid,
    SignedOrder,
    check_bid,
    check_order,
    deployment_id,
    lease_of_order,
)
from fondaco.protocol.matching import check_bid_units, match_capabilities, match_placement
from fondaco.protocol.messages import Activate, Deposit, OpenLease, ReplaceLease, Scope, UpdateManifest, Withdraw
from fondaco.protocol.records import (
    Deployment,
    DeploymentState,
    Lease,
    LeaseState,
    Provider,
    Retirement,
    UsedOrder,
    key_lease,
    key_provider,
    key_retirement,
    key_used_order,
    key_used_order_expiry,
)
from fondaco.protocol.resources import Group, check_group
from fondaco.protocol.scalars import (
    DeploymentId,
    GroupIndex,
    LeaseId,
    MicroCredits,
    Millis,
    OrderId,
    PublicKey,
)
from fondaco.protocol.signing import require


def open_lease(context: Context, message: OpenLease) -> None:
    order, state = message.order.order, context.state
    if order.replaces is not None:
        raise Refused("order.replaces", "this order seeks another provider for a lease", hint="replace the lease")
    identity = check_order_and_bids(context, message, message.bids)
    if order.template is not None:
        templates.template_of(state, order.template)
    deployment = deployment_id(identity)
    leases = [
        agreed_lease(context, message.order, bid, GroupIndex(index), order=identity, deployment=deployment)
        for index, bid in enumerate(message.bids)
    ]
    least = runway(context, sum(lease.price_per_hour for lease in leases))
    payer = _put_in_escrow(context, message.deposit, order.payer, scope=Scope.OPEN, least=least)
    mark_used(context, identity, order.expires_at)
    work = Working(
        state=state,
        params=accounts.params_of(state),
        events=context.events,
        deployment=Deployment(
            id=deployment,
            tenant=context.sender,
            state=DeploymentState.OPEN,
            leases=tuple(lease.id for lease in leases),
            deposits=escrow.add((), payer, message.deposit),
            opened_at=context.now,
            dry_at=None,
            due_at=None,
            template=order.template,
        ),
        leases=leases,
        stored={},
    )
    deployments.save(work)
    context.events.extend(opened(lease, identity, lease.group) for lease in leases)


def opened(lease: Lease, order: OrderId, group: GroupIndex) -> LeaseOpened:
    """`group` of the order."""
    return LeaseOpened(
        lease=lease.id,
        deployment=lease.deployment,
        order=order,
        group=group,
        tenant=lease.tenant,
        provider=lease.provider,
        price_per_hour=lease.price_per_hour,
    )


def mark_used(context: Context, order: OrderId, expires_at: Millis) -> None:
    """An order becomes leases once; it is remembered until nobody could take it any more."""
    context.state.put(key_used_order(order), UsedOrder(expires_at=expires_at))
    context.state.put(key_used_order_expiry(expires_at, order), order)


def check_order_and_bids(
    context: Context, message: OpenLease | ReplaceLease, bids: tuple[SignedBid, ...]
) -> OrderId:
    """The order's id, after all that is asked of the order and of the bids together; cheap questions first."""
    order = message.order.order
    if context.sender != order.tenant:
        raise Refused("order.tenant", "only the tenant that signed an order may turn it into leases")
    if len(bids) != len(order.groups):
        raise Refused("bid.count", f"{len(bids)} bids for {len(order.groups)} groups")
    identity = context.judged.get(message)
    if identity is None:
        _check_size(bids)
    if order.expires_at < context.now:
        raise Refused("order.expired", f"the order expired {context.now - order.expires_at} ms ago")
    if order.expires_at > context.now + limits.ORDER_LIFE_MS:
        raise Refused("order.expiry", "an order lives for an hour at most")
    if identity is None:
        identity = _judge_signed(context, message, bids)
    if context.state.get(key_used_order(identity), UsedOrder) is not None:
        raise Refused("order.used", "this order has already been turned into leases")
    return identity


def _check_size(bids: tuple[SignedBid, ...]) -> None:
    offered = sum(len(codec.encode(bid.bid.units)) for bid in bids)
    if offered > limits.DEPLOYMENT_UNITS_BYTES:
        raise Refused("bid.size", f"{offered} bytes of resources, at most {limits.DEPLOYMENT_UNITS_BYTES} allowed")


def _judge_signed(context: Context, message: OpenLease | ReplaceLease, bids: tuple[SignedBid, ...]) -> OrderId:
    """What depends on no state: checked in the mempool, it need not be again in each block that is tried."""
    try:
        identity = check_order(context.chain, message.order, check=context.verify)
        for bid in bids:
            check_bid(context.chain, bid, check=context.verify)
    except PeerFault as fault:
        raise Refused(fault.code, fault.message) from None
    context.judged.put(message, identity, len(codec.encode(message)))
    return identity


def agreed_lease(
    context: Context,
    signed: SignedOrder,
    signed_bid: SignedBid,
    group: GroupIndex,
    *,
    order: OrderId,
    deployment: DeploymentId,
) -> Lease:
    """The lease that one bid makes, after checking that the bid serves its group of the order."""
    asked, bid = signed.order.groups[group], signed_bid.bid
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
    if bid.reclamation_window_ms < signed.order.reclamation_window_ms:
        raise Refused("bid.reclamation", f"bid {group} gives a shorter reclamation window than asked")
    low, high = limits.RECLAMATION_WINDOW_MS
    if bid.reclamation_window_ms and not low <= bid.reclamation_window_ms <= high:
        raise Refused("bid.reclamation", f"a reclamation window is none, or {low}..{high} ms")
    _check_fit(context, asked, signed_bid)
    return Lease(
        id=lease_of_order(order, signed.order, group),
        deployment=deployment,
        group=group,
        tenant=context.sender,
        provider=bid.provider,
        price_per_hour=bid.price_per_hour,
        units=bid.units,
        commitment=signed.order.commitments[group],
        version=1,
        reclamation_window_ms=bid.reclamation_window_ms,
        state=LeaseState.AWAITING,
        opened_at=context.now,
        activated_at=None,
        active_ms=Millis(0),
        accrued_to=context.now,
        reading=Millis(0),
        paid=MicroCredits(0),
        debt=MicroCredits(0),
        reclamation=None,
        closed_at=None,
        reason=None,
    )


def _check_fit(context: Context, asked: Group, signed: SignedBid) -> None:
    provider = context.state.get(key_provider(signed.bid.provider), Provider)
    if provider is None:
        raise Refused("provider.unknown", "the bid's provider is not registered")
    if context.state.get(key_retirement(provider.key), Retirement) is not None:
        raise Refused("provider.retiring", "the bid's provider takes no new leases: it is about to retire")
    if signed.bid.units != asked.units:  # those asked for were checked with the order
        check_group(replace(asked, units=signed.bid.units))
    short = check_bid_units(asked.units, signed.bid.units)
    if short:
        raise Refused("offer.smaller", "; ".join(map(str, short)))
    attested = trust.attested(context.state, provider.key, asked.placement, now=context.now)
    unmet = match_placement(asked.placement, provider.attributes, attested)
    unmet += match_capabilities(asked.units, provider.attributes)
    if unmet:
        raise Refused("placement.unmet", "; ".join(map(str, unmet)))


def runway(context: Context, rate: int) -> int:
    """Ucredit for the shortest time that an escrow must last, at so many an hour."""
    return -(-rate * accounts.params_of(context.state).min_runway_ms // escrow.HOUR_MS)


def _put_in_escrow(
    context: Context, amount: MicroCredits, payer: PublicKey | None, *, scope: Scope, least: int = 0
) -> escrow.Payer:
    """Take a deposit from the sender, or by a grant from whoever pays for it; who that was."""
    least = max(least, accounts.params_of(context.state).min_deposit)
    if amount < least:
        raise Refused("deposit.too_small", f"the deposit is {amount} ucredit, at least {least} are needed")
    if payer is None or payer == context.sender:
        source = escrow.Payer(context.sender)
    else:
        grants.spend(context, payer, amount, scope)
        source = escrow.Payer(payer, grantee=context.sender)
    accounts.change(context.state, source.depositor, credits=-amount)
    accounts.shift(context.state, escrow_credits=amount)
    return source


def deposit(context: Context, message: Deposit) -> None:
    work = deployment_of(context, message.deployment)
    if work.deployment.state == DeploymentState.CLOSED:
        raise Refused("deployment.closed", "this deployment has ended; nothing can be added to its escrow")
    payer = _put_in_escrow(context, message.amount, message.payer, scope=Scope.DEPOSIT)
    deposits = escrow.add(work.deployment.deposits, payer, message.amount)
    if len(deposits) > limits.DEPOSITORS:
        raise Refused("deposit.depositors", f"at most {limits.DEPOSITORS} accounts may pay into one escrow")
    work.deployment = replace(work.deployment, deposits=deposits)
    context.events.append(
        Deposited(deployment=message.deployment, depositor=payer.depositor, amount=message.amount)
    )
    deployments.settle(work, at=context.now)
    deployments.resume(work, at=context.now)
    deployments.save(work)


def activate(context: Context, message: Activate) -> None:
    receipt = message.receipt.receipt
    work, lease = lease_of(context, receipt.lease)
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
    alive.note(context.state, work.params, lease.provider, now=context.now)
    work.signs.pop(lease.provider, None)
    work.replace_lease(
        replace(
            lease,
            state=LeaseState.ACTIVE,
            activated_at=context.now,
            accrued_to=context.now,
            reading=work.clock(lease.provider, context.now),
        )
    )
    context.events.append(LeaseActivated(lease=lease.id))
    deployments.save(work)


def update(context: Context, message: UpdateManifest) -> None:
    work = deployment_of(context, message.deployment)
    if context.sender != work.deployment.tenant:
        raise Refused("deployment.tenant", "only its tenant says what runs in a deployment")
    lease = lease_of_group(work, message.group)
    if lease.state == LeaseState.CLOSED:
        raise Refused("lease.closed", "the lease has already ended")
    if lease.commitment == message.commitment:
        raise Refused("update.same", "this is the manifest that the lease has")
    after = replace(lease, version=lease.version + 1, commitment=message.commitment)
    work.replace_lease(after)
    context.events.append(ManifestUpdated(lease=lease.id, version=after.version, commitment=after.commitment))
    deployments.save(work)


def withdraw(context: Context, message: Withdraw) -> None:
    work, lease = lease_of(context, message.lease)
    if context.sender != lease.provider:
        raise Refused("lease.provider", "only the provider of a lease may withdraw from it")
    deployments.settle(work, at=context.now)
    deployments.save(work)


def deployment_of(context: Context, deployment: DeploymentId) -> Working:
    """Load a deployment with everything handled that fell due before now."""
    work = deployments.load(context.state, deployment, context.events)
    if work is None:
        raise Refused("deployment.unknown", f"there is no deployment {deployment.hex()}")
    deployments.catch_up(work, until=context.now)
    return work


def lease_of(context: Context, identity: LeaseId) -> tuple[Working, Lease]:
    """A lease and its deployment, likewise. One that was replaced has ended; nothing happens to it any more."""
    record = context.state.get(key_lease(identity), Lease)
    if record is None:
        raise Refused("lease.unknown", f"there is no lease {identity.hex()}")
    work = deployment_of(context, record.deployment)
    return work, next((lease for lease in work.leases if lease.id == identity), record)


def lease_of_group(work: Working, group: GroupIndex) -> Lease:
    """The newest lease of a group. Raises `Refused` `deployment.group`."""
    found = next((lease for lease in work.leases if lease.group == group), None)
    if found is None:
        raise Refused("deployment.group", f"the deployment has no group {group}")
    return found
