"""A deployment that exists on the ledger: handing it over, using it, ending it."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from fondaco.node.groups import unwrapped
from fondaco.node.keys.sealing import seal
from fondaco.node.tenant import owning, serving
from fondaco.node.tenant.access import Access, Place
from fondaco.node.tenant.channel import Items
from fondaco.node.tenant.progress import Progress, Report, quiet
from fondaco.node.tenant.records import DeploymentFile, LeaseFile
from fondaco.protocol import addresses, codec, manifest
from fondaco.protocol.channel_calls import HandOff, LogItem, Stopped
from fondaco.protocol.errors import FondacoError, Refused, Unreachable
from fondaco.protocol.market import Receipt, SignedReceipt
from fondaco.protocol.messages import CloseLease, Deposit
from fondaco.protocol.reasons import CLOSED_BY_TENANT, NOT_SERVING
from fondaco.protocol.records import (
    Deployment as DeploymentRecord,
)
from fondaco.protocol.records import (
    Lease,
    LeaseState,
    Provider,
    key_deployment,
    key_lease,
    key_provider,
)
from fondaco.protocol.scalars import MicroCredits, PublicKey
from fondaco.protocol.selection import show_credits

if TYPE_CHECKING:
    from fondaco.node.tenant.client import Tenant

log = logging.getLogger("fondaco.tenant")
HANDOFF_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How a lease ended, proven."""

    paid: int
    """To the provider, in ucredit."""
    refunded: int
    """Back to this tenant, in ucredit, fees apart."""
    reason: int


class LeaseHandle(Access):
    """One lease of this tenant's: the provider's channel and the ledger's record of it."""

    def __init__(self, deployment: Deployment, file: LeaseFile) -> None:
        self.deployment = deployment
        self.file = file
        self._tenant = tenant = deployment.tenant
        place = Place(lease=file.lease, provider=file.provider, peer=file.peer, addresses=file.addresses)
        super().__init__(tenant.light, tenant.wallet.signer, place)

    @property
    def name(self) -> str:
        return self.deployment.file.name

    @property
    def group(self) -> manifest.ManifestGroup:
        return manifest.parse_group(self.file.manifest)

    def main_port(self) -> tuple[str, int]:
        """The service and port that people mean: the first one open to the world, else the first one."""
        service, expose = self.main_expose()
        return service, expose.port

    def main_expose(self) -> tuple[str, manifest.Expose]:
        """Likewise, with all that is said of the port. Raises `Refused` `lease.no_port`."""
        exposed = [(service.name, one) for service in self.group.services for one in service.expose]
        if not exposed:
            raise Refused("lease.no_port", "this lease exposes no port")
        return next((pair for pair in exposed if pair[1].is_global), exposed[0])

    def main_service(self) -> str:
        """The service that people mean: the one with the main port, else the first one."""
        services = self.group.services
        return self.main_port()[0] if any(one.expose for one in services) else services[0].name

    async def stop(self, *, grace_ms: int = 2_000) -> Stopped:
        """Have its provider stop everything now; how each replica ended.

        The lease goes on, and is paid for, until it is closed. Handing over again starts it again.
        """
        return await self.channel().stop(grace_ms=grace_ms)

    async def close(self, *, reason: int = CLOSED_BY_TENANT) -> Settled:
        """End the lease; what it earned is paid, and with the last lease the rest is refunded."""
        wallet = self._tenant.wallet
        held_before = await self.deployment.record()
        lease = await self.record()
        paid_before = 0 if lease is None else lease.paid
        height = await wallet.transact(CloseLease(lease=self.file.lease, reason=reason))
        lease = await self.record(at_least=height)
        held_after = await self.deployment.record(at_least=height)
        if lease is None or held_after is None or held_before is None or lease.state != LeaseState.CLOSED:
            raise Refused("lease.unproven", "a node says the lease is closed, and the ledger does not show it")
        refunded = funds(held_before) - funds(held_after) - (lease.paid - paid_before)
        wallet.returned({self.deployment.file.deployment.hex(): refunded})
        return Settled(paid=lease.paid, refunded=refunded, reason=lease.reason or 0)


def funds(deployment: DeploymentRecord) -> int:
    """Ucredit in its escrow, as of when it was settled last."""
    return sum(deposit.amount for deposit in deployment.deposits)


