"""A tenant's whole job while one of the three nodes that it asks lies, in every way that we could think of.

Each lie is told on real streams beside two honest nodes of a real network. Whatever it is, the job is done, to the
last ucredit, with the cheaper of two providers, and in bounded time. Where a lie can be proven, the liar is left
out with the reason; what cannot be proven is found out all the same.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from tests.support.jobs import HELLO, check_right, whole_job
from tests.support.lies import DAILY, LIES
from tests.support.malice import Network, buffered, lying

from fondaco.node import demo
from fondaco.node.cli import cli
from fondaco.node.tenant import bounds
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.progress import Progress
from fondaco.protocol import limits
from fondaco.protocol.errors import Unreachable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
NAMES = [pytest.param(name, marks=() if name in DAILY else pytest.mark.heavy) for name in LIES]


async def test_of_three_honest_nodes_none_is_blamed(network: Network, tmp_path: Path) -> None:
    names = ("validator-0", "provider-0", "provider-1")
    addresses = [network.address(name) for name in names]
    async with Tenant.connect(network.make_home(tmp_path / "home", addresses)) as tenant:
        check_right(network, await whole_job(tenant))
        await tenant.light.wait_heard_out()
        for standing in tenant.light.standings():
            assert (standing.fault, standing.withheld) == ("", 0)
            assert standing.height is not None


@pytest.mark.parametrize("name", NAMES)
async def test_the_job_is_done_and_right_though_one_node_says(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(bounds, "ANSWERS_PER_NODE", 64)  # so many come from a flood however slow the machine is
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


# What cannot be proven


@pytest.mark.parametrize(("name", "hidden"), [("no bids at all", 2), ("only the dear bids", 1)])
async def test_a_node_that_withholds_bids_is_told_of_and_nobody_else(
    network: Network, tmp_path: Path, name: str, hidden: int
) -> None:
    told: list[Progress] = []
    async with lying(network, tmp_path / "home", LIES[name]) as (tenant, (liar,)):
        plan = await tenant.plan(HELLO, report=told.append)
        assert plan.bids()[0].bid.provider == network.provider(0), "the others tell of it"
        with trio.fail_after(5):
            await tenant.light.wait_heard_out()
        assert tenant.light.withheld == {liar.peer: hidden}
        assert liar.peer in tenant.light.peers, "that proves nothing"
        assert [one.detail for one in told if one.step == "withheld"] == [f"{liar.peer} hides {hidden} answer(s)"]


async def test_a_command_tells_who_withheld_and_who_was_left_out(network: Network, tmp_path: Path) -> None:
    async with lying(network, tmp_path / "home", LIES["only the dear bids"]) as (_, (liar,)):
        words = ["deploy", str(demo.HELLO), "--dry-run", "--json", "--home", str(tmp_path / "home")]
        result = await trio.to_thread.run_sync(lambda: CliRunner().invoke(cli, words))
        assert result.exit_code == 0, result.stderr
        told = json.loads(result.stdout)
        assert (told["withheld"], told["left_out"]) == ({liar.peer: 1}, {})
        assert f"{liar.peer} hides 1 answer(s)" in result.stderr


async def test_a_node_that_shows_an_old_chain_is_seen_to_be_behind(network: Network, tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with lying(network, home, LIES["nothing after the first look"]) as (tenant, (liar,)):
        await tenant.wallet.ask_faucet()
        await tenant.light.look_around()
        behind = {one.peer: one.behind for one in tenant.light.standings()}
        assert behind.pop(liar.peer)
        assert all(blocks is not None and blocks <= 1 for blocks in behind.values())
        words = ["trust", "--nodes", "--home", str(home)]
        shown = await trio.to_thread.run_sync(lambda: CliRunner().invoke(cli, [*words, "--json"]))
        told = {one["peer"]: one for one in json.loads(shown.stdout)["nodes"]}
        assert told[liar.peer]["behind_blocks"] > 0
        assert told[liar.peer]["fault"] == ""
        text = (await trio.to_thread.run_sync(lambda: CliRunner().invoke(cli, words))).stdout
        assert f"{liar.peer}  height" in text
        assert "behind" in text


# More liars than honest nodes

PAIRS = [
    ("a balance with the proof of another", "refused, of what was applied"),
    ("that a lease is active", "cheaper bids than were made"),
    ("applied, of what it dropped", "that there is no lease"),
]


@pytest.mark.parametrize(
    "names",
    [pytest.param(names, marks=[pytest.mark.heavy] * bool(number)) for number, names in enumerate(PAIRS)],
    ids=" and ".join,
)
async def test_one_honest_node_is_enough_where_two_lie_provably(
    network: Network, tmp_path: Path, names: tuple[str, str]
) -> None:
    lies = [LIES[name] for name in names]
    async with lying(network, tmp_path / "home", *lies, honest=1) as (tenant, liars):
        check_right(network, await whole_job(tenant))
        left_out = {liar.peer for liar in liars if liar.peer in tenant.light.faults}
        assert left_out == tenant.light.faults.keys(), "no honest one"
        assert liars[0].peer in left_out


async def test_where_all_lie_it_is_said_so(network: Network, tmp_path: Path) -> None:
    lies = [LIES["a balance with the proof of another"]] * 3
    async with lying(network, tmp_path / "home", *lies, honest=0) as (tenant, _):
        with pytest.raises(Unreachable) as error:
            await whole_job(tenant)
        assert error.value.code == "light.all_lied"
        assert tenant.light.peers == []
