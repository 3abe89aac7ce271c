"""Votes and templates on a real network: a validator's word counts, and an author is paid by a lease."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result
from tests.support.networks import network

from fondaco.node import demo, image
from fondaco.node.cli import cli

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


class Shell:
    """Commands on one home, as a person types them while the network runs."""

    def __init__(self, home: Path, *key: str) -> None:
        self.home = home
        self.key = key

    async def run(self, *words: object) -> Result:
        def call() -> Result:
            return CliRunner().invoke(cli, [*map(str, words), "--home", str(self.home)])

        return await trio.to_thread.run_sync(call)

    async def json(self, *words: object) -> Any:
        result = await self.run(*words, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    async def refused(self, *words: object) -> str:
        result = await self.run(*words)
        assert result.exit_code == 1, result.output
        return result.stderr


async def test_a_proposal_is_made_voted_on_and_listed(tmp_path: Path) -> None:
    async with network(tmp_path, validators=1) as net:
        people, validator = Shell(tmp_path), Shell(net.plan.home / "nodes" / "validator-0")
        made = await people.json(
            "gov", "propose", "params", "fee_base=7", "--title", "cheaper", "--text", "fees are high"
        )
        assert (made["number"], made["state"], made["as_it_stands"]) == (1, "voting", "no_quorum")
        assert "vote.no_stake" in await people.refused("gov", "vote", 1, "yes")
        voted = await validator.json("gov", "vote", 1, "yes", "--key", "validator")
        assert (voted["your_vote"], voted["your_weight_ustake"], voted["as_it_stands"]) == ("yes", 10**7, "passed")
        assert "stake.locked" in await validator.refused("stake", "unbond", 1_000_000)
        shown = await people.json("gov", "show", 1)
        assert shown["votes_ustake"] == {"yes": 10**7, "no": 0, "abstain": 0, "veto": 0}
        assert (await people.json("gov", "list"))["proposals"] == [shown]
        assert "proposal.unknown" in await people.refused("gov", "show", 2)


async def test_templates_are_registered_forked_and_leased(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    async with network(tmp_path, validators=1, providers=1):
        shell = Shell(tmp_path)
        first = await shell.json("template", "register", demo.HELLO, "--royalty", 500, "--title", "an inn")
        better = tmp_path / "better.yaml"
        better.write_text(demo.HELLO.read_text() + "# better\n")
        fork = await shell.json("template", "fork", first["template"], better, "--royalty", 100)
        assert (fork["basis_points"], fork["parent"]) == (600, first["template"])
        assert (await shell.json("template", "show", fork["template"]))["title"] == "better"
        assert "template.exists" in await shell.refused("template", "register", better, "--royalty", 1)
        assert "template.unknown" in await shell.refused("deploy", better, "--template", "00" * 32, "--yes")
        deployed = await shell.json("deploy", better, "--template", fork["template"], "--yes")
        assert deployed["bids"] == 1
        await shell.json("close", deployed["leases"][0])
