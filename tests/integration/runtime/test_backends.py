"""Each backend found here, and each kind of user, does the whole of it: start, dial, exec, stop."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.runtime.conftest import Bench, found

import fondaco
from fondaco.node.image import BuiltImage
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import bubblewrap, probe
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.oci import LayoutSource
from fondaco.provider.runtimes.port import State

NOBODY = 65_534
IMPORTS = "import fondaco.provider.runtimes.embedded"
WHOLE = """
import sys, trio
from pathlib import Path
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.oci import LayoutSource
from fondaco.provider.runtimes.port import WorkloadSpec

async def main():
    runtime = EmbeddedRuntime(Path(sys.argv[1]), [LayoutSource(Path(sys.argv[2]))])
    workload = await runtime.start(WorkloadSpec(
        lease=bytes(32), service="web", image=sys.argv[3], cpu_milli=1_000, memory_bytes=1 << 28,
        command=("python3", "-u", "-c", "import os, sys, time; print(os.getuid()); time.sleep(600)"),
    ))
    inside = await runtime.exec(workload.id, ["python3", "-c", "import os; print(os.getuid())"])
    ended = await runtime.stop(workload.id, grace_ms=0)
    print(inside.exit_code, inside.out, ended.exit_code, list((Path(sys.argv[1]) / "run").iterdir()))
    await runtime.aclose()

trio.run(main)
"""


@pytest.mark.parametrize("name", ["bubblewrap", "crun"])
async def test_a_backend_starts_dials_executes_and_stops(embedded: Bench, name: str) -> None:
    runtime = EmbeddedRuntime(embedded.home, [LayoutSource(embedded.layout)], backend=found(name))
    try:
        capability = await runtime.probe()
    except Refused as refused:
        pytest.skip(str(refused))
    assert capability.backend == name
    embedded.runtime = runtime
    embedded.made.append(runtime)
    workload = await runtime.start(embedded.spec())
    assert "pid_isolated: True" in await embedded.get(workload.id)
    code = "import ctypes; raise SystemExit(-ctypes.CDLL(None).unshare(0x10000000))"
    assert (await runtime.exec(workload.id, ["python3", "-c", code])).exit_code == 1
    with pytest.raises(Refused, match=r"runtime\.start: .*no/such/program"):
        await runtime.start(embedded.spec(command=("/no/such/program",), service="other"))
    ended = await runtime.stop(workload.id, grace_ms=100)
    assert ended is not None
    assert ended.state is State.EXITED
    exits = await runtime.start(embedded.spec("raise SystemExit(9)"))
    assert (await runtime.wait(exits.id)).exit_code == 9


async def test_no_backend_at_all_is_refused_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"runtime\.unavailable: .*neither.*apt install crun"):
        await probe.probe([], tmp_path, None)


async def test_a_backend_that_cannot_isolate_is_refused_and_not_degraded(tmp_path: Path) -> None:
    runtime = EmbeddedRuntime(tmp_path, [], backend=bubblewrap.Bubblewrap("/bin/false"))
    with pytest.raises(Refused, match=r"runtime\.unavailable: no sandbox can be made here: bubblewrap"):
        await runtime.probe()
    with pytest.raises(Refused, match=r"runtime\.unavailable"):
        await runtime.start(
            Bench(tmp_path, tmp_path, BuiltImage(reference="x", digest="")).spec(lease=LeaseId(bytes(32)))
        )
    assert not list((tmp_path / "run").iterdir())


def as_nobody(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run `command` as an ordinary user, with our packages on its path."""
    path = os.pathsep.join([str(Path(fondaco.__file__).parents[1]), sysconfig.get_path("purelib")])
    environment = {"PATH": os.defpath, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(
            command,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd="/",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    except (PermissionError, FileNotFoundError) as error:
        return subprocess.CompletedProcess(command, 126, "", str(error))


@pytest.fixture
def public_home() -> Iterator[Path]:
    """A directory that another user can walk to: pytest's own are private."""
    top = Path(tempfile.mkdtemp(dir="/var/tmp"))
    top.chmod(0o755)
    yield top
    shutil.rmtree(top)


def test_an_ordinary_user_needs_no_help_from_root(public_home: Path, demo_layout: tuple[Path, BuiltImage]) -> None:
    if os.geteuid() != 0:
        pytest.skip("every other test already runs as an ordinary user")
    candidates = ([sys.executable], ["/usr/bin/python3"])
    usable = (python for python in candidates if not as_nobody([*python, "-c", IMPORTS]).returncode)
    python = next(usable, None)
    if python is None:
        pytest.skip("no interpreter lies where other users can walk")
    layout, image = demo_layout
    shutil.copytree(layout, public_home / "layout")
    (public_home / "layout").chmod(0o755)
    home = public_home / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    done = as_nobody([*python, "-c", WHOLE, str(home), str(public_home / "layout"), image.reference])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0 b'0\\n' 137 []\n"
