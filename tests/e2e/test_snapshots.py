"""A node that joins a long chain by a snapshot: processes on loopback, over databases grown beforehand."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner
from tests.support.chains import Town

from fondaco.node import clock
from fondaco.node.agreement.sign_state import SignState
from fondaco.node.chain import read_genesis
from fondaco.node.cli import cli
from fondaco.node.config import read_passphrase
from fondaco.node.keys.keystore import Keystore
from fondaco.node.storage import ChainStore
from fondaco.node.tenant.client import Tenant
from fondaco.node.testnet import Plan, create, running
from fondaco.protocol.scalars import Height, Millis

pytestmark = [pytest.mark.e2e]
KEEP = 100


def fondaco(*arguments: object) -> Any:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


class Past:
    """Four validators and their chain, so many blocks long; a fifth node will join by a snapshot."""

    def __init__(self, home: Path, blocks: int) -> None:
        self.home, self.blocks = home, blocks
        self.plan = create(home, validators=4, providers=0, full_nodes=1)
        genesis = replace(read_genesis(home / "genesis.json"), time=Millis(clock.now() - (blocks + 60) * 1_000))
        self.town = Town("alice").reborn(genesis)
        keys = [Keystore(folder / "keys") for folder in map(self.folder, self.validators)]
        signers = [one.load("validator", read_passphrase(home)).signer() for one in keys]
        self.town.keys = {signer.public_key: signer for signer in signers}
        for name in (*self.validators, "full-0"):
            (self.folder(name) / "genesis.json").write_text(json.dumps(genesis.to_json()))
        (home / "genesis.json").write_text(json.dumps(genesis.to_json()))
        listing = json.loads((home / "testnet.json").read_text()) | {"chain": genesis.chain}
        (home / "testnet.json").write_text(json.dumps(listing))
        self.plan = Plan.load(home)
        self.grow()
        self.set("full-0", join_by_snapshot="true")

    @property
    def validators(self) -> list[str]:
        return [member.name for member in self.plan.members if member.role == "validator"]

    def folder(self, name: str) -> Path:
        return self.home / "nodes" / name

    def set(self, name: str, **values: str) -> None:
        path = self.folder(name) / "node.toml"
        kept = [line for line in path.read_text().splitlines() if line.split(" ")[0] not in values]
        path.write_text("\n".join([*(f"{key} = {value}" for key, value in values.items()), *kept]) + "\n")

    def grow(self) -> None:
        """Give every validator the chain, and a snapshot of its newest block."""
        first, *others = map(self.folder, self.validators)
        (first / "data").mkdir()
        chain = self.town.open(first / "data" / "chain.db")
        chain.store._db.execute("PRAGMA synchronous = OFF")
        for _ in range(self.blocks):
            self.town.grow(chain)
        chain.close()
        SignState.create(first / "data" / "sign-state")
        for other in others:
            shutil.copytree(first / "data", other / "data")
        for folder in (first, *others):
            assert fondaco("snapshot", "make", "--home", folder)["height"] == self.blocks

    def store(self, name: str) -> ChainStore:
        return ChainStore.view(self.folder(name) / "data" / "chain.db")


async def join(home: Path, blocks: int) -> None:
    past = Past(home, blocks)
    past.set("validator-2", keep_blocks=str(KEEP))
    async with running(past.plan) as net, Tenant.connect(home) as tenant:
        before = await tenant.wallet.ask_faucet()
        await net.kill("full-0")
        await net.start("full-0")
        after = await tenant.wallet.ask_faucet()
        assert after.credits > before.credits
        with trio.fail_after(20):
            while len({past.store(name).head() for name in (*past.validators, "full-0")}) > 1:
                await trio.sleep(0.1)
        shown = fondaco("snapshot", "list", "--home", past.folder("validator-1"))["snapshots"]
        assert [row["height"] for row in shown] == [blocks]
        assert fondaco("snapshot", "check", "--home", past.folder("validator-1"), blocks)["good"]
    store = past.store("full-0")
    try:
        head = store.head()
        assert store.first_height() == blocks
        assert head is not None
        assert head.height > blocks
    finally:
        store.close()
    pruned = past.store("validator-2")
    assert pruned.first_height() not in (None, 1)
    assert pruned.signed_header(Height(blocks)) is not None
    pruned.close()


@pytest.mark.timeout(120)
async def test_a_fresh_node_joins_by_a_snapshot_and_follows(tmp_path: Path) -> None:
    await join(tmp_path, 250)


@pytest.mark.heavy
@pytest.mark.timeout(400)
async def test_a_fresh_node_joins_a_chain_of_ten_thousand_blocks(tmp_path: Path) -> None:
    await join(tmp_path, 10_000)
