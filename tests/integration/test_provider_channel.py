"""The lease channel over real libp2p streams on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from tests.support.network import pair
from tests.support.providers import (
    CHAIN,
    OTHER,
    PROVIDER,
    TENANT,
    Site,
    hand_off,
    make_lease,
    make_order,
    open_site,
)

from fondaco.node.network.host import Host
from fondaco.node.network.stream import Stream
from fondaco.node.tenant.channel import ChannelClient
from fondaco.protocol import limits
from fondaco.protocol.channel import PROTOCOL
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import Lease
from fondaco.provider.gateway import Gateway


@dataclass
class Wire:
    """A lease that runs behind one host, and a tenant at another."""

    site: Site
    lease: Lease
    tenant: Host
    provider: Host

    def client(self, *, own_peer: str | None = None, stranger: bool = False) -> ChannelClient:
        async def open_stream() -> Stream:
            return await self.tenant.open_stream(self.provider.peer_id, PROTOCOL)

        return ChannelClient(
            open_stream=open_stream,
            signer=OTHER if stranger else TENANT,
            chain=CHAIN,
            lease=self.lease.id,
            provider=PROVIDER.public_key,
            own_peer=own_peer or self.tenant.peer_id,
            provider_peer=self.provider.peer_id,
        )


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with open_site(tmp_path) as site, pair() as (tenant, provider):
        lease = make_lease(make_order())
        site.chain.put(lease)
        async with site.running(peer=provider.peer_id) as agent:
            provider.handle(PROTOCOL, Gateway(agent).serve)
            wire = Wire(site, lease, tenant, provider)
            steps = [item.step async for item in wire.client().put_manifest(*hand_off(lease))]
            assert steps[-1] == "running"
            yield wire


async def test_every_method_works_over_libp2p(wire: Wire) -> None:
    client = wire.client()
    assert (await client.status()).phase == "running"
    assert [item.line async for item in client.logs()] == ["started"]
    assert (await client.http_get("web", 80, "/here")).body == b"you asked for /here"


async def test_strangers_and_borrowed_peer_ids_are_refused_with_their_codes(wire: Wire) -> None:
    for client, code in (
        (wire.client(stranger=True), "lease.tenant"),
        (wire.client(own_peer=wire.provider.peer_id), "channel.proof"),
    ):
        with pytest.raises(Refused) as error:
            await client.status()
        assert error.value.code == code


async def test_megabytes_come_back_whole_and_half_close_is_respected(wire: Wire) -> None:
    stream = await wire.client().forward("web", 7)
    sent = bytes(range(256)) * 32_768
    received = bytearray()

    async def send() -> None:
        await stream.send_all(sent)
        await stream.send_eof()

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        async for data in stream:
            received += data
    assert bytes(received) == sent + b"bye"


@pytest.mark.heavy
async def test_a_tenant_that_does_not_read_for_long_loses_nothing(wire: Wire) -> None:
    """More than any window is under way, and nobody reads: credit holds it up, nothing is reset."""
    stream = await wire.client().forward("web", 7)
    size = 4 * limits.CHANNEL_WINDOW_BYTES
    received = 0
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, bytes(size))
        await trio.sleep(limits.WRITE_STALL_MS / 1000 + 0.5)
        while received < size:
            received += len(await stream.receive_some())
    assert received == size
