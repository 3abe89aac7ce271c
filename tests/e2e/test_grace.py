"""An escrow runs dry: the workload stops where it is, and goes on with the next deposit, over a crash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import trio
from tests.e2e.test_main_job import HELLO, answer, emptied, sandboxes
from tests.e2e.test_staking import told
from tests.support.networks import network

from fondaco.node import image, testnet
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import Deployment
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import MicroCredits, Millis

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def test_a_dry_escrow_holds_the_workload_and_a_deposit_sets_it_going(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    params = replace(testnet.testnet_params(), min_runway_ms=Millis(1_000), min_deposit=MicroCredits(1))
    testnet.create(tmp_path, validators=1, providers=1, params=params)
    config = tmp_path / "nodes" / "provider-0" / "node.toml"
    config.write_text(config.read_text().replace("price_cpu = 10000", "price_cpu = 80000"))
    async with network(tmp_path) as net, Tenant.connect(tmp_path) as tenant:
        plan = await tenant.plan(HELLO, deposit=40)  # for some three seconds
        deployment = await tenant.accept(plan, name="hello")
        lease = deployment.leases[0]
        (before,) = (await lease.status()).services
        await phase(deployment, "paused")
        assert {psutil.Process(pid).status() for pid in inside(tmp_path)} == {psutil.STATUS_STOPPED}
        with pytest.raises(Refused) as refusal:
            await lease.request("/")
        assert refusal.value.code == "lease.paused"
        seen = await told("status", "hello", "--home", tmp_path)
        assert (seen["deployment"], seen["provider_says"]) == ("grace", "paused")
        await net.kill("provider-0")
        paid = await told("top-up", "hello", "50000", "--home", tmp_path)
        assert paid["state"] == "open"
        await net.start("provider-0")
        assert (await answer(deployment))[0] == 200
        (after,) = (await lease.status()).services
        assert (after.started_at, after.restarts) == (before.started_at, 0), "it went on where it was"
        await lease.close()
        await emptied(tmp_path)


async def phase(deployment: Deployment, wanted: str) -> None:
    with trio.fail_after(30):
        while (await deployment.leases[0].status()).phase != wanted:
            await trio.sleep(0.1)


def inside(home: Path) -> list[int]:
    """Processes of the workload's program."""
    found = list[int]()
    for pid in sandboxes(home):
        children = psutil.Process(pid).children(recursive=True)
        found += [one.pid for one in children if one.cmdline()[:1] == ["/usr/bin/python3"]]
    assert found
    return found
