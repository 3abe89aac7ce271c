"""Four validators as processes: they agree, survive kill -9, and go on after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from tests.support.networks import height_of, network

from fondaco.node.storage import ChainStore
from fondaco.node.tenant.client import Tenant
from fondaco.node.testnet import Plan, create, running
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.messages import Transfer
from fondaco.protocol.scalars import Height, MicroCredits, PublicKey

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
SOMEBODY = PublicKey(bytes(range(32)))


async def pay(tenant: Tenant, amount: int) -> int:
    """A transfer, proven at its height."""
    height = await tenant.wallet.transact(Transfer(to=SOMEBODY, amount=MicroCredits(amount)))
    await tenant.wallet.account(at_least=height)
    return height


async def test_a_transfer_is_final_on_every_validator_and_proven_to_a_light_client(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        async with Tenant.connect(tmp_path) as tenant:
            before = await tenant.wallet.ask_faucet()
            height = await pay(tenant, 5)
            after = await tenant.wallet.account(at_least=height)
        assert before.credits - after.credits > 5, "the amount and a fee"
        assert await height_of(net) >= height
    assert agreed_headers(net.plan, height) == 4


async def test_three_go_on_when_one_is_killed_and_it_catches_up_after_its_restart(tmp_path: Path) -> None:
    async with network(tmp_path) as net, Tenant.connect(tmp_path) as tenant:
        await tenant.wallet.ask_faucet()
        await net.kill("validator-3")
        for _ in range(4):  # a whole rotation: the dead one's turns included
            height = await pay(tenant, 1)
        await net.start("validator-3")
        last = await pay(tenant, 1)
        await until_reached(net.plan, "validator-3", last)
    assert agreed_headers(net.plan, height) == 4


async def test_every_validator_may_crash_once_and_nothing_committed_is_lost(tmp_path: Path) -> None:
    async with network(tmp_path) as net, Tenant.connect(tmp_path) as tenant:
        await tenant.wallet.ask_faucet()
        balance = (await tenant.wallet.account()).credits
        for index in range(3, -1, -1):
            height = await pay(tenant, 1)
            await net.kill(f"validator-{index}")
            await net.start(f"validator-{index}")
        height = await pay(tenant, 1)
        assert (await tenant.wallet.account(at_least=height)).credits < balance - 5


async def test_a_network_started_again_in_the_same_home_continues_its_chain(tmp_path: Path) -> None:
    async with network(tmp_path) as net, Tenant.connect(tmp_path) as tenant:
        await tenant.wallet.ask_faucet()
        height = await pay(tenant, 7)
        account = await tenant.wallet.account(at_least=height)
    async with network(tmp_path) as net:
        assert await height_of(net) >= height
        async with Tenant.connect(tmp_path) as tenant:
            assert await tenant.wallet.account(at_least=height) == account
            assert await pay(tenant, 1) > height


async def test_what_the_ledger_refuses_comes_back_with_its_code_and_changes_nothing(tmp_path: Path) -> None:
    async with network(tmp_path, validators=1) as _, Tenant.connect(tmp_path) as tenant:
        with pytest.raises(Refused) as refusal:
            await pay(tenant, 1)
        assert refusal.value.code == "tx.fee"
        account = await tenant.wallet.ask_faucet()
        with pytest.raises(Refused) as refusal:
            await pay(tenant, account.credits)
        assert refusal.value.code == "funds.credits"
        assert await tenant.wallet.account() == account


async def test_nodes_stop_cleanly_and_their_home_cannot_be_used_twice(tmp_path: Path) -> None:
    async with network(tmp_path, validators=2) as net:
        with pytest.raises(Refused) as refusal:
            async with network(tmp_path):
                pytest.fail("the same home was started twice")
        assert refusal.value.code == "home.in_use"
        assert set((await net.stop_all()).values()) == {0}


async def test_a_tenant_without_a_network_is_told_so(tmp_path: Path) -> None:
    create(tmp_path, validators=1, providers=0)
    with pytest.raises(Unreachable) as error:
        async with Tenant.connect(tmp_path):
            pytest.fail("it connected to nobody")
    assert error.value.code == "light.no_nodes"


async def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    plan = create(tmp_path, validators=1, providers=0)
    (tmp_path / "nodes" / "validator-0" / "genesis.json").write_text("{}", encoding="utf-8")
    with pytest.raises(Unreachable) as error:
        async with running(plan):
            pytest.fail("it started")
    assert "genesis.malformed" in error.value.message


def agreed_headers(plan: Plan, height: int) -> int:
    """How many validators hold the same header at `height`; fails if two differ."""
    headers = []
    for member in plan.members:
        store = ChainStore.open(plan.home / "nodes" / member.name / "data" / "chain.db")
        signed = store.signed_header(Height(height))
        store.close()
        if signed is not None:
            headers.append(signed.header.hash())
    assert len(set(headers)) == 1
    return len(headers)


async def until_reached(plan: Plan, name: str, height: int) -> None:
    """Wait until a node's own database holds `height`."""
    with trio.fail_after(30):
        while True:
            store = ChainStore.open(plan.home / "nodes" / name / "data" / "chain.db")
            reached = store.signed_header(Height(height)) is not None
            store.close()
            if reached:
                return
            await trio.sleep(0.1)
