"""Four validators as processes, on a chain that begins at height 1,000."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.networks import height_of, network

from fondaco.node.storage import ChainStore
from fondaco.node.tenant.client import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def test_a_network_begins_at_height_1000_and_goes_on_after_kill_9(tmp_path: Path) -> None:
    async with network(tmp_path, initial_height=1_000) as net, Tenant.connect(tmp_path) as tenant:
        before = await tenant.wallet.ask_faucet()
        assert await height_of(net) >= 1_000
        await net.kill("validator-3")
        await net.start("validator-3")
        after = await tenant.wallet.ask_faucet()
        assert after.credits > before.credits, "proven by a light client, from a genesis at height 999"
    store = ChainStore.view(tmp_path / "nodes" / "validator-3" / "data" / "chain.db")
    assert store.first_height() == 1_000
    store.close()
