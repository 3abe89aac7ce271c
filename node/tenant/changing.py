"""Changing what runs: another manifest for a lease, or another provider for what it serves."""

from __future__ import annotations

from dataclasses import replace

from fondaco.node import clock
from fondaco.node.keys.sealing import random_blinding_salt, random_salt
from fondaco.node.tenant import ordering, records
from fondaco.node.tenant.choosing import CHEAPEST, Choice, as_choice
from fondaco.node.tenant.client import FEE_ALLOWANCE, Tenant
from fondaco.node.tenant.deployment import Deployment, LeaseHandle
from fondaco.node.tenant.ordering import ORDER_LIFE_MS, Draft
from fondaco.node.tenant.progress import Progress, Report, quiet
from fondaco.protocol import manifest, reasons, sdl
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import (
    Order,
    Replaced,
    SignedBid,
    SignedOrder,
    lease_of_order,
    order_id,
)
from fondaco.protocol.messages import ReplaceLease, UpdateManifest
from fondaco.protocol.records import Deployment as DeploymentRecord
from fondaco.protocol.records import Lease, key_deployment
from fondaco.protocol.scalars import GroupIndex, MicroCredits, Millis
from fondaco.provider.workloads import leased_group


async def update(tenant: Tenant, lease: LeaseHandle, text: bytes, *, report: Report = quiet) -> LeaseHandle:
    """Have a lease run what an SDL file says of its group; returns when that runs.

    The group must need what was leased: to run something larger, order it. What failed half-way can be said again.
    Raises `SdlError`, or `Refused`: `update.group`, `manifest.mismatch`, `lease.closed`, or what a provider says.
    """
    before, record = lease.group, await _record(lease)
    group = next((one for one in sdl.parse(text).manifest if one.name == before.name), None)
    if group is None:
        raise Refused("update.group", f"the file has no group {before.name!r}, as this lease serves")
    if group == before and manifest.commitment(lease.file.salt, before) == record.commitment:
        await lease.deployment.hand_over_one(lease, report)  # the ledger knows it; perhaps its provider does not
        return lease
    manifest.check_against(leased_group(record, group), group)
    await tenant.wallet.ensure(FEE_ALLOWANCE)
    salt = random_blinding_salt()
    message = UpdateManifest(
        deployment=record.deployment, group=record.group, commitment=manifest.commitment(salt, group)
    )
    after = replace(lease.file, salt=salt, manifest=manifest.group_to_json(group))
    changed = await _say(tenant, lease, after, message)
    report(Progress("updated", f"the ledger knows version {record.version + 1}"))
    await changed.deployment.hand_over_one(changed, report)
    return changed


async def replace_provider(
    tenant: Tenant,
    lease: LeaseHandle,
    *,
    max_price: int | None = None,
    reason: int = reasons.REPLACED,
    select: str | Choice = CHEAPEST,
    report: Report = quiet,
) -> LeaseHandle:
    """Give what a lease serves to another provider, from the same escrow; returns when it runs there.

    It is asked for as it was ordered, at most for `max_price` an hour if given. The provider that serves it now is
    not asked. Raises `Refused`: `replace.unknown`, `bids.none`, `escrow.runway` or what the ledger refuses.
    """
    changed = await reassign(tenant, lease, max_price=max_price, reason=reason, select=select, report=report)
    await changed.deployment.hand_over_one(changed, report)
    return changed


