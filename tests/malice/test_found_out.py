"""What cannot be proven is found out all the same: who withholds bids, and who shows an old chain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from tests.support.jobs import HELLO
from tests.support.lies import LIES
from tests.support.malice import Network, lying

from fondaco.node import demo
from fondaco.node.cli import cli
from fondaco.node.tenant.progress import Progress

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


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
