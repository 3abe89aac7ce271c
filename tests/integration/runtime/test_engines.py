"""What only runtimes by an engine have: a service that may be away, and containers that may be left over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest
import trio
from tests.integration.runtime.conftest import PATIENCE_SECONDS, WITH_DOCKER, Bench, Service

from fondaco.node.image import BuiltImage
from fondaco.node.provider_config import ProviderConfig
from fondaco.node.runtime_settings import open_runtime
from fondaco.protocol.errors import Unreachable
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import lifecycle
from fondaco.provider.runtimes.docker import DockerRuntime
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.podman import PodmanRuntime
from fondaco.provider.runtimes.port import AWAY, State, parse_workload_id
from fondaco.provider.runtimes.unpack import remove_tree

IDLE = "import time; print('ready'); time.sleep(600)"
KINDS = {"podman": PodmanRuntime, "docker": DockerRuntime}


@pytest.fixture(params=["podman", WITH_DOCKER])
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue(f"{request.param}_service")
    return found


@contextmanager
def away(service: Service) -> Iterator[None]:
    """Nobody listens where it did."""
    elsewhere = service.socket.with_name("elsewhere")
    service.socket.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(service.socket)


@pytest.mark.parametrize(("name", "unit"), [("podman", "podman.socket"), ("docker", "docker")])
async def test_without_its_service_a_provider_is_told_how_to_start_it(
    tmp_path: Path, name: str, unit: str
) -> None:
    async with aclosing(KINDS[name](tmp_path, [], socket=tmp_path / "none")) as runtime:
        with pytest.raises(Unreachable, match=rf"{name} does not .*none.*systemctl enable --now {unit}") as caught:
            await runtime.probe()
        assert caught.value.code == AWAY


async def test_the_configuration_chooses_the_runtime(tmp_path: Path) -> None:
    for name, kind in {"embedded": EmbeddedRuntime, **KINDS}.items():
        async with aclosing(open_runtime(ProviderConfig(runtime=name), tmp_path)) as runtime:
            assert type(runtime) is kind


async def test_a_container_is_confined_as_the_probe_says(bench: Bench, service: Service) -> None:
    workload = await bench.runtime.start(bench.spec(IDLE))
    async with aclosing(service.client()) as engine:
        found = await engine.inspect(workload.id)
    assert found is not None
    host = found["HostConfig"]
    assert found.get("EffectiveCaps") in (None, [])
    assert host["CapAdd"] in (None, [])
    assert host["NetworkMode"] == "none"
    assert "no-new-privileges" in host["SecurityOpt"]
    assert not host["Privileged"]
    assert host["Memory"] == bench.spec().memory_bytes


async def test_a_container_whose_folder_is_gone_is_removed(bench: Bench, service: Service) -> None:
    workload = await bench.runtime.start(bench.spec(IDLE))
    await bench.line(workload, "ready")
    remove_tree(bench.home / "run" / workload.id)  # as when the provider was killed within a stop
    assert await bench.runtime.list() == ()
    async with aclosing(service.client()) as engine:
        assert await engine.inspect(workload.id) is None
    assert [line.text async for line in bench.runtime.logs(workload.id)] == ["ready"]
    named = parse_workload_id(workload.id)
    assert named is not None
    again = await bench.runtime.start(bench.spec(IDLE, lease=named[0]))
    assert again.state is State.RUNNING


async def test_a_container_that_somebody_else_removed_is_lost_and_can_be_stopped(
    bench: Bench, service: Service
) -> None:
    lease = LeaseId(b"\3" * 32)
    workload = await bench.runtime.start(bench.spec(IDLE, lease=lease))
    async with aclosing(service.client()) as engine:
        await engine.remove(workload.id)
    assert (await bench.runtime.wait(workload.id)).state is State.LOST
    assert [one.state for one in await bench.runtime.list()] == [State.LOST]
    last = await bench.runtime.stop(workload.id)
    assert last is not None
    assert last.exit_code is None
    assert await bench.runtime.list() == ()
    assert (await bench.runtime.start(bench.spec(IDLE, lease=lease))).state is State.RUNNING


async def test_what_was_being_started_when_the_provider_was_killed_is_lost_and_stopped_at_once(
    bench: Bench, service: Service
) -> None:
    workload = await bench.runtime.start(bench.spec(IDLE))
    (bench.home / "run" / workload.id / "state.json").unlink()  # that it runs was not written down yet
    again = bench.again()
    assert [one.state for one in await again.list()] == [State.LOST]
    with trio.fail_after(PATIENCE_SECONDS / 2):
        await again.stop(workload.id, grace_ms=0)
    async with aclosing(service.client()) as engine:
        assert await engine.inspect(workload.id) is None


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


async def test_while_the_engine_is_away_nothing_is_said_of_what_ended_and_waiting_goes_on(
    bench: Bench, service: Service
) -> None:
    idle = await bench.runtime.start(bench.spec(IDLE))
    workload = await bench.runtime.start(bench.spec())
    first = lifecycle.first_process(bench.home / "run" / workload.id)
    assert first is not None
    codes: list[int | None] = []
    again = bench.again()  # a connection that is open already outlives the name it was made by

    async def wait() -> None:
        codes.append((await again.wait(workload.id)).exit_code)

    async with trio.open_nursery() as nursery:
        with away(service):
            assert (await again.status(workload.id)).state is State.RUNNING
            assert "hostname: web" in await bench.get(workload.id)
            with pytest.raises(Unreachable) as caught:
                await again.start(bench.spec(IDLE))
            assert caught.value.code == AWAY
            nursery.start_soon(wait)
            await again.exec(workload.id, ["python3", "-c", "import os; os.kill(1, 15)"])
            await lifecycle.gone(first)
            for ask in (again.list(), again.status(workload.id), again.stop(idle.id, grace_ms=0)):
                with pytest.raises(Unreachable):
                    await ask
            assert codes == []
        with trio.fail_after(PATIENCE_SECONDS):
            while not codes:
                await trio.sleep(0.01)
    assert codes == [143]
    last = await again.stop(idle.id)
    assert last is not None
    assert last.exit_code == 137
    found = {one.id: (one.state, one.exit_code) for one in await again.list()}
    assert found.pop(workload.id) == (State.EXITED, 143)
    assert [state for state, _ in found.values()] == [State.LOST], "what could not be started is to be stopped"
