"""A provider leaves a real network: its lease ends, its bond returns, and it stays away until told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from tests.e2e.test_main_job import emptied, run_hello
from tests.e2e.test_staking import fondaco, told
from tests.support.networks import network

from fondaco.node import image
from fondaco.node.tenant.client import Tenant
from fondaco.protocol.errors import Unreachable
from fondaco.protocol.records import Account, LeaseState, key_account

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def test_a_provider_retires_with_a_lease_and_comes_back_only_when_told_to(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    home = tmp_path / "nodes" / "provider-0"
    async with network(tmp_path, validators=1, providers=1) as net, Tenant.connect(tmp_path) as tenant:
        deployment = await run_hello(tenant)
        before = await told("provider", "show", "--home", home)
        assert (before["live_leases"], before["bond_ustake"]) == ({"active": 1}, 1_000_000)
        (provider,) = await tenant.light.providers()
        account = await tenant.light.record(key_account(provider), Account)
        after = await told("provider", "retire", "--wait", "--home", home)
        assert (after["registered"], after["live_leases"]) == (False, {})
        lease = await deployment.leases[0].record()
        assert lease is not None
        assert lease.state is LeaseState.CLOSED
        richer = await tenant.light.record(key_account(provider), Account)
        assert account is not None
        assert richer is not None
        assert richer.stake - account.stake == 1_000_000
        await emptied(tmp_path)
        result = await fondaco("provider", "retire", "--home", home)
        assert (result.exit_code, "[provider.unknown]" in result.stderr) == (1, True)
        await net.stop("provider-0")
        with pytest.raises(Unreachable, match=r"provider\.retired"):
            await net.start("provider-0")
        assert (await fondaco("provider", "register", "--home", home)).exit_code == 0
        await net.start("provider-0")
        with trio.fail_after(10):
            assert (await told("provider", "show", "--home", home))["bond_ustake"] == 1_000_000
