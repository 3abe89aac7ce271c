"""One provider with many leases: all at once, and over its own crash."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from tests.support.networks import network

from fondaco.node import demo, image
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import Deployment
from fondaco.protocol.channel_calls import Happening
from fondaco.protocol.records import LeaseState

pytestmark = [pytest.mark.e2e, pytest.mark.heavy, pytest.mark.timeout(300)]
SDL = demo.HELLO.read_text(encoding="utf-8")
SMALL = SDL.replace("units: 0.5", "units: 0.07").replace("128Mi", "48Mi").replace("64Mi", "8Mi")
HOUR_MS = 3_600_000
CRASHED, AT_ONCE = 10, 50


async def deployed(tenant: Tenant, home: Path, count: int) -> list[Deployment]:
    """So many leases, all asked for at once."""
    file, found = home / "small.yaml", list[Deployment]()
    file.write_text(SMALL, encoding="utf-8")
    await tenant.wallet.ask_faucet()

    async def deploy(number: int) -> None:
        found.append(await tenant.deploy(file, name=f"small-{number}"))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(deploy, number)
    return found


async def test_ten_leases_outlive_their_provider_and_none_is_torn_down_or_paid_twice(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    async with network(tmp_path, validators=1, providers=1) as net, Tenant.connect(tmp_path) as tenant:
        found = [one.leases[0] for one in await deployed(tenant, tmp_path, CRASHED)]
        before = {lease.id: (await lease.status()).services for lease in found}
        await net.kill("provider-0")
        await net.start("provider-0")
        for lease in found:
            assert (await lease.request("/"))[0] == 200
            assert (await lease.status()).services == before[lease.id], "started once, and never again"
            kinds = [event.kind async for event in lease.events()]
            assert kinds.count(Happening.ADOPTED) == 1
            assert Happening.STOPPED not in kinds
        for lease in found:
            await lease.close()
            record = await lease.record()
            assert record is not None
            assert record.state is LeaseState.CLOSED
            assert record.paid == record.price_per_hour * record.active_ms // HOUR_MS
        assert await demo.supply_conserved(tenant)


async def test_fifty_leases_at_once_run_on_one_provider(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    async with network(tmp_path, validators=1, providers=1) as _, Tenant.connect(tmp_path) as tenant:
        found = await deployed(tenant, tmp_path, AT_ONCE)
        for deployment in found:
            assert (await deployment.leases[0].request("/"))[0] == 200
