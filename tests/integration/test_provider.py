"""A provider with its real runtime: sandboxes that run the demo image, reached through the channel."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from tests.support.made_images import image_in
from tests.support.providers import (
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
from tests.support.registries import PASSWORD, USER, docker_registry, trusting

from fondaco.node.demo import HELLO
from fondaco.node.image import REFERENCE, build_demo_image
from fondaco.protocol import sdl
from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.protocol.manifest import ManifestGroup
from fondaco.protocol.messages import Activate
from fondaco.protocol.records import Lease, LeaseState
from fondaco.provider.gateway import Gateway
from fondaco.provider.images.blobs import BlobStore
from fondaco.provider.images.pulling import RegistrySource
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.oci import LayoutSource


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    build_demo_image(path)
    return path


@pytest.fixture
async def site(tmp_path: Path, layout: Path) -> AsyncIterator[Site]:
    """A site whose workloads are real sandboxes; whatever is left of them is stopped at the end."""
    async with real_site(tmp_path, EmbeddedRuntime(tmp_path / "runtime", [LayoutSource(layout)])) as site:
        yield site


@asynccontextmanager
async def real_site(tmp_path: Path, runtime: EmbeddedRuntime) -> AsyncIterator[Site]:
    try:
        await runtime.probe()
    except Refused as refused:
        pytest.skip(f"no sandbox on this machine: {refused}")
    async with aclosing(runtime), trio.open_nursery() as nursery:
        yield Site(tmp_path / "provider", FakeChain(), FakeMarket(), runtime, nursery)
        for workload in await runtime.list():
            await runtime.stop(workload.id, grace_ms=0)
        nursery.cancel_scope.cancel()


def demo_group() -> ManifestGroup:
    small = replace(resources(), memory_bytes=256 * MIB)
    return manifest_group(replace(web(image=REFERENCE, port=8080), resources=small, env=("PORT=8080",)))


@pytest.fixture
def lease(site: Site) -> Lease:
    group = demo_group()
    lease = make_lease(make_order(group), group)
    site.chain.put(lease)
    return lease


async def test_a_lease_runs_answers_logs_and_is_torn_down(site: Site, lease: Lease) -> None:
    async with site.running() as agent:
        client = site.client(Gateway(agent), lease)
        steps = [item.step async for item in client.put_manifest(*hand_off(lease, demo_group()))]
        assert steps[-1] == "running"
        assert site.chain.leases[lease.id].state is LeaseState.ACTIVE
        answer = await client.http_get("web", 8080, "/")
        assert answer.status == 200
        assert answer.body
        async with client.logs(follow=True) as lines:
            with trio.fail_after(10):
                assert (await anext(lines)).service == "web"
        site.chain.close(lease.id)
        with trio.fail_after(10):
            while agent.work(lease.id) is not None:
                await trio.sleep(0.01)
        assert await site.runtime.list() == ()
        assert agent.inventory.reservations == ()


async def test_a_provider_that_crashed_finds_its_workload_running_and_never_restarts_it(
    site: Site, lease: Lease
) -> None:
    async with site.running() as agent:
        async for _ in site.client(Gateway(agent), lease).put_manifest(*hand_off(lease, demo_group())):
            pass
        (before,) = await site.runtime.list()
    async with trio.open_nursery() as nursery:
        agent = site.agent()
        plan = await nursery.start(agent.run)
        assert plan.adopt == {lease.id}
        client = site.client(Gateway(agent), lease)
        async for _ in client.put_manifest(*hand_off(lease, demo_group())):
            pass
        assert (await client.http_get("web", 8080, "/")).status == 200
        (after,) = await site.runtime.list()
        assert (after.pid, after.started_at) == (before.pid, before.started_at)
        nursery.cancel_scope.cancel()
    assert sum(isinstance(message, Activate) for message in site.chain.submitted) == 1


async def test_a_workload_that_was_killed_is_running_again_with_its_provider(site: Site, lease: Lease) -> None:
    async with site.running() as agent:
        async for _ in site.client(Gateway(agent), lease).put_manifest(*hand_off(lease, demo_group())):
            pass
    (workload,) = await site.runtime.list()
    await site.runtime.stop(workload.id, grace_ms=0)
    async with trio.open_nursery() as nursery:
        agent = site.agent()
        plan = await nursery.start(agent.run)
        assert plan.restart == {lease.id}
        client = site.client(Gateway(agent), lease)
        async for _ in client.put_manifest(*hand_off(lease, demo_group())):
            pass
        assert (await client.http_get("web", 8080, "/")).status == 200
        nursery.cancel_scope.cancel()


async def test_an_sdl_files_private_image_is_pulled_with_its_credentials_and_restarts_without_its_registry(
    tmp_path: Path, layout: Path
) -> None:
    with docker_registry(tmp_path / "registry", htpasswd=True) as registry:
        reference = registry.push(image_in(layout), "team/hello", "1")
        credentials = f'credentials: {{host: "{registry.host}", username: {USER}, password: "{PASSWORD}"}}'
        text = HELLO.read_text().replace(REFERENCE, f"{reference}\n    {credentials}")
        (group,) = sdl.parse(text.encode()).manifest
        home = tmp_path / "runtime"
        source = RegistrySource(trusting(registry.host), BlobStore(home / "images" / "blobs"))
        async with real_site(tmp_path, EmbeddedRuntime(home, [source])) as site, site.running() as agent:
            lease = make_lease(make_order(group), group)
            site.chain.put(lease)
            client = site.client(Gateway(agent), lease)
            told = [
                one.detail async for one in client.put_manifest(*hand_off(lease, group)) if one.step == "image"
            ]
            assert told[0] == reference
            assert told[-1].endswith(" MiB")
            assert (await client.http_get("web", 8080, "/")).status == 200
            registry.process.kill()
            (workload,) = await site.runtime.list()
            assert workload.pid is not None
            os.kill(workload.pid, signal.SIGKILL)
            with trio.fail_after(30):
                # Between its stop and its next start there is none to tell of.
                while not any(one.restarts for one in (await client.status()).services):
                    await trio.sleep(0.01)
                while True:
                    try:
                        assert (await client.http_get("web", 8080, "/")).status == 200
                        return
                    except Refused:
                        await trio.sleep(0.01)
