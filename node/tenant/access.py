"""What can be done with a lease that runs: by its tenant, or by whom the tenant gave a token."""

from __future__ import annotations

import logging
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from fondaco.node.network.peers import PeerId
from fondaco.node.network.stream import Stream
from fondaco.node.tenant.channel import ChannelClient, Items
from fondaco.node.tenant.executing import RunningCommand
from fondaco.node.tenant.handed_over import Served, check_served
from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.reaching import reach
from fondaco.protocol import channel
from fondaco.protocol.capabilities import SignedCapability
from fondaco.protocol.channel_calls import LeaseEvent, LogItem, Status, Usage
from fondaco.protocol.channel_exec import ExecRequest, WindowSize
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.manifest import ManifestGroup
from fondaco.protocol.records import Deployment, Lease, key_deployment, key_lease
from fondaco.protocol.scalars import Hash, LeaseId, PublicKey
from fondaco.protocol.signing import Signer

log = logging.getLogger("fondaco.tenant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A lease, and where its provider is reached."""

    lease: LeaseId
    provider: PublicKey
    peer: str
    addresses: tuple[str, ...]


class Access(ABC):
    """A way to one lease: `LeaseHandle` for its tenant, `SharedLease` for the holder of a token.

    Every method raises `Refused` with what the provider says, or `Unreachable`.
    """

    def __init__(
        self, light: LightClient, signer: Signer, place: Place, token: SignedCapability | None = None
    ) -> None:
        self.light = light
        self.place = place
        self.token = token
        self._signer = signer

    @property
    def id(self) -> str:
        return self.place.lease.hex()

    @property
    @abstractmethod
    def name(self) -> str:
        """What people call it."""

    @property
    @abstractmethod
    def group(self) -> ManifestGroup | None:
        """What it was told to run; None if that is not known here."""

    @abstractmethod
    def main_port(self) -> tuple[str, int]:
        """The service and port that people mean where they name none. Raises `Refused` `lease.no_port`."""

    @abstractmethod
    def main_service(self) -> str:
        """The service that people mean where they name none."""

    async def record(self, *, at_least: int = 0) -> Lease | None:
        """What the ledger holds, proven."""
        return await self.light.record(key_lease(self.place.lease), Lease, at_least=at_least)

    async def escrow(self) -> Deployment | None:
        """The deployment it belongs to, and what its escrow holds, proven."""
        record = await self.record()
        return None if record is None else await self.light.record(key_deployment(record.deployment), Deployment)

    def channel(self) -> ChannelClient:
        """The encrypted channel to the provider; each call opens a stream of its own."""
        return ChannelClient(
            open_stream=self._open_stream,
            signer=self._signer,
            chain=self.light.chain,
            lease=self.place.lease,
            provider=self.place.provider,
            own_peer=self.light.host.peer_id,
            provider_peer=self.place.peer,
            token=self.token,
        )

    async def _open_stream(self) -> Stream:
        """Raises `Unreachable` `channel.unreachable`."""
        try:
            peer = await reach(self.light, PeerId(self.place.peer), self.place.addresses)
        except Unreachable as error:
            told = f"the provider of lease {self.id[:12]} does not answer: {error.message}"
            raise Unreachable("channel.unreachable", told) from None
        return await self.light.host.open_stream(peer, channel.PROTOCOL)

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

    async def get_manifest(self) -> Served:
        """What the provider serves, checked against the ledger and the tenant's receipt.

        Raises `Refused` `manifest.none`, `lease.unknown`, or what `check_served` does.
        """
        said = await self.channel().get_manifest()
        record = await self.record()
        if record is None:
            raise Refused("lease.unknown", "the ledger does not hold this lease any more")
        return check_served(self.light.chain, record, said)

    async def attest(self) -> None:
        """Ask for evidence of the hardware. Raises `Refused` `attestation.none` where there is none."""
        await self.channel().attest(Hash(secrets.token_bytes(32)))

    async def request(self, path: str = "/", *, service: str = "", port: int = 0) -> tuple[int, bytes]:
        """HTTP GET through the channel; (status, body)."""
        main_service, main_port = self.main_port()
        answer = await self.channel().http_get(service or main_service, port or main_port, path)
        return answer.status, answer.body
