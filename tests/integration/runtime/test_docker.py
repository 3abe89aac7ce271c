"""What only docker's runtime has: a daemon that isolates or does not, its own images, logs in its own folder."""

from __future__ import annotations

import contextlib
import os
import signal
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from tests.integration.runtime.conftest import PATIENCE_SECONDS, SECRET, Bench, Service, ended, running_docker
from tests.integration.runtime.test_escapes_by_files import layout_with

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.limits import MIB
from fondaco.provider.runtimes.docker import DockerRuntime
from fondaco.provider.runtimes.docker_engine import Docker
from fondaco.provider.runtimes.docker_images import archive
from fondaco.provider.runtimes.embedded import open_cache
from fondaco.provider.runtimes.port import State, VolumeMount

pytestmark = pytest.mark.heavy


@pytest.fixture
def service(docker_service: Service) -> Service:
    """Docker's only."""
    return docker_service


@pytest.fixture
def plain() -> Iterator[Service]:
    """A daemon as most machines have it."""
    with running_docker("") as service:
        yield service


async def test_a_daemon_without_user_namespaces_is_refused_with_what_to_do(tmp_path: Path, plain: Service) -> None:
    async with aclosing(DockerRuntime(tmp_path, [], socket=plain.socket)) as runtime:
        with pytest.raises(Refused, match=r"runtime\.unavailable: .*no user namespace.*userns-remap"):
            await runtime.probe()


async def test_root_inside_is_nobody_outside(bench: Bench) -> None:
    code = "import os, time; print(os.getuid()); open('/data/mine', 'w'); time.sleep(600)"
    volume = volume_of(MIB)
    workload = await bench.runtime.start(bench.spec(code, volumes=(volume,)))
    await bench.line(workload, "0")
    assert workload.pid is not None
    status = Path(f"/proc/{workload.pid}/status").read_text()
    uids = {int(word) for word in status.split("\nUid:")[1].splitlines()[0].split()}
    assert len(uids) == 1
    assert min(uids) > 1_000_000
    (mine,) = (bench.home / "volumes").glob("*/mine")
    assert mine.stat().st_uid in uids


def volume_of(size_bytes: int) -> VolumeMount:
    return VolumeMount(name="data", path="/data", size_bytes=size_bytes)


async def test_files_that_docker_makes_beside_the_root_cannot_be_filled(bench: Bench) -> None:
    code = """
import errno
for name in ('hosts', 'hostname', 'resolv.conf'):
    try:
        open('/etc/' + name, 'a'); print('opened')
    except OSError as error:
        print(error.errno in (errno.EACCES, errno.EROFS))
print(open('/etc/hostname').read())
import socket; print(socket.gethostbyname('localhost'))
"""
    assert await bench.run(code) == (0, ["True"] * 3 + ["web", "", "127.0.0.1"])


async def test_workloads_and_their_logs_outlive_a_daemon_that_is_killed(bench: Bench, service: Service) -> None:
    code = """
import sys, time
print('before', flush=True)
while True:
    try:
        open('/data/go'); break
    except OSError:
        time.sleep(0.01)
print('after', flush=True)
sys.exit(5)
"""
    workload = await bench.runtime.start(bench.spec(code, volumes=(volume_of(MIB),)))
    await bench.line(workload, "before")
    codes = []

    async def wait() -> None:
        codes.append((await bench.runtime.wait(workload.id)).exit_code)

    pid = service.socket.with_name("pid")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        os.kill(int(pid.read_text()), signal.SIGKILL)
        with trio.fail_after(3 * PATIENCE_SECONDS):
            while True:  # its script starts another
                try:
                    await bench.runtime.list()
                    break
                except Unreachable:
                    await trio.sleep(0.05)
        assert (await bench.runtime.status(workload.id)).state is State.RUNNING
        (folder,) = (bench.home / "volumes").iterdir()
        (folder / "go").touch()
        with trio.fail_after(PATIENCE_SECONDS):
            lines = [line.text async for line in bench.runtime.logs(workload.id, follow=True)]
    assert lines == ["before", "after"]
    assert codes == [5]


@pytest.fixture
async def small(tmp_path: Path, bench: Bench) -> AsyncIterator[Bench]:
    """A home with images of its own, and one in reach that is soon unpacked."""
    layout_with(tmp_path / "small", ("data", b"0", "content"))
    made = Bench(tmp_path / "home", tmp_path / "small", bench.image, service=bench.service)
    yield made
    await ended(made)


async def test_an_image_is_imported_once_and_goes_when_the_cache_has_it_no_more(small: Bench) -> None:
    runtime = small.runtime
    assert isinstance(runtime, DockerRuntime)
    image = await runtime.prepare("evil:1")
    names = await runtime._docker.images()
    key = Path(image.rootfs).name
    assert [name.partition(":")[2] for name in names] == [key]
    made = await runtime._docker.call("GET", f"/images/{names[0]}/json")
    again = small.again()
    await again.prepare("evil:1")
    assert await runtime._docker.call("GET", f"/images/{names[0]}/json") == made
    cache = open_cache(small.home, 10**9)
    assert all(cache.remove(item) for item in cache.items())
    await runtime.probe()
    left = await runtime._docker.images()
    assert key not in {name.partition(":")[2] for name in left}
    await runtime.leave()
    assert await runtime._docker.images() == ()


async def test_an_import_that_breaks_off_leaves_nothing(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(root: Path) -> Iterator[bytes]:
        yield from archive(root)
        raise OSError("gone")

    monkeypatch.setattr("fondaco.provider.runtimes.docker_engine.archive", torn)
    with pytest.raises(Refused, match=r"runtime\.docker: an image cannot be read: gone"):
        await small.runtime.prepare("evil:1")
    assert isinstance(small.runtime, DockerRuntime)
    docker: Docker = small.runtime._docker
    assert await docker.images() == ()
    monkeypatch.undo()
    await small.runtime.prepare("evil:1")
    assert len(await docker.images()) == 1
    await small.runtime.leave()


async def test_names_that_others_gave_an_image_stay(small: Bench) -> None:
    assert isinstance(small.runtime, DockerRuntime)
    docker = small.runtime._docker
    await small.runtime.prepare("evil:1")
    (name,) = await docker.images()
    await docker.call("POST", f"/images/{name}/tag", params={"repo": "mine", "tag": "1"})
    await small.runtime.leave()
    assert await docker.has_image("mine:1")
    await docker.remove_image("mine:1")
    assert await docker.images() == ()


async def test_what_is_bound_over_files_of_an_image_is_not_bound_where_its_links_lead(
    bench: Bench, tmp_path: Path, host: Path
) -> None:
    (host / "hosts").write_text(SECRET)
    layout_with(tmp_path / "evil", ("etc", tarfile.SYMTYPE, str(host)), ("x", tarfile.REGTYPE, "x"))
    made = Bench(tmp_path / "home", tmp_path / "evil", bench.image, service=bench.service)
    with contextlib.suppress(Refused):  # there is no program in it anyway
        await made.runtime.start(made.spec(image="evil:1", command=("/bin/true",)))
    assert isinstance(made.runtime, DockerRuntime)
    await made.runtime.leave()
    await ended(made)
    assert sorted(path.name for path in host.iterdir()) == ["hosts", "secret"]
    assert (host / "hosts").read_text() == SECRET
