"""Real sandboxes over the demo image, one runtime home for each test."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from fondaco.node.image import BuiltImage, build_demo_image
from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import bubblewrap, crun
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.launch import Backend
from fondaco.provider.runtimes.libpod import Libpod
from fondaco.provider.runtimes.oci import LayoutSource
from fondaco.provider.runtimes.podman import PodmanRuntime
from fondaco.provider.runtimes.port import Workload, WorkloadId, WorkloadSpec

PATIENCE_SECONDS = 10


class Bench:
    """A runtime and the few things every test does with it."""

    def __init__(
        self,
        home: Path,
        layout: Path,
        image: BuiltImage,
        backend: Backend | None = None,
        socket: Path | None = None,
    ) -> None:
        self.home = home
        self.layout = layout
        self.image = image
        self.backend = backend
        self.socket = socket
        """Of podman's service; None: the runtime is the embedded one."""
        self.made: list[EmbeddedRuntime] = []
        self.runtime = self.again()

    def again(self) -> EmbeddedRuntime:
        """A runtime of the same kind over the same home, as after a crash of the provider."""
        sources = [LayoutSource(self.layout)]
        if self.socket is not None:
            self.made.append(PodmanRuntime(self.home, sources, socket=self.socket))
        else:
            self.made.append(EmbeddedRuntime(self.home, sources, backend=self.backend))
        return self.made[-1]

    def spec(self, code: str = "", **changes: object) -> WorkloadSpec:
        """The demo server, or a workload that runs `code` in the image's Python."""
        spec = WorkloadSpec(
            lease=LeaseId(secrets.token_bytes(32)),
            service="web",
            image=self.image.reference,
            command=("python3", "-u", "-c", code) if code else (),
            cpu_milli=1_000,
            memory_bytes=256 * MIB,
        )
        return replace(spec, **changes)  # type: ignore[arg-type]

    async def run(self, code: str, **changes: object) -> tuple[int | None, list[str]]:
        """Run `code` to its end: its exit code and what it printed."""
        workload = await self.runtime.start(self.spec(code, **changes))
        with trio.fail_after(PATIENCE_SECONDS):
            ended = await self.runtime.wait(workload.id)
        lines = [line.text async for line in self.runtime.logs(workload.id)]
        await self.runtime.stop(workload.id)
        return ended.exit_code, lines

    async def get(self, workload: WorkloadId, path: str = "/", port: int = 8080) -> str:
        """GET over dial, as soon as somebody listens."""
        with trio.fail_after(PATIENCE_SECONDS):
            stream = await self._dial(workload, port)
            async with stream:
                await stream.send_all(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                return b"".join([chunk async for chunk in stream]).decode()

    async def _dial(self, workload: WorkloadId, port: int) -> trio.SocketStream:
        while True:
            try:
                return await self.runtime.dial(workload, port)
            except Refused as refused:
                if refused.code != "workload.dial":
                    raise
                await trio.sleep(0.01)

    async def line(self, workload: Workload, wanted: str) -> None:
        """Return once the workload has printed `wanted`."""
        with trio.fail_after(PATIENCE_SECONDS):
            async for line in self.runtime.logs(workload.id, follow=True):
                if wanted in line.text:
                    return
        raise AssertionError(f"the workload ended without printing {wanted!r}")


@pytest.fixture(scope="session")
def demo_layout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuiltImage]:
    layout = tmp_path_factory.mktemp("layout")
    return layout, build_demo_image(layout)


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory, demo_layout: tuple[Path, BuiltImage]) -> Path:
    """An image cache that all tests share: unpacking takes longer than everything else."""
    layout, image = demo_layout
    home = tmp_path_factory.mktemp("cache")

    async def prepare() -> None:
        async with aclosing(EmbeddedRuntime(home, [LayoutSource(layout)])) as runtime:
            try:
                await runtime.probe()
            except Refused as refused:
                pytest.skip(str(refused))
            await runtime.prepare(image.reference)

    trio.run(prepare)
    return home / "images"


def found(name: str) -> Backend:
    """One of the embedded runtime's backends, or the test is skipped."""
    backend: Backend | None = {"bubblewrap": bubblewrap.find, "crun": crun.find}[name]()
    if backend is None:
        pytest.skip(f"{name} is not installed")
    return backend


