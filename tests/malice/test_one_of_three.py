"""A tenant's whole job while one of the three nodes that it asks lies, in every way that we could think of.

Each lie is told on real streams beside two honest nodes of a real network. Whatever it is, the job is done, to the
last ucredit, with the cheaper of two providers, and in bounded time; and where a lie can be proven, the liar is
left out with the reason.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from tests.support.jobs import check_right, whole_job
from tests.support.lies import DAILY, LIES
from tests.support.malice import Network, buffered, lying

from fondaco.node.tenant.client import Tenant
from fondaco.protocol import limits

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
NAMES = [pytest.param(name, marks=() if name in DAILY else pytest.mark.heavy) for name in LIES]


async def test_of_three_honest_nodes_none_is_blamed(network: Network, tmp_path: Path) -> None:
    names = ("validator-0", "validator-1", "provider-1")
    addresses = [network.address(name) for name in names]
    async with Tenant.connect(network.make_home(tmp_path / "home", addresses)) as tenant:
        check_right(network, await whole_job(tenant))
        await tenant.light.wait_heard_out()
        for standing in tenant.light.standings():
            assert (standing.fault, standing.withheld) == ("", 0)
            assert standing.height is not None


@pytest.mark.parametrize("name", NAMES)
async def test_the_job_is_done_and_right_though_one_node_says(network: Network, tmp_path: Path, name: str) -> None:
    lie = LIES[name]
    async with lying(network, tmp_path / "home", lie) as (tenant, (liar,)):
        most = 0

        async def look() -> None:
            nonlocal most
            while True:
                most = max(most, buffered(tenant.light))
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            done = await whole_job(tenant)
            nursery.cancel_scope.cancel()
        check_right(network, done)
        assert most <= 2 * limits.RPC_STREAM_WINDOW_BYTES, "so much is kept of a flood"
        assert lie.fault in tenant.light.faults.get(liar.peer, "")
        assert (liar.peer in tenant.light.peers) == (not lie.fault)
        assert len(tenant.light.peers) == (2 if lie.fault else 3), "nobody else is blamed"
        assert tenant.light.fork is None