async def reassign(
    tenant: Tenant,
    lease: LeaseHandle,
    *,
    max_price: int | None = None,
    reason: int = reasons.REPLACED,
    select: str | Choice = CHEAPEST,
    report: Report = quiet,
) -> LeaseHandle:
    """Likewise, but only on the ledger: what is returned has yet to be handed over."""
    if lease.file.group is None:
        raise Refused("replace.unknown", "what was ordered is not on file here", hint="close it and order anew")
    choice = as_choice(select)
    await tenant.wallet.ensure(FEE_ALLOWANCE)
    draft = await _reorder(tenant, lease, max_price)
    report(Progress("order", f"order {draft.id.hex()[:12]} for another provider"))

    plan = await tenant.hear(draft, choice, without=[lease.file.provider], report=report)
    refusal = ordering.lacking(draft, plan.answers, plan.rankings)
    if refusal is not None:
        raise refusal
    (bid,) = plan.bids()
    replaces = draft.signed.order.replaces
    assert replaces is not None, "as `_reorder` made it"
    message = ReplaceLease(
        deployment=replaces.deployment, group=replaces.group, order=draft.signed, bid=bid, reason=reason
    )
    after = _file_of(lease, draft, bid)
    changed = await _say(tenant, lease, after, message)
    report(Progress("lease", f"lease {changed.id[:12]} takes the place of {lease.id[:12]}"))
    return changed


def _file_of(lease: LeaseHandle, draft: Draft, signed: SignedBid) -> records.LeaseFile:
    return replace(
        lease.file,
        lease=lease_of_order(draft.id, draft.signed.order, GroupIndex(0)),
        provider=signed.bid.provider,
        peer=signed.bid.peer,
        addresses=signed.bid.addresses,
    )


async def _reorder(tenant: Tenant, lease: LeaseHandle, max_price: int | None) -> Draft:
    """An order for what the lease serves, of anybody else."""
    record, group = await _record(lease), lease.file.group
    assert group is not None, "it was asked for before"
    deployment = await tenant.light.record(key_deployment(record.deployment), DeploymentRecord)
    if deployment is None:
        raise Refused("deployment.unknown", "the ledger does not hold this deployment", hint="order anew")
    if max_price is not None:
        group = replace(group, max_price_per_hour=MicroCredits(max_price))
    order = Order(
        tenant=tenant.wallet.signer.public_key,
        groups=(group,),
        commitments=(record.commitment,),
        reclamation_window_ms=record.reclamation_window_ms,
        deposit=MicroCredits(0),
        reply_peers=(),
        expires_at=Millis(clock.now() + ORDER_LIFE_MS),
        salt=random_salt(),
        template=deployment.template,
        replaces=Replaced(deployment=record.deployment, group=record.group, generation=record.generation + 1),
    )
    chain = tenant.light.chain
    signed = SignedOrder(order=order, signature=tenant.wallet.signer.sign(chain, order))
    return Draft(id=order_id(chain, order), signed=signed, manifests=(lease.group,), salts=(lease.file.salt,))


async def _record(lease: LeaseHandle) -> Lease:
    record = await lease.record()
    if record is None:
        raise Refused("lease.unknown", "the ledger does not hold this lease any more", hint="order anew")
    return record


async def _say(
    tenant: Tenant, lease: LeaseHandle, after: records.LeaseFile, message: UpdateManifest | ReplaceLease
) -> LeaseHandle:
    """Have the ledger take a change, with what only its tenant knows on disk before; the lease as it is then.

    Where nobody can say what became of it, the file keeps what is needed for either end: a lease that gives way
    stays beside the one that takes its place.
    """
    before = lease.deployment.file
    leases = tuple(after if one.lease == lease.file.lease else one for one in before.leases)
    changed = replace(before, leases=leases)
    beside = replace(before, leases=(*before.leases, after)) if after.lease != lease.file.lease else changed
    await tenant.light.cross_check()

    def keep(raw: bytes) -> None:
        """Before the ledger: a crash must not lose the salt, nor what may be sent again."""
        records.keep_signed(tenant.folder, before.deployment, raw)
        records.save(tenant.folder, beside)

    try:
        await tenant.wallet.transact(message, keep=keep)
    except Refused:
        records.save(tenant.folder, before)
        records.drop_signed(tenant.folder, before.deployment)
        raise
    records.save(tenant.folder, changed)
    records.drop_signed(tenant.folder, before.deployment)
    return LeaseHandle(Deployment(tenant, changed), after)
