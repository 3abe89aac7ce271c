"""A deployment that exists on the ledger: handing it over, using it, ending it."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from fondaco.node.groups import unwrapped
from fondaco.node.keys.sealing import seal
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.network.stream import Stream
from fondaco.node.tenant.channel import ChannelClient, Items
from fondaco.node.tenant.executing import RunningCommand
from fondaco.node.tenant.progress import Progress, Report
from fondaco.node.tenant.records import DeploymentFile, LeaseFile
from fondaco.protocol import channel, codec, manifest
from fondaco.protocol.channel_calls import HandOff, LeaseEvent, LogItem, Status, Usage
from fondaco.protocol.channel_exec import ExecRequest, WindowSize
from fondaco.protocol.errors import FondacoError, Refused, Unreachable
from fondaco.protocol.market import Receipt, SignedReceipt
from fondaco.protocol.messages import CloseLease, Deposit
from fondaco.protocol.reasons import CLOSED_BY_TENANT
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

if TYPE_CHECKING:
    from fondaco.node.tenant.client import Tenant

log = logging.getLogger("fondaco.tenant")
HANDOFF_TIMEOUT_S = 120
PROBE_TIMEOUT_S = 30
ANSWER_TIMEOUT_S = 5
"""For an answer to a GET; what is silent for longer does not speak HTTP."""
PROBE_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How a lease ended, proven."""

    paid: int
    """To the provider, in ucredit."""
    refunded: int
    """Back to this tenant, in ucredit, fees apart."""
    reason: int


class LeaseHandle:
    """One lease: the provider's channel and the ledger's record of it."""

    def __init__(self, deployment: Deployment, file: LeaseFile) -> None:
        self.deployment = deployment
        self.file = file
        self._tenant = deployment.tenant

    @property
    def id(self) -> str:
        return self.file.lease.hex()

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

    async def record(self, *, at_least: int = 0) -> Lease | None:
        """What the ledger holds, proven."""
        return await self._tenant.light.record(key_lease(self.file.lease), Lease, at_least=at_least)

    def channel(self) -> ChannelClient:
        """The encrypted channel to the provider; each call opens a stream of its own."""
        return ChannelClient(
            open_stream=self._open_stream,
            signer=self._tenant.wallet.signer,
            chain=self._tenant.light.chain,
            lease=self.file.lease,
            provider=self.file.provider,
            own_peer=self._tenant.light.host.peer_id,
            provider_peer=self.file.peer,
        )

    async def _open_stream(self) -> Stream:
        """At the addresses that its bid named; or if it is at none of them any more, wherever it is now."""
        try:
            return await self._open_at(self.file.addresses)
        except Unreachable as error:
            moved = await self._tenant.light.kad.find(PeerId(self.file.peer))
            fresh = [address for address in moved if address not in self.file.addresses]
            if not fresh:
                raise
            log.info("%s; it is said to be at %s now", error, fresh)
            return await self._open_at(fresh)

    async def _open_at(self, addresses: Sequence[str]) -> Stream:
        """Raises `Unreachable` `channel.unreachable`."""
        host = self._tenant.light.host
        errors: list[FondacoError] = []
        for address in addresses:
            try:
                peer = await host.connect(Address(address))
            except FondacoError as error:
                errors.append(error)
                continue
            if peer == self.file.peer:
                return await host.open_stream(peer, channel.PROTOCOL)
        raise Unreachable(
            "channel.unreachable", f"the provider of lease {self.id[:12]} does not answer: {errors[:1]}"
        )

    async def status(self) -> Status:
        return await self.channel().status()

    def logs(
        self, *, service: str = "", tail: int | None = None, follow: bool = False, previous: bool = False
    ) -> Items[LogItem]:
        """The workload's output, oldest first; who leaves early does so by `async with`.

        `previous`: of the run before its last start.
        """
        return self.channel().logs(service=service, tail=tail, follow=follow, previous=previous)

    def events(self, *, after: int = 0, follow: bool = False) -> Items[LeaseEvent]:
        """What happened to it at its provider, oldest first; also for a day after it was closed."""
        return self.channel().events(after, follow)

    def usage(self, *, service: str = "", follow: bool = False) -> Items[Usage]:
        """What each replica takes now; each second again with `follow`."""
        return self.channel().usage(service, follow)

    @asynccontextmanager
    async def forward(self, service: str, port: int) -> AsyncIterator[Any]:
        """A byte stream to a port inside the workload."""
        stream = await self.channel().forward(service, port)
        try:
            yield stream
        finally:
            with trio.CancelScope(shield=True):
                await stream.aclose()

    @asynccontextmanager
    async def exec(
        self,
        argv: Sequence[str | bytes],
        *,
        service: str = "",
        replica: int = 0,
        env: Mapping[str, str] | None = None,
        terminal: WindowSize | None = None,
    ) -> AsyncIterator[RunningCommand]:
        """Run a command inside a replica, confined as that is; leaving the block kills whatever is left of it.

            async with lease.exec(["python3", "-c", code]) as command:
                await command.end_input()
                async for output in command:
                    print(output.stream, output.data)
            print(command.exit_code)

        `service`: the one with the main port, unless given. `env` goes over the workload's. With a `terminal` of
        some size it is run on one. Raises what `ChannelClient.exec` does.
        """
        request = ExecRequest(
            service=service or self.main_service(),
            replica=replica,
            argv=tuple(os.fsencode(word) for word in argv),
            env=tuple(os.fsencode(f"{name}={value}") for name, value in (env or {}).items()),
            terminal=terminal,
        )
        command = await self.channel().exec(request)
        try:
            yield command
        finally:
            await command.aclose()

    async def request(self, path: str = "/", *, service: str = "", port: int = 0) -> tuple[int, bytes]:
        """HTTP GET through the channel; (status, body)."""
        main_service, main_port = self.main_port()
        answer = await self.channel().http_get(service or main_service, port or main_port, path)
        return answer.status, answer.body

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
        out = funds(held_before) - funds(held_after)
        return Settled(paid=lease.paid, refunded=out - (lease.paid - paid_before), reason=lease.reason or 0)