class Deployment:
    """A tenant's deployment and its leases. Raises `Refused` `keys.not_owner` for one of another key's."""

    def __init__(self, tenant: Tenant, file: DeploymentFile) -> None:
        owning.check(tenant, file)
        self.tenant = tenant
        self.file = file
        self.leases = [LeaseHandle(self, lease) for lease in file.leases]

    @property
    def lease(self) -> LeaseHandle:
        """The one that people mean: of the first group. Everything one can do with what runs is there."""
        return self.leases[0]

    async def request(self, path: str = "/") -> tuple[int, bytes]:
        """HTTP GET through the channel; (status, body)."""
        return await self.lease.request(path)

    def logs(self, *, service: str = "", tail: int | None = None, follow: bool = False) -> Items[LogItem]:
        """The output of what runs, oldest first; who leaves early does so by `async with`."""
        return self.lease.logs(service=service, tail=tail, follow=follow)

    async def update(self, file: Path, *, report: Report = quiet) -> Deployment:
        """Have every lease run what the SDL file says now of its group. Raises as `changing.update` does."""
        from fondaco.node.tenant import changing, ordering

        text, current = ordering.read_sdl(file), self
        for number in range(len(self.leases)):
            current = (await changing.update(self.tenant, current.leases[number], text, report=report)).deployment
        return current

    async def close(self, *, reason: int = CLOSED_BY_TENANT) -> Settled:
        """End every lease that has not ended; what they were paid, and what came back, together."""
        paid = refunded = 0
        for lease in self.leases:
            record = await lease.record()
            if record is not None and record.state is not LeaseState.CLOSED:
                settled = await lease.close(reason=reason)
                paid, refunded = paid + settled.paid, refunded + settled.refunded
        return Settled(paid=paid, refunded=refunded, reason=reason)

    async def record(self, *, at_least: int = 0) -> DeploymentRecord | None:
        """What the ledger holds of it and its escrow, proven."""
        return await self.tenant.light.record(
            key_deployment(self.file.deployment), DeploymentRecord, at_least=at_least
        )

    async def top_up(self, amount: int, *, payer: PublicKey | None = None) -> DeploymentRecord:
        """Put so many ucredit more into its escrow, of one's own or by a spending grant of `payer`'s.

        In the grace after an escrow ran dry the workloads go on, once what is owed is covered. Returns the proven
        record. Raises `Refused` `wallet.funds`, or as the ledger does: `deposit.too_small`, `deployment.closed`.
        """
        if payer is None:
            await self.tenant.wallet.ensure(amount)
        deposit = Deposit(deployment=self.file.deployment, amount=MicroCredits(amount), payer=payer)
        height = await self.tenant.wallet.transact(deposit)
        found = await self.record(at_least=height)
        if found is None:
            raise Refused(
                "deployment.unproven", "a node says the deposit was made, and the ledger does not show it"
            )
        return found

    async def hand_over(self, report: Report) -> None:
        """Give every provider its manifest, and return when everything runs as this tenant sees it.

        If a provider says that a workload runs and it does not serve, all the leases are closed with the reason
        `not_serving`, and what is left comes back. Raises `Refused` `lease.not_serving` then; of anything else
        that fails it says what is in escrow and how to go on.
        """
        try:
            with unwrapped():
                async with trio.open_nursery() as nursery:
                    for lease in self.leases:
                        nursery.start_soon(self.hand_over_one, lease, report)
        except FondacoError as error:
            if error.code == serving.NOT_SERVING:
                with contextlib.suppress(Unreachable):  # then it is still open, as is said below
                    await self._give_up(error, report)
            raise Refused(
                error.code,
                f"{error.message}; {await self._at_risk()} in escrow",
                hint="deploying it again goes on with it; "
                f"`fondaco close {self.leases[0].id[:12]}` ends the lease and returns what is left",
            ) from error

    async def _give_up(self, error: FondacoError, report: Report) -> None:
        """Close what does not serve. Raises `Refused` `lease.not_serving` with what came back."""
        report(Progress("closing", error.message))
        settled = await self.close(reason=NOT_SERVING)
        others = " and ".join(f"not provider = {addresses.encode(lease.file.provider)}" for lease in self.leases)
        raise Refused(
            serving.NOT_SERVING,
            f"{error.message}; it was closed: {show_credits(settled.paid)} credits paid, "
            f"{show_credits(settled.refunded)} back",
            hint=f"order from others: fondaco deploy FILE --where '{others}'",
        ) from error

    async def _at_risk(self) -> str:
        """The funds in escrow, as far as that can be proven."""
        try:
            record = await self.record()
        except FondacoError:
            record = None
        return "the deposit is still" if record is None else f"{show_credits(funds(record))} credits are still"

    async def hand_over_one(self, lease: LeaseHandle, report: Report) -> None:
        """Likewise for one lease, which is closed by nobody here. Raises `Refused` or `Unreachable`."""
        with trio.move_on_after(HANDOFF_TIMEOUT_S) as scope:
            await self._put_manifest(lease, report)
            await self._active(lease)
            report(Progress("activated", f"lease {lease.id[:12]} is active on the ledger"))
            seen = await serving.probe(lease)
            if seen.answered:
                self.tenant.timeline.mark("first_byte")
            self.tenant.timeline.mark("running")
            report(Progress("running", f"lease {lease.id[:12]} {seen.told}"))
        if scope.cancelled_caught:
            raise Unreachable("handoff.timeout", f"lease {lease.id[:12]} does not run after {HANDOFF_TIMEOUT_S} s")

    async def _put_manifest(self, lease: LeaseHandle, report: Report) -> None:
        file, tenant = lease.file, self.tenant
        provider = await tenant.light.record(key_provider(file.provider), Provider)
        record = await lease.record()
        if provider is None or record is None:
            raise Refused("provider.unknown", "the ledger does not hold this lease and its provider")
        hand_off = HandOff(salt=file.salt, manifest=file.manifest)
        receipt = Receipt(lease=file.lease, version=record.version, commitment=record.commitment)
        signed = SignedReceipt(receipt=receipt, signature=tenant.wallet.signer.sign(tenant.light.chain, receipt))
        sealed = seal(codec.encode(hand_off), provider.sealing_key)
        async for progress in lease.channel().put_manifest(sealed, signed):
            report(Progress(progress.step, progress.detail))

    async def _active(self, lease: LeaseHandle) -> None:
        found = await self.tenant.light.wait_record(
            key_lease(lease.file.lease),
            Lease,
            lambda record: record is not None and record.state != LeaseState.AWAITING,
        )
        if found is None or found.state != LeaseState.ACTIVE:
            raise Refused("lease.not_activated", "the lease ended before its provider activated it")
