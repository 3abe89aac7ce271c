"""Deployments by name: saying `deploy` twice leaves one deployment, which is as it was said last.

Names are this tenant's own, another key of its home has others; the ledger knows none. What stands under a name is
the newest deployment on file some lease of which has not ended. A file is written before the ledger is told, so
that one whose leases nobody has seen may be of a `deploy` that was killed: its transaction is waited for while it
can come, and then it does not count.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import trio

from fondaco.node import clock
from fondaco.node.tenant import changing, records
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import Deployment, LeaseHandle
from fondaco.node.tenant.progress import Progress, Report, quiet
from fondaco.node.tenant.wallet import TX_LIFE_MS
from fondaco.protocol import manifest, sdl
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import Lease, LeaseState, key_lease
from fondaco.protocol.resources import Group
from fondaco.protocol.selection import show_credits

PENDING_MS = TX_LIFE_MS + 5_000
"""So long after its file was written a lease may still come: a transaction's life, and some for clocks."""
LOOKED_AT = 64
"""Deployments of one name, the newest, that are looked at."""


class Step(enum.Enum):
    """What a further `deploy` does to what stands."""

    NOTHING = "nothing"
    """It runs what the file says."""
    GO_ON = "go_on"
    """It was begun, and is handed over."""
    UPDATE = "update"
    """It runs something else on the same resources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The deployment of a name, and those of its leases that have not ended."""

    deployment: Deployment
    leases: Mapping[str, tuple[LeaseHandle, Lease]]
    """By the name of their group."""

    @property
    def name(self) -> str:
        return self.deployment.file.name

    @property
    def price_per_hour(self) -> int:
        return sum(lease.price_per_hour for _, lease in self.leases.values())


async def standing(tenant: Tenant, name: str, *, report: Report = quiet) -> Standing | None:
    """What stands under this name, if anything; where a lease may still come, it is waited for."""
    own = tenant.wallet.signer.public_key
    named = [one for one in records.load_all(tenant.folder) if one.name == name and one.is_of(own)]
    for record in reversed(named[-LOOKED_AT:]):
        found = await _living(tenant, record)
        if not found and await _comes(tenant, record, report):
            found = await _living(tenant, record)
        if found:
            return Standing(deployment=Deployment(tenant, record), leases=found)
    return None


async def _living(tenant: Tenant, record: records.DeploymentFile) -> dict[str, tuple[LeaseHandle, Lease]]:
    found = {}
    for handle in Deployment(tenant, record).leases:
        lease = await handle.record()
        if lease is not None and lease.state is not LeaseState.CLOSED:
            found[handle.group.name] = (handle, lease)
    return found


async def _comes(tenant: Tenant, record: records.DeploymentFile, report: Report) -> bool:
    """Whether the ledger gets a lease that it does not hold, waiting while it may."""
    path = records.path_of(tenant.folder, record)
    left_ms = path.stat().st_mtime_ns // 1_000_000 + PENDING_MS - clock.now()
    key = key_lease(record.leases[0].lease)
    if left_ms <= 0 or await tenant.light.record(key, Lease) is not None:
        return False
    report(
        Progress(
            "pending", f"{record.name} was begun before: does its lease still come? up to {left_ms // 1_000} s"
        )
    )
    with trio.move_on_after(left_ms / 1_000):
        await tenant.light.wait_record(key, Lease, lambda lease: lease is not None)
        return True
    return False


def step(here: Standing, text: bytes, tenant: Tenant) -> Step:
    """What it takes for what stands to be as the file says.

    Raises `SdlError`, or `Refused`: `deploy.changed` where the file needs something else than what was leased,
    `deploy.partly` where only some of the leases have not ended.
    """
    stack = sdl.parse(text)
    groups = {group.name: group for group in stack.groups(tenant.aliases())}
    leased = {handle.group.name for handle in here.deployment.leases}
    if leased != groups.keys():
        raise _changed(here, f"its groups are {_names(leased)}, the file has {_names(groups.keys())}")
    if len(here.leases) < len(leased):
        ended = _names(leased - here.leases.keys())
        raise Refused(
            "deploy.partly", f"of {here.name!r} the lease for {ended} has ended and others run", hint=_ways(here)
        )
    now = {group.name: group for group in stack.manifest}
    found: set[Step] = set()
    for name, (handle, lease) in here.leases.items():
        _check_same(here, handle, groups[name])
        if stack.reclamation_ms > lease.reclamation_window_ms:
            raise _changed(
                here, f"its provider gives less notice than the {stack.reclamation_ms} ms that are asked"
            )
        same = handle.group == now[name]
        if not same or manifest.commitment(handle.file.salt, handle.group) != lease.commitment:
            found.add(Step.UPDATE)
        elif lease.state is LeaseState.AWAITING:
            found.add(Step.GO_ON)
    return next((one for one in (Step.UPDATE, Step.GO_ON) if one in found), Step.NOTHING)


async def settle(tenant: Tenant, here: Standing, text: bytes, *, report: Report = quiet) -> Deployment:
    """Make what stands as the file says; returns when every lease runs it. What is so already costs nothing.

    Raises as `step` and `changing.update` do.
    """
    step(here, text, tenant)
    stack = sdl.parse(text)
    for group in stack.groups(tenant.aliases()):
        price = here.leases[group.name][1].price_per_hour
        if price > group.max_price_per_hour:
            most = show_credits(group.max_price_per_hour)
            told = (
                f"{group.name} goes on at {show_credits(price)}/h: that the file allows {most}/h is for new orders"
            )
            report(Progress("price", told))
    current = here.deployment
    for handle, _ in here.leases.values():
        # By the file as it is by then: each update writes its own salt into it.
        (lease,) = (one for one in current.leases if one.file.lease == handle.file.lease)
        current = (await changing.update(tenant, lease, text, report=report)).deployment
    return current


def _check_same(here: Standing, handle: LeaseHandle, asked: Group) -> None:
    """Raises `Refused` `deploy.changed` unless what is asked is what was ordered, the price apart."""
    ordered = handle.file.group
    if ordered is None:
        return  # of before that was kept: what an update may be is then judged alone by what was leased
    if ordered.units != asked.units:
        raise _changed(here, f"the file asks other resources for group {asked.name!r} than were leased")
    if ordered.placement != asked.placement:
        raise _changed(here, f"the file wants group {asked.name!r} placed otherwise")


def _changed(here: Standing, why: str) -> Refused:
    return Refused("deploy.changed", f"{here.name!r} stands and is no such deployment: {why}", hint=_ways(here))


def _ways(here: Standing) -> str:
    """How to have it as the file says all the same."""
    closing = " && ".join(f"fondaco close {handle.id[:12]}" for handle, _ in here.leases.values())
    return f"`{closing}` and deploy again, or deploy it beside with --name {here.name}-2"


def _names(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
