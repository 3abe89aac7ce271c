"""Real sandboxes over the demo image, one runtime home for each test."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from fondaco.node.image import BuiltImage, build_demo_image
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import bubblewrap, crun
from fondaco.provider.runtimes.docker import DockerRuntime
from fondaco.provider.runtimes.docker_engine import Docker
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.engine import EngineRuntime
from fondaco.provider.runtimes.engine_client import EngineClient
from fondaco.provider.runtimes.launch import Backend
from fondaco.provider.runtimes.libpod import Libpod
from fondaco.provider.runtimes.oci import LayoutSource
from fondaco.provider.runtimes.podman import PodmanRuntime
from fondaco.provider.runtimes.port import Capability, Workload, WorkloadId, WorkloadSpec

PATIENCE_SECONDS = 10
SECRET = "of the host"


@dataclass(slots=True, kw_only=True)
class Service:
    """An engine that listens on `socket`."""

    name: str
    socket: Path
    probed: tuple[Capability, int | None] | None = None
    """What it was found to hold, and who root is outside: found once, since it takes three containers."""

    def runtime(self, home: Path, sources: list[LayoutSource]) -> EngineRuntime:
        kind = DockerRuntime if self.name == "docker" else PodmanRuntime
        made = kind(home, sources, socket=self.socket)
        if self.probed is not None:
            made._capability, made._owner = self.probed
        return made

    async def probe(self, runtime: EngineRuntime) -> None:
        if self.probed is None:
            capability = await runtime.probe()
            self.probed = capability, runtime._owner

    def client(self) -> EngineClient:
        return Docker(self.socket) if self.name == "docker" else Libpod(self.socket)


class Bench:
    """A runtime and the few things every test does with it."""

    def __init__(
        self,
        home: Path,
        layout: Path,
        image: BuiltImage,
        backend: Backend | None = None,
        service: Service | None = None,
    ) -> None:
        self.home = home
        self.layout = layout
        self.image = image
        self.backend = backend
        self.service = service
        """None: the runtime is the embedded one."""
        self.made: list[EmbeddedRuntime] = []
        self.runtime = self.again()

    def again(self) -> EmbeddedRuntime:
        """A runtime of the same kind over the same home, as after a crash of the provider."""
        sources = [LayoutSource(self.layout)]
        if self.service is not None:
            self.made.append(self.service.runtime(self.home, sources))
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


WITH_DOCKER = pytest.param("docker", marks=pytest.mark.heavy)
NOT_DOCKERS = pytest.mark.parametrize("service", ["embedded", WITH_PODMAN], indirect=True)
NOR_ENGINES = pytest.mark.parametrize("by", ["bubblewrap", "crun"], indirect=True)
"""For claims that an engine, or another one, has no part in: each container costs most of a second."""


@pytest.fixture(params=["bubblewrap", "crun", WITH_PODMAN, WITH_DOCKER])
def by(request: pytest.FixtureRequest) -> Backend | Service:
    """A backend of the embedded runtime, or an engine."""
    if request.param in ("podman", "docker"):
        service: Service = request.getfixturevalue(f"{request.param}_service")
        return service
    return found(request.param)


@pytest.fixture
async def each_bench(
    by: Backend | Service, tmp_path: Path, demo_layout: tuple[Path, BuiltImage], unpacked: Path
) -> AsyncIterator[Bench]:
    """One bench for whatever makes sandboxes here."""
    os.symlink(unpacked, tmp_path / "images")
    backend, service = (None, by) if isinstance(by, Service) else (by, None)
    made = Bench(tmp_path, *demo_layout, backend=backend, service=service)
    try:
        if isinstance(made.runtime, EngineRuntime) and service is not None:
            await service.probe(made.runtime)
        else:
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


DOCKER = """
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /run
umount /sys/fs/cgroup/unified 2>/dev/null  # so does runc
ip link set lo up
for file in passwd group subuid subgid; do
    touch "/etc/$file"
    cat "/etc/$file" "$1/$file" > "$1/new.$file"
    mount --bind "$1/new.$file" "/etc/$file"
done
ours="$1/run/containerd/containerd.pid"
while [ ! -e "$1/over" ]; do  # a daemon that was killed comes back, and would wait for its containerd
    if [ -e "$ours" ]; then kill -9 "$(cat "$ours")"; fi
    rm -f "$1/pid" "$ours"
    dockerd --data-root "$1/root" --exec-root "$1/run" -H "unix://$1/sock" --pidfile "$1/pid" \\
        $2 --live-restore --storage-driver=overlay2 --exec-opt native.cgroupdriver=cgroupfs \\
        --bridge=none --iptables=false --ip6tables=false --userland-proxy=false
