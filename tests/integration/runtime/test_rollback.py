"""Updates that do not come up, of real workloads: what ran before runs again, with what it had on its disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio
from tests.integration.runtime.conftest import PATIENCE_SECONDS, Bench
from tests.support.providers import (
    SALT,
    FakeChain,
    FakeMarket,
    Site,
    hand_off,
    make_lease,
    make_order,
    manifest_group,
    resources,
    web,
)
from tests.support.workloads import volume

from fondaco.protocol import manifest
from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.protocol.manifest import ManifestGroup, Service, ServiceParams, VolumeMount
from fondaco.protocol.records import Lease
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway
from fondaco.provider.leases import Phase

COUNTING = """
import http.server, pathlib
starts = pathlib.Path('/data/starts')
starts.write_text((starts.read_text() if starts.exists() else '') + 'x')
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = starts.read_bytes()
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(('0.0.0.0', 8080), Handler).serve_forever()
"""
"""Serves how often it was started, as its persistent volume remembers."""
CRASHING = "import sys, pathlib; pathlib.Path('/data/starts').open('a').write('!'); sys.exit(3)"
FADING = "import sys, time; time.sleep(1.5); sys.exit(4)"


@dataclass
class Town:
    """A lease that runs, and the versions that may follow."""

    site: Site
    image: str
    lease: Lease

    def group(self, code: str, *, image: str = "") -> ManifestGroup:
        data = volume("data", 8 * MIB, kind="beta2", persistent="true")
        mounts = (VolumeMount(name="data", mount="/data", read_only=False),)
        service: Service = replace(
            web(image=image or self.image, port=8080),
            command=("python3", "-u", "-c", code),
            resources=replace(resources(), memory_bytes=256 * MIB, volumes=(data,)),
            params=ServiceParams(storage=mounts, permissions=None, tee=None),
        )
        return manifest_group(service)

    def agreed(self, group: ManifestGroup) -> Lease:
        """The ledger has taken an update."""
        before = self.site.chain.leases[self.lease.id]
        commitment = manifest.commitment(SALT, group)
        self.site.chain.put(replace(before, version=before.version + 1, commitment=commitment))
        return self.site.chain.leases[self.lease.id]

    async def hand(self, agent: Agent, lease: Lease, group: ManifestGroup) -> None:
        async for _ in self.site.client(Gateway(agent), lease).put_manifest(*hand_off(lease, group)):
            pass

    async def refused(self, agent: Agent, lease: Lease, group: ManifestGroup) -> Refused:
        with trio.fail_after(PATIENCE_SECONDS), pytest.raises(Refused) as error:
            await self.hand(agent, lease, group)
        return error.value

    async def starts(self, agent: Agent) -> bytes:
        return (await self.site.client(Gateway(agent), self.lease).http_get("web", 8080)).body


@pytest.fixture
async def town(embedded: Bench, tmp_path: Path) -> AsyncIterator[Town]:
    async with trio.open_nursery() as nursery:
        site = Site(tmp_path / "provider", FakeChain(), FakeMarket(), embedded.runtime, nursery)
        order = make_order()
        town = Town(site, embedded.image.reference, make_lease(order))
        first = town.group(COUNTING)
        town.lease = make_lease(make_order(first), first)
        site.chain.put(town.lease)
        yield town
        nursery.cancel_scope.cancel()


async def test_a_broken_update_leaves_the_old_version_serving_and_its_volume_whole(town: Town) -> None:
    async with town.site.running() as agent:
        await town.hand(agent, town.lease, town.group(COUNTING))
        assert await town.starts(agent) == b"x"
        nowhere = town.group(COUNTING, image="nowhere:1")
        error = await town.refused(agent, town.agreed(nowhere), nowhere)
        assert (error.code, "version 1 runs as before" in error.message) == ("update.rolled_back", True)
        assert await town.starts(agent) == b"x", "it was never stopped"
        crashing = town.group(CRASHING)
        error = await town.refused(agent, town.agreed(crashing), crashing)
        assert (error.code, "exit code 3" in error.message) == ("update.rolled_back", True)
        assert await town.starts(agent) == b"x!x", "the update ran once, then the old version again"
        assert {type(message).__name__ for message in town.site.chain.submitted} <= {"Activate", "Alive"}


async def test_a_provider_killed_while_a_broken_update_comes_up_goes_back_all_the_same(town: Town) -> None:
    async with town.site.running() as agent:
        await town.hand(agent, town.lease, town.group(COUNTING))
        fading = town.group(FADING)
        newer = town.agreed(fading)
        definition = manifest.service_hash(fading.services[0]).hex()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(town.hand, agent, newer, fading)
            with trio.fail_after(PATIENCE_SECONDS):
                while definition not in {one.definition for one in await town.site.runtime.list()}:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    async with town.site.running() as agent:
        with trio.fail_after(PATIENCE_SECONDS):
            while (work := agent.work(town.lease.id)) is None or work.phase is not Phase.RUNNING:
                await trio.sleep(0.01)
        assert await town.starts(agent) == b"xx"
        told = [event.kind async for event in town.site.client(Gateway(agent), newer).events()]
        assert (told.count("adopted"), told.count("rolled_back")) == (1, 1)