def funds(deployment: DeploymentRecord) -> int:
    """Ucredit in its escrow, as of when it was settled last."""
    return sum(deposit.amount for deposit in deployment.deposits)


class Deployment:
    """A tenant's deployment and its leases."""

    def __init__(self, tenant: Tenant, file: DeploymentFile) -> None:
        self.tenant = tenant
        self.file = file
        self.leases = [LeaseHandle(self, lease) for lease in file.leases]

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
        """Give every provider its manifest, and return when everything runs as this tenant sees it."""
        try:
            with unwrapped():
                async with trio.open_nursery() as nursery:
                    for lease in self.leases:
                        nursery.start_soon(self.hand_over_one, lease, report)
        except FondacoError as error:
            raise Refused(
                error.code,
                f"{error.message}; the deposit is still in escrow",
                hint=f"`fondaco close {self.leases[0].id[:12]}` ends the lease and returns what is left",
            ) from error

    async def hand_over_one(self, lease: LeaseHandle, report: Report) -> None:
        """Likewise for one lease. Raises `Refused` or `Unreachable`."""
        with trio.move_on_after(HANDOFF_TIMEOUT_S) as scope:
            await self._put_manifest(lease, report)
            await self._active(lease)
            report(Progress("activated", f"lease {lease.id[:12]} is active on the ledger"))
            status = await self._probe(lease)
            self.tenant.timeline.mark("running")
            report(Progress("running", f"lease {lease.id[:12]} {status}"))
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

    async def _probe(self, lease: LeaseHandle) -> str:
        """Reach the workload through the channel, as its tenant will; what was seen."""
        if not any(service.expose for service in lease.group.services):
            return f"is {(await lease.status()).phase}; it exposes no port to try"
        service, expose = lease.main_expose()
        with trio.move_on_after(PROBE_TIMEOUT_S):
            while expose.is_ingress:
                try:
                    with trio.fail_after(ANSWER_TIMEOUT_S):
                        status, body = await lease.request("/")
                except trio.TooSlowError:
                    break
                except FondacoError as error:
                    if error.code == "http.malformed":
                        break
                    log.debug("not yet: %s", error)
                    await trio.sleep(PROBE_PAUSE_S)
                else:
                    self.tenant.timeline.mark("first_byte")
                    return f"answers {status} with {len(body)} bytes on {service}:{expose.port}"
        if expose.proto != manifest.TCP:
            return f"is {(await lease.status()).phase}; {service}:{expose.port} takes datagrams: not tried"
        async with lease.forward(service, expose.port):  # the provider has seen that connections are accepted
            self.tenant.timeline.mark("first_byte")
        return f"accepts connections on {service}:{expose.port}"
