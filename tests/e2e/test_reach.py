"""The main job at a provider that is not simply dialled: behind a relay, or elsewhere than its bid said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from tests.support.networks import network

from fondaco.node import config, demo, image, testnet
from fondaco.node.loopback import free_port
from fondaco.node.network.peers import Address, circuit_of
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import LeaseHandle
from fondaco.protocol.errors import FondacoError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def hide(home: Path, name: str, relay: str) -> None:
    """Make a node of a network listen nowhere, and be reached through another."""
    plan = testnet.Plan.load(home)
    where = next(member.address for member in plan.members if member.name == relay)
    change(home, relay, relay=True)
    change(home, name, listen="", relays=(where,))
    for member in plan.members:  # nobody may dial it
        settings = config.load(home / "nodes" / member.name)
        gone = next(one.address for one in plan.members if one.name == name)
        change(home, member.name, peers=tuple(one for one in settings.peers if one != gone))
    listing = json.loads((home / "testnet.json").read_text(encoding="utf-8"))
    listing["members"] = [one for one in listing["members"] if one["name"] != name] + [
        {**one, "address": f"{where}/p2p-circuit/p2p/{one['address'].rpartition('/')[2]}"}
        for one in listing["members"]
        if one["name"] == name
    ]
    (home / "testnet.json").write_text(json.dumps(listing), encoding="utf-8")


def change(home: Path, name: str, **values: object) -> None:
    where = home / "nodes" / name
    settings = replace(config.load(where), **values)  # type: ignore[arg-type]
    (where / "node.toml").write_text(config.dump(settings), encoding="utf-8")


async def test_the_whole_job_at_a_provider_that_listens_nowhere(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    testnet.create(tmp_path, validators=1, providers=1)
    hide(tmp_path, "provider-0", "validator-0")
    async with network(tmp_path) as net, Tenant.connect(tmp_path) as tenant:
        plan = await tenant.plan(demo.HELLO.read_bytes())
        deployment = await tenant.accept(plan, name="hello")
        lease = deployment.leases[0]
        assert all(circuit_of(Address(address)) for address in lease.file.addresses)
        assert (await lease.request("/"))[0] == 200
        async with lease.logs(follow=True) as lines:
            with trio.fail_after(30):
                assert (await anext(lines)).service
        async with lease.forward(*lease.main_port()) as pipe:
            await pipe.send_all(b"GET / HTTP/1.0\r\n\r\n")
            assert (await pipe.receive_some(64)).startswith(b"HTTP/1.")
        assert (await lease.status()).phase == "running"
        await net.kill("validator-0")
        await net.start("validator-0")
        assert (await answer(lease))[0] == 200
        settled = await lease.close()
        assert settled.paid >= 0


async def test_a_provider_that_has_moved_is_found_by_its_key(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    testnet.create(tmp_path, validators=1, providers=1)
    for name in ("validator-0", "provider-0"):
        change(tmp_path, name, kad=True)
    async with network(tmp_path) as net, Tenant.connect(tmp_path) as tenant:
        deployment = await tenant.accept(await tenant.plan(demo.HELLO.read_bytes()), name="hello")
        lease = deployment.leases[0]
        await net.kill("provider-0")
        change(tmp_path, "provider-0", listen=f"127.0.0.1:{free_port()}")
        await net.start("provider-0")
        assert (await answer(lease))[0] == 200
        await lease.close()


async def answer(lease: LeaseHandle) -> tuple[int, bytes]:
    """GET / as soon as the provider is back."""
    with trio.fail_after(60):
        while True:
            try:
                return await lease.request("/")
            except FondacoError:
                await trio.sleep(0.2)
