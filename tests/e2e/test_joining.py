"""A tenant with a genesis and one address: it joins a network that others run, and rents there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.networks import network
from tests.support.shells import HELLO, Shell

from fondaco.consensus.ledger.params import Params
from fondaco.node import image
from fondaco.node.genesis_file import read_genesis
from fondaco.node.keys.keystore import Keystore
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.connection import open_light
from fondaco.protocol.errors import Unreachable
from fondaco.protocol.records import PARAMS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def files(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir()) if home.exists() else []


async def test_one_address_is_enough_and_the_home_outlives_the_node_that_it_came_by(tmp_path: Path) -> None:
    theirs, mine = tmp_path / "theirs", tmp_path / "mine"
    genesis = tmp_path / "genesis.json"
    image.build_demo_image(theirs / "images")
    async with network(theirs, validators=4, providers=1) as net:
        shutil.copy(theirs / "genesis.json", genesis)
        addresses = {member.name: member.address for member in net.plan.members}
        shell = Shell(str(mine))

        async def run(*arguments: object) -> Any:
            return await trio.to_thread.run_sync(lambda: shell.json(*arguments))

        told = await run("join", genesis, "--node", addresses["validator-2"])
        assert told["asked"] == 3
        assert told["nodes"][0] == addresses["validator-2"]
        assert set(told["nodes"]) < set(addresses.values())
        assert (told["chain"], len(told["nodes"])) == (net.plan.chain, 3)
        await trio.to_thread.run_sync(lambda: secret(mine))
        await run("keys", "create", "tenant")
        await net.kill("validator-2")
        deployed = await run("deploy", HELLO, "--name", "web", "--yes")
        assert deployed["bids"] == 1
        status = await run("status", "web")
        assert status["provider_says"] == "running"
        await run("close", "web")
        known = json.loads((mine / "nodes.json").read_text(encoding="utf-8"))["nodes"]
        assert known[0] == addresses["validator-2"], "what was told is not forgotten because it was away once"


def secret(home: Path) -> None:
    path = home / "passphrase"
    path.touch(mode=0o600)
    path.write_text("a passphrase of a test", encoding="utf-8")


async def test_programs_join_by_a_genesis_and_a_node_and_what_fails_leaves_nothing(tmp_path: Path) -> None:
    theirs, mine = tmp_path / "theirs", tmp_path / "mine"
    async with (
        network(theirs, validators=1, providers=1) as net,
        network(tmp_path / "others", validators=1) as other,
    ):
        genesis, node = theirs / "genesis.json", net.plan.members[0].address
        key = Keystore(tmp_path / "keys").create("me", "a passphrase of a test")
        with pytest.raises(Unreachable) as error:
            async with Tenant.connect(
                mine, key=key, genesis=other.plan.home / "genesis.json", nodes=[node]
            ) as tenant:
                raise AssertionError(f"joined {tenant.light.chain}")
        assert error.value.code == "light.all_lied"
        assert "hello.chain" in error.value.message
        async with open_light(mine, read_genesis(genesis), nodes=[node]) as light:
            await light.record(PARAMS, Params)
        assert files(mine) == [], "one was refused, and one only looked"
        async with Tenant.connect(mine, key=key, genesis=genesis, nodes=[node]) as tenant:
            assert len(tenant.light.peers) == 2, "the provider's node was named by the validator's"
            assert (await tenant.wallet.account()).credits == 0
        assert files(mine) == ["genesis.json", "nodes.json", "trust"]
        async with Tenant.connect(mine, key=key) as tenant:
            assert len(tenant.light.peers) == 2
