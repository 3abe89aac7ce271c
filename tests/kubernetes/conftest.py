"""A real cluster, named by FONDACO_KUBERNETES; without one these tests are skipped, and say so.

The variable is the path of a TOML file: what a `[provider]` says of its cluster, and `image`, a busybox in a
registry that both this machine and the nodes reach.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from fondaco.node import provider_config
from fondaco.node.kubernetes_settings import open_kubernetes
from fondaco.node.runtime_settings import registries_of
from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes.kubernetes import client, websocket, wire
from fondaco.provider.runtimes.kubernetes.runtime import KubernetesRuntime
from fondaco.provider.runtimes.port import Capability, WorkloadSpec

VARIABLE = "FONDACO_KUBERNETES"


@pytest.fixture(scope="session")
def cluster_file() -> Path:
    named = os.environ.get(VARIABLE)
    if not named:
        pytest.skip(f"no cluster: {VARIABLE} names no file, see docs/how-to/use-kubernetes.md")
    return Path(named)


@pytest.fixture(scope="session")
def told(cluster_file: Path) -> dict[str, Any]:
    return tomllib.loads(cluster_file.read_text())


@pytest.fixture
def image(told: dict[str, Any]) -> str:
    return str(told["image"])


@pytest.fixture
def config(told: dict[str, Any], cluster_file: Path) -> provider_config.ProviderConfig:
    values = {name: value for name, value in told.items() if name != "image"}
    found = provider_config.read(values, cluster_file)
    return dataclasses.replace(found, kubernetes_probe_image=told["image"])


ASKED: list[tuple[str, str, bool]] = []
"""Method, path, and whether it was a watch: all that the server was asked."""


@pytest.fixture(autouse=True, scope="session")
def listening() -> Iterator[None]:
    """Notes down what is asked on its way to a real server."""
    with pytest.MonkeyPatch.context() as patch:
        call, ask, shake = client.ApiServer._call, wire.Answer.ask, websocket._shake

        async def calling(self: Any, method: str, path: str, **more: Any) -> Any:
            ASKED.append((method, path, False))
            return await call(self, method, path, **more)

        async def asking(self: Any, access: Any, path: str, params: Any, headers: Any) -> None:
            ASKED.append(("GET", path, "watch" in params))
            await ask(self, access, path, params, headers)

        async def shaking(stream: Any, api: Any, netloc: str, target: str, protocols: Any) -> Any:
            ASKED.append(("GET", target, False))
            return await shake(stream, api, netloc, target, protocols)

        patch.setattr(client.ApiServer, "_call", calling)
        patch.setattr(wire.Answer, "ask", asking)
        patch.setattr(websocket, "_shake", shaking)
        yield


PROBED: list[Capability] = []
"""Once for all: it takes some seconds."""


@pytest.fixture
async def opened(
    config: provider_config.ProviderConfig, tmp_path: Path
) -> AsyncIterator[Callable[[], KubernetesRuntime]]:
    """Makes runtimes over one home: the second is what comes after a crash of the first."""
    made: list[KubernetesRuntime] = []

    def open_one() -> KubernetesRuntime:
        runtime = open_kubernetes(config, tmp_path / "runtime", registries_of(config))
        made.append(runtime)
        return runtime

    yield open_one
    with trio.CancelScope(shield=True):
        for runtime in made:
            await runtime.aclose()


@pytest.fixture
async def runtime(opened: Callable[[], KubernetesRuntime]) -> KubernetesRuntime:
    runtime = opened()
    if not PROBED:
        PROBED.append(await runtime.probe())
    await runtime.trust(PROBED[0])
    return runtime


@pytest.fixture
async def lease(runtime: KubernetesRuntime) -> AsyncIterator[LeaseId]:
    """One of its own for each test; what was started in it is removed with it."""
    lease = LeaseId(os.urandom(32))
    yield lease
    with trio.CancelScope(shield=True):
        for workload in await runtime.list():
            await runtime.stop(workload.id, grace_ms=0)
        await runtime.release(lease)


@pytest.fixture
def spec(lease: LeaseId, image: str) -> Callable[..., WorkloadSpec]:
    def make(script: str = "sleep 1000", **changes: Any) -> WorkloadSpec:
        given: dict[str, Any] = {
            "lease": lease,
            "service": "web",
            "image": image,
            "command": ("sh", "-c", script),
            "cpu_milli": 100,
            "memory_bytes": 64 * MIB,
            "ephemeral_bytes": 64 * MIB,
            "definition": "0" * 64,
        }
        return WorkloadSpec(**{**given, **changes})

    return make
