"""A network's chain goes on as another: exported by command, begun by the same validators, as processes."""

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
from tests.support.ledger import Actor, codes
from tests.support.networks import network

from fondaco.consensus.ledger.params import CREDIT
from fondaco.consensus.ledger.state import State
from fondaco.node import demo, image, testnet
from fondaco.node.chain import Chain, read_genesis
from fondaco.node.cli import cli
from fondaco.node.config import read_passphrase
from fondaco.node.keys.keystore import Keystore
from fondaco.node.storage import ChainStore
from fondaco.node.tenant.client import Tenant
from fondaco.node.testnet import Plan, create, running
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.messages import Withdraw
from fondaco.protocol.records import (
    Deployment,
    DeploymentState,
    Lease,
    LeaseState,
    Stake,
    Supply,
    key_deployment,
    key_lease,
    key_stake,
)
from fondaco.protocol.scalars import Millis

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
RATE = 3_600_000
HOUR_MS = 3_600_000


def fondaco(*arguments: object) -> Any:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


class Past:
    """An hour ago: four validators, one of them jailed, and two leases; `paul` is the tenant of the home."""

    def __init__(self, home: Path) -> None:
        params = replace(testnet.testnet_params(), absence_blocks=4, absence_ms=Millis(1_000))
        self.plan = create(home, validators=4, providers=0, params=params)
        self.node = home / "nodes" / "validator-0"
        genesis = read_genesis(home / "genesis.json")
        self.town = Town("alice", "paul").reborn(replace(genesis, time=Millis(genesis.time - HOUR_MS)))
        (self.node / "genesis.json").write_text(json.dumps(self.town.genesis.to_json()))
        signers = [
            Keystore(home / "nodes" / member.name / "keys").load("validator", read_passphrase(home)).signer()
            for member in self.plan.members
        ]
        self.town.keys = {signer.public_key: signer for signer in signers}
        self.alice, self.paul = self.town.actors("alice", "paul")
        self._rename(self.paul, home)
        (self.node / "data").mkdir()
        self.chain = self.town.open(self.node / "data" / "chain.db")
        self._grow(*(one.asks_faucet(90 * CREDIT, 10 * CREDIT) for one in (self.alice, self.paul)))
        self._grow(self.paul.registers())
        self.long = self.alice.leases((self.paul, RATE), deposit=10 * CREDIT)
        self.short = self.alice.leases((self.paul, RATE), deposit=700_000)
        self._grow(self.long, self.short)
        self._grow(self.paul.activates(self.long.lease, self.short.lease, receipt_of=self.alice))
        for _ in range(6):
            self._grow()
        self.chain.close()

    def _rename(self, actor: Actor, home: Path) -> None:
        actor.signer = Keystore(home / "keys").load("tenant", read_passphrase(home)).signer()
        actor.key = actor.signer.public_key

    def _grow(self, *drafts: Any) -> None:
        """A block that three of the four sign."""
        chain: Chain = self.chain
        block = self.town.propose_on(chain, *drafts)
        certificate = self.town.certified(block, chain.ledger.validators, signers=3)
        assert not any(codes(chain.commit(block, certificate).events))
        self.town._now = block.header.time


def begin(old: Plan, home: Path, genesis: Path) -> Plan:
    """The same validators with the same keys, at home elsewhere."""
    for member in old.members:
        node, before = home / "nodes" / member.name, old.home / "nodes" / member.name
        shutil.copytree(before / "keys", node / "keys")
        shutil.copy(before / "passphrase", node / "passphrase")
        listen = "127.0.0.1:" + member.address.split("/")[4]
        peers = [word for other in old.members if other is not member for word in ("--peer", other.address)]
        made = fondaco(
            *("node", "init", "--home", node, "--genesis", genesis, "--name", member.name, "--validator"),
            *("--listen", listen, "--api", member.api.removeprefix("http://"), *peers),
        )
        assert made["address"] == member.address
    shutil.copytree(old.home / "keys", home / "keys")
    shutil.copy(old.home / "passphrase", home / "passphrase")
    shutil.copyfile(genesis, home / "genesis.json")
    listing = json.loads((old.home / "testnet.json").read_text()) | {"chain": read_genesis(genesis).chain}
    (home / "testnet.json").write_text(json.dumps(listing))
    return Plan.load(home)


async def test_a_workload_runs_on_under_the_new_chain_and_its_tenant_ends_it_there(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    image.build_demo_image(old / "images")
    async with network(old, validators=1, providers=1), Tenant.connect(old) as tenant:
        await tenant.accept(await tenant.plan(demo.HELLO.read_bytes()), name="hello")
    fondaco(
        *("genesis", "export", "--home", old / "nodes" / "provider-0"),
        *("--chain-name", "heir", "--out", tmp_path / "genesis.json"),
    )
    shutil.copytree(old, new, ignore=shutil.ignore_patterns("data", "node.log"))
    for home in (new, *(new / "nodes").iterdir()):
        for name in ("genesis.json", "genesis.state"):
            shutil.copyfile(tmp_path / name, home / name)
    plan = Plan.load(new)
    async with running(plan), Tenant.connect(new) as tenant:
        lease = tenant.find("hello")
        with trio.fail_after(60):
            while True:
                try:
                    status, _ = await lease.request("/")
                    break
                except FondacoError:
                    await trio.sleep(0.2)
        assert status == 200
        settled = await lease.close()
        assert settled.paid > 0
        assert settled.refunded > 0


async def test_leases_bonds_and_jails_of_one_network_go_on_in_another(tmp_path: Path) -> None:
    past, out = Past(tmp_path / "old"), tmp_path / "heir.json"
    exported = fondaco("genesis", "export", "--home", past.node, "--chain-name", "heir", "--out", out)
    assert fondaco("genesis", "check", out)["valid"]
    plan = begin(past.plan, tmp_path / "new", out)
    assert plan.chain == exported["chain"]
    async with running(plan), Tenant.connect(plan.home) as paul:
        before = await paul.wallet.account()
        height = await paul.wallet.transact(Withdraw(lease=past.long.lease))
        after = await paul.wallet.account(at_least=height)
        assert height >= exported["initial_height"]
    covered = RATE // 3
    assert covered * 9 // 10 < after.credits - before.credits <= covered, (
        "for what a sign of life covers, less a fee"
    )
    store = ChainStore.view(plan.home / "nodes" / "validator-2" / "data" / "chain.db")
    state = State(store)
    lease = state.require(key_lease(past.long.lease), Lease)
    assert (lease.state, lease.paid > RATE // 3 * 9 // 10) == (LeaseState.ACTIVE, True)
    ended = state.require(key_deployment(past.short.deployment), Deployment)
    assert ended.state == DeploymentState.CLOSED, "its escrow ran dry, and the grace was over"
    assert state.require(key_lease(past.short.lease), Lease).paid == 700_000
    supply = state.require(b"supply", Supply)
    assert (supply.credits, supply.stake) == (exported["ucredit"], exported["ustake"])
    jailed = [state.require(key_stake(key), Stake).jailed_until for key in past.town.keys]
    assert sum(until is not None for until in jailed) == 1
    store.close()
    for member in plan.members:
        assert fondaco("node", "replay", "--home", plan.home / "nodes" / member.name)["equal"]
    again = fondaco(
        *("genesis", "export", "--home", plan.home / "nodes" / "validator-1"),
        *("--chain-name", "third", "--out", tmp_path / "third.json"),
    )
    assert (again["ucredit"], again["ustake"]) == (exported["ucredit"], exported["ustake"])