done
"""
REMAPPED = {
    "passwd": "remapped:x:1879113728:1879113728::/:/bin/false\n",
    "group": "remapped:x:1879113728:\n",
    "subuid": "remapped:1879113728:65536\n",
    "subgid": "remapped:1879113728:65536\n",
}
"""Root of a container is nobody of this machine, nor whom other runtimes' sandboxes run as."""


@pytest.fixture(scope="session")
def podman_service() -> Iterator[Service]:
    """A podman of the tests' own, with private folders, mounts, network and control groups; gone with them."""
    with running("podman", PODMAN, {"containers.conf": CONTAINERS_CONF}, ("podman", "crun", "conmon")) as service:
        yield service
    for parent in Path("/sys/fs/cgroup").glob("*/libpod_parent"):
        with contextlib.suppress(OSError):  # another podman uses it, too
            (parent / "conmon").rmdir()
            parent.rmdir()


@pytest.fixture(scope="session")
def docker_service() -> Iterator[Service]:
    """A docker of the tests' own, likewise, that gives containers a user namespace."""
    with running_docker("--userns-remap=remapped") as service:
        yield service
    for parent in Path("/sys/fs/cgroup").glob("*/docker"):
        with contextlib.suppress(OSError):  # another docker uses it, too
            parent.rmdir()


@contextmanager
def running_docker(option: str) -> Iterator[Service]:
    tools = ("dockerd", "containerd", "runc", "docker-init")
    with running("docker", DOCKER, REMAPPED, tools, option) as service:
        yield service


@contextmanager
def running(
    name: str, script: str, files: dict[str, str], tools: tuple[str, ...], *args: str
) -> Iterator[Service]:
    """Run the service that `script` starts; the test is skipped where it cannot be."""
    for tool in (*tools, "unshare"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if os.geteuid() != 0:
        pytest.skip(f"a {name} of the tests' own needs root")
    top = Path(tempfile.mkdtemp(dir="/var/tmp"))  # the path of a socket must be short
    top.chmod(0o711)
    for file, text in files.items():
        (top / file).write_text(text)
    environment = {"PATH": os.environ["PATH"], "HOME": str(top), "CONTAINERS_CONF": str(top / "containers.conf")}
    log = (top / "log").open("wb")
    command = ["unshare", "--mount", "--net", "--cgroup", "--ipc", "sh", "-c", script, name, str(top), *args]
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    service = Service(name=name, socket=top / "sock")
    try:
        if not trio.run(answers, service, process):
            pytest.skip(f"{name} does not start here: {(top / 'log').read_text()[-300:]}")
        yield service
    finally:
        (top / "over").touch()
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((top / "pid").read_text()), signal.SIGTERM)  # a child of the script, which ends with it
            process.wait(PATIENCE_SECONDS)
        process.terminate()
        process.wait()
        log.close()
        shutil.rmtree(top, ignore_errors=True)


async def answers(service: Service, process: subprocess.Popen[bytes]) -> bool:
    """Whether the service answers before it ends, or patience does."""
    async with aclosing(service.client()) as engine:
        with trio.move_on_after(2 * PATIENCE_SECONDS):
            while process.poll() is None:
                with contextlib.suppress(Refused, Unreachable):
                    await engine.info()
                    return True
                await trio.sleep(0.05)
    return False


@pytest.fixture(params=["embedded", WITH_PODMAN, WITH_DOCKER])
def service(request: pytest.FixtureRequest) -> Service | None:
    """The engine, for the runtimes that are an engine's."""
    return None if request.param == "embedded" else request.getfixturevalue(f"{request.param}_service")


@pytest.fixture
async def bench(
    service: Service | None, tmp_path: Path, demo_layout: tuple[Path, BuiltImage], unpacked: Path
) -> AsyncIterator[Bench]:
    """The same claims hold of every runtime."""
    os.symlink(unpacked, tmp_path / "images")
    made = Bench(tmp_path, *demo_layout, service=service)
    if isinstance(made.runtime, EngineRuntime) and service is not None:
        await service.probe(made.runtime)
    yield made
    await ended(made)


@pytest.fixture
async def embedded(tmp_path: Path, demo_layout: tuple[Path, BuiltImage], unpacked: Path) -> AsyncIterator[Bench]:
    """For what only the embedded runtime has: backends to choose from, a shim."""
    os.symlink(unpacked, tmp_path / "images")
    made = Bench(tmp_path, *demo_layout)
    yield made
    await ended(made)


@pytest.fixture
def host() -> Iterator[Path]:
    """A folder of the machine in which everybody may write: no permissions protect it."""
    top = Path(tempfile.mkdtemp(dir="/var/tmp"))
    top.chmod(0o777)
    (top / "secret").write_text(SECRET)
    (top / "secret").chmod(0o666)
    yield top
    shutil.rmtree(top)
