"""One look at a replica: what the ledger proves, what its provider says, and whether the workload answers.

And what a crash left on file: while a replacement is on its way to the ledger, the file of a deployment holds both
ends (see `changing`), and here it is found out which one it came to. What was signed is sent again: it is the same
transaction, which the ledger takes once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import trio

from fondaco.node import clock
from fondaco.node.tenant import proxying, records
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import Deployment, LeaseHandle
from fondaco.node.tenant.records import DeploymentFile, LeaseFile
from fondaco.node.tenant.supervision import Seen
from fondaco.node.tenant.upstreams import upstream
from fondaco.node.tenant.wallet import TX_LIFE_MS
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.records import Deployment as DeploymentRecord
from fondaco.protocol.records import Lease, LeaseState, key_lease
from fondaco.protocol.scalars import Millis

log = logging.getLogger("fondaco.tenant")
LOOK_S = 3.0
"""For each of the questions, which are asked at once."""
SLACK_MS = 5_000
"""A transaction is over so long after it expired: block time may lag."""
PENDING_MS = 10_000
"""A replacement that was signed is waited for so long: most take a second, and a crash may have kept one back."""


@dataclass(frozen=True, slots=True)
class Found:
    """A look, and the lease that it was about."""

    handle: LeaseHandle
    began: Millis
    """What the ledger says is no older than this."""
    seen: Seen
    leases: tuple[Lease, ...]
    """All of the deployment, as proven."""


async def look(tenant: Tenant, file: DeploymentFile, place: int, *, path: str = "/") -> Found:
    """Look at the lease that serves a deployment's group at `place`; never raises for what others do."""
    began = Millis(clock.now())
    file, pending = await settled(tenant, file)
    group = list(dict.fromkeys(one.manifest for one in file.leases))[place]
    lease = next(one for one in file.leases if one.manifest == group)
    handle = LeaseHandle(Deployment(tenant, file), lease)
    said: dict[str, object] = {}
    wrong: list[str] = []

    async def ask(what: str) -> None:
        try:
            with trio.fail_after(LOOK_S):
                match what:
                    case "ledger":
                        said[what] = await _proven(tenant, handle)
                    case "provider":
                        said[what] = await handle.status()
                    case _:
                        await probe(handle, path)
                        said[what] = True
        except (FondacoError, trio.TooSlowError) as error:
            wrong.append(str(error) or f"the {what} did not answer in time")

    async with trio.open_nursery() as nursery:
        for what in ("ledger", "provider", "workload"):
            nursery.start_soon(ask, what)
    ledger = said.get("ledger")
    deployment, leases = ledger if isinstance(ledger, tuple) else (None, ())
    seen = Seen(
        at=Millis(clock.now()),
        proven=ledger is not None,
        deployment=deployment,
        lease=next((one for one in leases if one.id == handle.file.lease), None),
        pending=pending,
        reachable="provider" in said,
        answers="workload" in said,
        detail="; ".join(wrong),
    )
    return Found(handle, began, seen, leases)


async def _proven(tenant: Tenant, handle: LeaseHandle) -> tuple[DeploymentRecord | None, tuple[Lease, ...]]:
    deployment = await handle.deployment.record()
    identities = {handle.file.lease, *(deployment.leases if deployment is not None else ())}
    found = [await tenant.light.record(key_lease(one), Lease) for one in sorted(identities)]
    return deployment, tuple(one for one in found if one is not None)


async def probe(handle: LeaseHandle, path: str = "/") -> None:
    """Reach the workload as its clients do; where it has no port, ask whether it runs.

    Raises `Refused` or `Unreachable` if it does not answer.
    """
    if not any(service.expose for service in handle.group.services):
        await _running(handle)
        return
    _, expose = handle.main_expose()
    stream = await upstream(handle, name=handle.name).connect()
    try:
        if expose.is_ingress:
            await proxying.ask(stream, path)
    except trio.BrokenResourceError as error:
        raise proxying.unwell("it broke off") from error
    finally:
        with trio.CancelScope(shield=True):
            await stream.aclose()


async def _running(handle: LeaseHandle) -> None:
    status = await handle.status()
    if status.phase != "running" or any(one.state != "running" for one in status.services):
        raise proxying.unwell(f"it is {status.phase}")


async def settled(tenant: Tenant, file: DeploymentFile) -> tuple[DeploymentFile, bool]:
    """A deployment's file, where what the ledger has decided is left; and whether something is still on its way.

    Two leases of one group are on file while nobody knows which of them there is. The one that the ledger names
    stays; the other one goes, the newer of them only once its transaction cannot be included any more. Long before
    that it may be tried again: the ledger takes one of all attempts at the same replacement (decision 0027).
    """
    groups = [one.manifest for one in file.leases]
    if len(set(groups)) == len(groups):
        return file, False
    try:
        with trio.fail_after(LOOK_S):
            record = await Deployment(tenant, file).record()
    except (FondacoError, trio.TooSlowError):
        return file, True
    if record is None:
        return file, False
    written_ms = records.written_at(tenant.folder, file.deployment)
    age_ms = clock.now() - written_ms
    over = age_ms > TX_LIFE_MS + SLACK_MS
    kept: list[LeaseFile] = []
    for group in dict.fromkeys(groups):
        rivals = [one for one in file.leases if one.manifest == group]
        named = [one for one in rivals if one.lease in record.leases]
        if len(named) > 1:  # of two attempts at the same replacement one was taken
            named = await _of_provider(tenant, named)
        taken = {one.lease for one in named}
        settled_so = over or (bool(named) and named[0] is not rivals[0])
        newer = [] if settled_so else [one for one in rivals if one.lease not in taken]
        kept += [*named[:1], *newer] if named else rivals[:1]
    both = len({one.manifest for one in kept}) != len(kept)
    if both and not over:
        await _send_again(tenant, file)
    if tuple(kept) != file.leases:
        file = replace(file, leases=tuple(kept))
        if not both:
            records.save(tenant.folder, file)
            records.drop_signed(tenant.folder, file.deployment)
    return file, both and age_ms <= PENDING_MS


async def _send_again(tenant: Tenant, file: DeploymentFile) -> None:
    """What was signed before a crash may never have left; where it did, this changes nothing."""
    raw = records.kept_signed(tenant.folder, file.deployment)
    if raw is None:
        return
    try:
        with trio.fail_after(LOOK_S):
            await tenant.light.submit_transaction(raw)
    except (FondacoError, trio.TooSlowError) as error:
        log.info("what was signed was not taken: %s", error)


async def _of_provider(tenant: Tenant, rivals: list[LeaseFile]) -> list[LeaseFile]:
    lease = await tenant.light.record(key_lease(rivals[0].lease), Lease)
    if lease is None or lease.state is LeaseState.CLOSED:
        return rivals[:1]
    return [one for one in rivals if one.provider == lease.provider] or rivals[:1]
