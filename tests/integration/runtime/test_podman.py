"""What only podman's runtime has: a service that may be away, and containers that may be left over."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest
from tests.integration.runtime.conftest import Bench, Service

from fondaco.node.image import BuiltImage
from fondaco.node.provider_config import ProviderConfig
from fondaco.node.runtime_settings import open_runtime
from fondaco.protocol.errors import Unreachable
from fondaco.provider.runtimes import lifecycle
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.podman import PodmanRuntime
from fondaco.provider.runtimes.port import AWAY, State
from fondaco.provider.runtimes.unpack import remove_tree

IDLE = "import time; time.sleep(600)"


@pytest.fixture
def service(podman_service: Service) -> Service:
    """Podman's only."""
    return podman_service


async def test_without_its_service_a_provider_is_told_how_to_start_it(tmp_path: Path) -> None:
    async with aclosing(PodmanRuntime(tmp_path, [], socket=tmp_path / "none")) as runtime:
        with pytest.raises(Unreachable, match=r"none.*systemctl enable --now podman\.socket") as caught:
            await runtime.probe()
        assert caught.value.code == AWAY


async def test_the_configuration_chooses_the_runtime(tmp_path: Path) -> None:
    async with aclosing(open_runtime(ProviderConfig(runtime="podman"), tmp_path)) as runtime:
        assert isinstance(runtime, PodmanRuntime)
    async with aclosing(open_runtime(ProviderConfig(), tmp_path)) as runtime:
        assert type(runtime) is EmbeddedRuntime


async def test_a_container_is_confined_as_the_probe_says(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec(IDLE))
    assert bench.service is not None
    async with aclosing(bench.service.client()) as podman:
        found = await podman.inspect(workload.id)
    assert found is not None
    host = found["HostConfig"]
    assert found["EffectiveCaps"] in (None, [])
    assert host["NetworkMode"] == "none"
    assert "no-new-privileges" in host["SecurityOpt"]
    assert not host["Privileged"]
    assert host["Memory"] == bench.spec().memory_bytes


async def test_a_container_whose_folder_is_gone_is_removed(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec(IDLE))
    remove_tree(bench.home / "run" / workload.id)  # as when the provider was killed within a stop
    assert await bench.runtime.list() == ()
    assert bench.service is not None
    async with aclosing(bench.service.client()) as podman:
        assert await podman.inspect(workload.id) is None
    again = await bench.runtime.start(bench.spec(IDLE, lease=bytes.fromhex(workload.id[:64])))
    assert again.state is State.RUNNING


async def test_a_container_that_somebody_else_removed_is_lost_and_can_be_stopped(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec(IDLE))
    assert bench.service is not None
    async with aclosing(bench.service.client()) as podman:
        await podman.remove(workload.id)
    assert (await bench.runtime.wait(workload.id)).state is State.LOST
    assert [one.state for one in await bench.runtime.list()] == [State.LOST]
    last = await bench.runtime.stop(workload.id)
    assert last is not None
    assert last.exit_code is None
    assert await bench.runtime.list() == ()


async def test_containers_of_another_home_are_left_alone(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory, demo_layout: tuple[Path, BuiltImage]
) -> None:
    workload = await bench.runtime.start(bench.spec(IDLE))
    other = Bench(tmp_path_factory.mktemp("other"), *demo_layout, service=bench.service)
    assert await other.runtime.list() == ()
    await other.runtime.aclose()
    assert (await bench.runtime.status(workload.id)).state is State.RUNNING


async def test_a_next_run_of_the_provider_learns_how_a_container_ended_meanwhile(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec("import time; time.sleep(0.3); raise SystemExit(9)"))
    first = lifecycle.first_process(bench.home / "run" / workload.id)
    assert first is not None
    await lifecycle.gone(first)
    (found,) = await bench.again().list()
    assert found.id == workload.id
    ended = await bench.again().wait(workload.id)
    assert (ended.state, ended.exit_code) == (State.EXITED, 9)
