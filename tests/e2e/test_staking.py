"""An operator's way with a real network: a fifth node bonds, signs, unbonds and leaves; parameters change."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result
from tests.support.networks import network

from fondaco.node import joining, loopback, testnet
from fondaco.node.cli import cli
from fondaco.node.config import NodeConfig
from fondaco.node.keys.keystore import Keystore
from fondaco.node.storage import ChainStore
from fondaco.node.tenant.client import Tenant
from fondaco.node.testnet import Plan
from fondaco.protocol import codec
from fondaco.protocol.agreement import Validator
from fondaco.protocol.messages import Transfer
from fondaco.protocol.scalars import Height, MicroCredits, PublicKey

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
SOMEBODY = PublicKey(bytes(range(32)))
PASSPHRASE = {"FONDACO_PASSPHRASE": "correct horse"}


async def fondaco(*arguments: object, environment: dict[str, str] | None = None) -> Result:
    """One command, as a person types it, while the network runs."""

    def call() -> Result:
        return CliRunner().invoke(cli, [str(one) for one in arguments], env=environment)

    return await trio.to_thread.run_sync(call)


async def told(*arguments: object, environment: dict[str, str] | None = None) -> dict[str, Any]:
    result = await fondaco(*arguments, "--json", environment=environment)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@dataclass
class Fifth:
    """A node that joined a running network from outside, with nothing but the genesis and addresses."""

    net: testnet.Testnet
    home: Path

    async def stake(self, *words: object) -> dict[str, Any]:
        return await told("stake", *words, "--home", self.home, environment=PASSPHRASE)

    async def refused(self, *words: object) -> str:
        result = await fondaco("stake", *words, "--home", self.home, environment=PASSPHRASE)
        assert result.exit_code == 1
        return result.stderr

    async def signed(self, height: int) -> bool:
        """Whether the certificate of `height` on another node, once it has it, holds this node's signature."""
        key = Keystore(self.home / "keys").info("validator").public_key
        store = ChainStore.open(self.net.plan.home / "nodes" / "validator-0" / "data" / "chain.db")
        try:
            with trio.fail_after(30):
                while (certificate := store.certificate(Height(height))) is None:
                    await trio.sleep(0.02)
            raw = store.validator_set(Height(height))
        finally:
            store.close()
        assert raw is not None
        signatures = zip(codec.decode(raw, tuple[Validator, ...]), certificate.signatures, strict=True)
        return any(member.public_key == key and signature is not None for member, signature in signatures)


def fifth_home(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = plan.home / "nodes" / "fifth"
    settings = NodeConfig(
        home=home,
        name="fifth",
        listen=f"127.0.0.1:{loopback.free_port()}",
        peers=tuple(plan.addresses()),
        validator=True,
    )
    monkeypatch.setenv(*next(iter(PASSPHRASE.items())))
    joining.make_home(settings, plan.home / "genesis.json")
    return home


async def pay(tenant: Tenant) -> int:
    return await tenant.wallet.transact(Transfer(to=SOMEBODY, amount=MicroCredits(1)))


async def until_signed(fifth: Fifth, tenant: Tenant) -> None:
    with trio.fail_after(30):
        while not await fifth.signed(await pay(tenant) - 1):
            pass


async def test_a_fifth_node_bonds_becomes_a_validator_two_blocks_later_and_leaves_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path) as net, Tenant.connect(tmp_path) as tenant:
        await tenant.wallet.ask_faucet()
        fifth = Fifth(net, fifth_home(net.plan, monkeypatch))
        monkeypatch.setenv(*next(iter(PASSPHRASE.items())))
        await net.start("fifth")
        before = await fifth.stake("show")
        assert (before["power"], before["total_power"], before["unbonding"]) == (0, 40, [])
        assert "stake.too_small" in await fifth.refused("bond", 999_999)
        bonded = await fifth.stake("bond", 10_000_000)
        assert (bonded["bonded_ustake"], bonded["power"], bonded["power_after"]) == (10_000_000, 0, 10)
        await pay(tenant)
        joined = await fifth.stake("show")
        assert (joined["power"], joined["total_power"], joined["share"]) == (10, 50, 0.2)
        await until_signed(fifth, tenant)
        assert "stake.not_jailed" in await fifth.refused("unjail")
        assert "stake.too_small" in await fifth.refused("unbond", 9_999_999)
        left = await fifth.stake("unbond", 10_000_000)
        assert (left["bonded_ustake"], left["power"], left["power_after"]) == (0, 10, 0)
        assert left["unbonding"][0]["ustake"] == 10_000_000
        assert left["unbonding"][0]["free_at"] > left["unbonding"][0]["since"]
        await pay(tenant)
        gone = await fifth.stake("show")
        assert (gone["power"], gone["total_power"]) == (0, 40)
        await net.kill("fifth")
        assert not await fifth.signed(await pay(tenant))


async def test_parameters_change_under_the_authority_that_genesis_names_and_no_other_key(tmp_path: Path) -> None:
    async with network(tmp_path, validators=1) as _:
        assert (await told("params", "show", "--home", tmp_path))["min_block_interval_ms"] == 0
        changed = await told("params", "set", "min_block_interval_ms=900", "jail_ms=5000", "--home", tmp_path)
        assert changed["changed"] == {"min_block_interval_ms": 900, "jail_ms": 5000}
        async with Tenant.connect(tmp_path) as tenant:
            await tenant.wallet.ask_faucet()
            heights = [await pay(tenant) for _ in range(3)]
        times = block_times(tmp_path, range(heights[0], heights[-1] + 1))
        assert all(later - earlier >= 900 for earlier, later in pairwise(times))
        for arguments, code in (
            (("min_block_interval_ms=0", "--key", "tenant"), "params.authority"),
            (("min_block_interval_ms=60001",), "params.value"),
            (("no_such_thing=1",), "params.value"),
        ):
            result = await fondaco("params", "set", *arguments, "--home", tmp_path)
            assert result.exit_code == 1
            assert code in result.stderr
        text = (await fondaco("params", "show", "--home", tmp_path)).stdout
        assert "shortest time from one block" in text


def block_times(home: Path, heights: range) -> list[int]:
    store = ChainStore.open(home / "nodes" / "validator-0" / "data" / "chain.db")
    try:
        headers = [store.signed_header(Height(height)) for height in heights]
    finally:
        store.close()
    return [found.header.time for found in headers if found is not None]
