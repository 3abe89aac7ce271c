"""A tenant changes what runs and where: its provider dies and another one takes over, then there is an update."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.test_main_job import HELLO, emptied
from tests.e2e.test_staking import fondaco, told
from tests.support.networks import network

from fondaco.node import image
from fondaco.node.tenant.client import Tenant
from fondaco.protocol.records import Lease, LeaseState, key_lease
from fondaco.protocol.scalars import LeaseId

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def test_a_dead_providers_lease_goes_to_another_and_is_updated_there(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    hello, louder = tmp_path / "hello.yaml", tmp_path / "louder.yaml"
    hello.write_bytes(HELLO)
    assert b"      - PORT=8080\n" in HELLO
    crashing = tmp_path / "crashing.yaml"
    crashing.write_bytes(HELLO.replace(b"      - PORT=8080\n", b"      - PORT=nonsense\n"))
    louder.write_bytes(HELLO.replace(b"      - PORT=8080\n", b"      - PORT=8080\n      - VOLUME=11\n"))
    async with network(tmp_path, validators=1, providers=2) as net, Tenant.connect(tmp_path) as tenant:
        first = (await tenant.deploy(hello)).leases[0]
        name = next(one.name for one in net.plan.members if one.address.endswith(first.file.peer))
        await net.kill(name)
        replaced = await told("replace", "hello", "--not-serving", "--home", tmp_path)
        assert replaced["lease"] != first.id
        old = await tenant.light.record(key_lease(first.file.lease), Lease)
        assert old is not None
        assert (old.state, old.reason) == (LeaseState.CLOSED, 1)
        second = tenant.find("hello")
        assert (second.id, (await second.request("/"))[0]) == (replaced["lease"], 200)
        assert second.file.provider != first.file.provider
        same = await told("update", "hello", hello, "--home", tmp_path)
        assert (same["lease"], same["version"]) == (replaced["lease"], 1)
        updated = await told("update", "hello", louder, "--home", tmp_path)
        assert (updated["lease"], updated["version"]) == (replaced["lease"], 2)
        assert (await tenant.find("hello").request("/"))[0] == 200
        failed = await fondaco("update", "hello", crashing, "--home", tmp_path)
        assert (failed.exit_code, "[update.rolled_back]" in failed.stderr) == (1, True), failed.stderr
        assert (await tenant.find("hello").request("/"))[0] == 200, "what ran before runs again"
        assert "version 3 did not come up" in (await tenant.find("hello").status()).detail
        settled = await told("update", "hello", louder, "--home", tmp_path)
        assert settled["version"] == 4
        record = await tenant.light.record(key_lease(LeaseId(bytes.fromhex(updated["lease"]))), Lease)
        assert record is not None
        assert record.state is LeaseState.ACTIVE
        await net.start(name)  # it learns that it serves nobody any more
        await tenant.find("hello").close()
        await emptied(tmp_path)
