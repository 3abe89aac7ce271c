"""The whole life of a deployment of two services, on each runtime: pulled, run, used, changed, killed, gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from tests.e2e.test_main_job import emptied
from tests.e2e.test_staking import told
from tests.integration.runtime.conftest import WITH_DOCKER, WITH_PODMAN, Service
from tests.support.lives import PATIENCE_S, Life, get, life, python

from fondaco.node.tenant.deployment import LeaseHandle
from fondaco.protocol.errors import Refused, Unreachable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
BURN = """
import time
began, used = time.monotonic(), time.process_time()
while time.monotonic() - began < 2:
    pass
print((time.process_time() - used) / (time.monotonic() - began))
"""
CONNECT = """
import socket
for host, port in {places}:
    try:
        socket.create_connection((host, port), 3).close()
        print(host, "reached")
    except OSError as error:
        print(host, "refused")
"""
PRIVATE = [("10.0.0.1", 80), ("172.16.0.1", 80), ("192.168.0.1", 80), ("169.254.169.254", 80), ("100.64.0.1", 80)]


@pytest.fixture(params=["embedded", WITH_PODMAN, WITH_DOCKER])
def settings(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """For the provider."""
    if request.param == "embedded":
        return ()
    engine: Service = request.getfixturevalue(f"{request.param}_service")
    return f'runtime = "{engine.name}"', f'{engine.name}_socket = "{engine.socket}"'


async def test_a_deployment_lives_its_whole_life(settings: tuple[str, ...], tmp_path: Path) -> None:
    async with life(tmp_path, *settings) as here:
        plan = await here.tenant.plan(here.sdl("one"))
        (lease,) = (await here.tenant.accept(plan, name="app")).leases
        assert "/v2/team/app/manifests/" in here.registry.asked()
        assert await get(lease, "/") == "one"
        assert await get(lease, "/db") == "rows\n"
        await is_confined(lease, here)
        await is_used(lease, here)
        lease = await survives_an_update(lease, here)
        await dies_of_its_memory(lease)
        await lease.close()
        await is_gone(here)


async def is_confined(lease: LeaseHandle, here: Life) -> None:
    """Limits hold, and nothing private is reached."""
    code, share = await python(lease, BURN)
    assert code == 0
    assert float(share) < 0.75, "half a processor was leased"
    port = int(here.registry.host.rpartition(":")[2])
    places = [*PRIVATE, ("127.0.0.1", port), ("web", 5432)]
    code, said = await python(lease, CONNECT.format(places=places))
    assert (code, {line.split()[1] for line in said.splitlines()}) == (0, {"refused"})
    code, said = await python(lease, CONNECT.format(places=[("web", 8080), ("web", 80)]), service="db")
    assert "reached" not in said, "only web was let go to db"


async def is_used(lease: LeaseHandle, here: Life) -> None:
    """Exec, logs, forward, usage."""
    assert (await python(lease, "raise SystemExit(7)"))[0] == 7
    assert [item.line async for item in lease.logs(service="web", tail=1)][-1:] != []
    assert "db" in [item.line async for item in lease.logs(service="db")]
    async with lease.forward("db", 5432) as stream:
        assert await stream.receive_some(100) == b"rows\n"
    assert {item.service async for item in lease.usage()} == {"web", "db"}
    seen = await told("status", "app", "--home", here.home)
    assert seen["provider_says"] == "running"


async def survives_an_update(lease: LeaseHandle, here: Life) -> LeaseHandle:
    """The volume is still there, and only what changed was started anew."""
    assert (await python(lease, "open('/data/kept', 'w').write('kept')"))[0] == 0
    before = {one.service: one.started_at for one in (await lease.status()).services}
    file = here.home / "app.yaml"
    file.write_bytes(here.sdl("two"))
    await told("update", "app", file, "--home", here.home)
    lease = here.tenant.find("app")
    assert await get(lease, "/") == "two"
    assert await python(lease, "print(open('/data/kept').read())") == (0, "kept")
    after = {one.service: one.started_at for one in (await lease.status()).services}
    assert after["db"] == before["db"]
    assert after["web"] != before["web"]
    assert await get(lease, "/db") == "rows\n"
    return lease


async def dies_of_its_memory(lease: LeaseHandle) -> None:
    """Killed, told so, and started again."""
    with pytest.raises((Refused, Unreachable)):
        await lease.request("/eat")
    with trio.fail_after(PATIENCE_S):
        # None in the moment between its end and its next start.
        while not (web := next((one for one in (await lease.status()).services if one.restarts), None)):
            await trio.sleep(0.1)
    assert web.last_end.startswith("exit code 137"), json.dumps(web.last_end)
    assert await get(lease, "/") == "two"
    assert await get(lease, "/db") == "rows\n"


async def is_gone(here: Life) -> None:
    """No process, no folder, no volume."""
    await emptied(here.home)
    runtime = here.provider / "provider" / "runtime"
    with trio.fail_after(PATIENCE_S):
        while [*(runtime / "run").iterdir(), *(runtime / "volumes").iterdir()]:
            await trio.sleep(0.1)