async def ended(bench: Bench) -> None:
    for workload in await bench.runtime.list():
        await bench.runtime.stop(workload.id, grace_ms=0)
    for runtime in bench.made:
        await runtime.aclose()


WITH_PODMAN = pytest.param("podman", marks=pytest.mark.heavy)
"""Each container takes podman most of a second; `test_podman` has what the default suite shall know of it."""


@pytest.fixture(params=["bubblewrap", "crun", WITH_PODMAN])
def by(request: pytest.FixtureRequest) -> Backend | Path:
    """A backend of the embedded runtime, or the socket of podman's service."""
    return request.getfixturevalue("podman_socket") if request.param == "podman" else found(request.param)


@pytest.fixture
async def each_bench(
    by: Backend | Path, tmp_path: Path, demo_layout: tuple[Path, BuiltImage], unpacked: Path
) -> AsyncIterator[Bench]:
    """One bench for whatever makes sandboxes here."""
    os.symlink(unpacked, tmp_path / "images")
    backend, socket = (None, by) if isinstance(by, Path) else (by, None)
    made = Bench(tmp_path, *demo_layout, backend=backend, socket=socket)
    try:
        await made.runtime.probe()
    except Refused as refused:
        pytest.skip(str(refused))
    yield made
    await ended(made)


PODMAN = """
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /run
umount /sys/fs/cgroup/unified 2>/dev/null  # crun refuses a hybrid of both versions
ip link set lo up
exec podman --root "$1/root" --runroot "$1/run" system service --time=0 "unix://$1/sock"
"""
CONTAINERS_CONF = """
[containers]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"""


@pytest.fixture(scope="session")
def podman_socket() -> Iterator[Path]:
    """A podman of the tests' own, with private folders, mounts, network and control groups; gone with them."""
    for tool in ("podman", "crun", "conmon", "unshare"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if os.geteuid() != 0:
        pytest.skip("a podman of the tests' own needs root")
    top = Path(tempfile.mkdtemp(dir="/var/tmp"))  # the path of a socket must be short
    top.chmod(0o711)
    (top / "containers.conf").write_text(CONTAINERS_CONF)
    environment = {"PATH": os.defpath, "HOME": str(top), "CONTAINERS_CONF": str(top / "containers.conf")}
    log = (top / "log").open("wb")
    command = ["unshare", "--mount", "--net", "--cgroup", "--ipc", "sh", "-c", PODMAN, "podman", str(top)]
    service = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        if not trio.run(answers, top / "sock", service):
            pytest.skip(f"podman does not start here: {(top / 'log').read_text()[-300:]}")
        yield top / "sock"
    finally:
        service.terminate()
        service.wait()
        log.close()
        shutil.rmtree(top, ignore_errors=True)
        for parent in Path("/sys/fs/cgroup").glob("*/libpod_parent"):
            with contextlib.suppress(OSError):  # another podman uses it, too
                (parent / "conmon").rmdir()
                parent.rmdir()


async def answers(socket: Path, service: subprocess.Popen[bytes]) -> bool:
    """Whether the service answers before it ends, or patience does."""
    async with aclosing(Libpod(socket)) as podman:
        with trio.move_on_after(2 * PATIENCE_SECONDS):
            while service.poll() is None:
                with contextlib.suppress(Refused):
                    await podman.info()
                    return True
                await trio.sleep(0.05)
    return False


@pytest.fixture(params=["embedded", WITH_PODMAN])
def socket(request: pytest.FixtureRequest) -> Path | None:
    """Of podman's service, for the runtime that is podman's."""
    return request.getfixturevalue("podman_socket") if request.param == "podman" else None


@pytest.fixture
async def bench(
    socket: Path | None, tmp_path: Path, demo_layout: tuple[Path, BuiltImage], unpacked: Path
) -> AsyncIterator[Bench]:
    """The same claims hold of every runtime."""
    os.symlink(unpacked, tmp_path / "images")
    made = Bench(tmp_path, *demo_layout, socket=socket)
    yield made
    await ended(made)


@pytest.fixture
async def embedded(tmp_path: Path, demo_layout: tuple[Path, BuiltImage], unpacked: Path) -> AsyncIterator[Bench]:
    """For what only the embedded runtime has: backends to choose from, a shim."""
    os.symlink(unpacked, tmp_path / "images")
    made = Bench(tmp_path, *demo_layout)
    yield made
    await ended(made)
