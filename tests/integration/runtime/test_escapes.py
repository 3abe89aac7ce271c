"""Known ways out of a sandbox, and known abuses of one: each is tried on each backend, and none works.

So that a test can fail, most show first that the same program does what it tries where no sandbox holds it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from tests.integration.runtime.conftest import PATIENCE_SECONDS, Bench, ended

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import disk, lifecycle, processes
from fondaco.provider.runtimes.launch import sandbox_uid
from fondaco.provider.runtimes.port import Reason, State, VolumeKind, VolumeMount

SECRET = "of the host"
TRY = """
import ctypes, errno, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, result):
    print(what, 'done' if result >= 0 else errno.errorcode[ctypes.get_errno()])
def open_to_write(path):
    try:
        os.close(os.open(path, os.O_WRONLY)); return True
    except OSError:
        return False
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the positive control needs root")


def outside(code: str, *args: str, **options: object) -> list[str]:
    """What the program prints where no sandbox holds it, in a mount namespace of its own."""
    command = ["unshare", "--mount", sys.executable, "-c", code, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True, **options)  # type: ignore[call-overload]
    return list(done.stdout.splitlines())


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A daemon of this machine that runs as the very user that sandboxes run as."""
    made = subprocess.Popen(["sleep", "600"], user=sandbox_uid(), group=sandbox_uid())
    yield made
    made.kill()
    made.wait()


MOUNT = (
    TRY
    + """
attempt('tmpfs', libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))
attempt('bind', libc.mount(b'/proc', b'/tmp', None, 4096, None))
attempt('writable', libc.mount(None, b'/proc', None, 4096 | 32, None))
attempt('fsopen', libc.syscall(430, b'tmpfs', 0))
attempt('open_tree', libc.syscall(428, -100, b'/', 1))
attempt('umount', libc.umount2(b'/tmp', 2))
attempt('unshare', libc.unshare(0x20000))
attempt('setns', libc.setns(os.open('/proc/self/ns/mnt', os.O_RDONLY), 0))
"""
)


@as_root
async def test_nothing_can_be_mounted_bound_or_uncovered(each_bench: Bench) -> None:
    assert {line.split()[1] for line in outside(MOUNT)} == {"done"}
    code, lines = await each_bench.run(MOUNT)
    assert code == 0, lines
    assert {line.split()[1] for line in lines} == {"EPERM"}, lines


TRACE = (
    TRY
    + """
victim = int(sys.argv[1])
attempt('attach', libc.ptrace(16, victim, 0, 0))
attempt('seize', libc.ptrace(0x4206, victim, 0, 0))
buffer = ctypes.create_string_buffer(8)
class Vector(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
local = Vector(ctypes.addressof(buffer), 8)
attempt('read', libc.process_vm_readv(victim, ctypes.byref(local), 1, ctypes.byref(local), 1, 0))
child = os.fork()
if not child:
    signal.pause()
attempt('child', libc.ptrace(16, child, 0, 0))
os.kill(child, 9)
print('memory', os.path.exists(f'/proc/{victim}/mem') and 'done')
"""
)


@as_root
async def test_no_process_of_the_machine_can_be_traced_or_read(
    each_bench: Bench, victim: subprocess.Popen[bytes]
) -> None:
    free = dict(line.split() for line in outside(TRACE, str(victim.pid)))
    assert (free["attach"], free["child"], free["memory"]) == ("done", "done", "done")
    code, lines = await each_bench.run(TRACE, args=(str(victim.pid),))
    assert code == 0, lines
    answers = dict(line.split() for line in lines)
    assert answers.pop("memory") == "False"
    assert set(answers.values()) == {"EPERM"}, answers


SETTINGS = (
    TRY
    + """
opened = []
for top, _, names in os.walk('/proc/sys'):
    opened += [os.path.join(top, name) for name in names if open_to_write(os.path.join(top, name))]
opened += [path for path in ('/proc/sysrq-trigger', '/proc/kcore', '/proc/kmsg') if open_to_write(path)]
print(len(opened), *opened[:20])
"""
)


@as_root
async def test_no_setting_of_the_kernel_can_be_written(each_bench: Bench) -> None:
    assert int(outside(SETTINGS)[0].split()[0]) > 100
    code, lines = await each_bench.run(SETTINGS)
    assert (code, lines) == (0, ["0"])


DEVICES = """
import os, stat, sys
kinds = (('disk', stat.S_IFBLK, 8, 0), ('memory', stat.S_IFCHR, 1, 1), ('null', stat.S_IFCHR, 1, 3))
for name, kind, major, minor in kinds:
    path = f'{sys.argv[1]}/{name}'
    try:
        os.mknod(path, kind | 0o600, os.makedev(major, minor)); print(name, 'made'); os.unlink(path)
    except OSError as error:
        print(name, 'refused')
print('devices', *sorted(os.listdir('/dev')))
"""


@as_root
async def test_no_device_can_be_made_and_those_there_are_harmless(each_bench: Bench, tmp_path: Path) -> None:
    made = {"disk made", "memory made", "null made"}
    assert set(outside(DEVICES, str(tmp_path))[:-1]) == made
    volume = VolumeMount(name="data", path="/data", size_bytes=MIB)
    for place in ("/tmp", "/data"):
        code, lines = await each_bench.run(DEVICES, args=(place,), volumes=(volume,))
        assert code == 0, lines
        assert [line.split()[1] for line in lines[:-1]] == ["refused"] * 3
        assert set(lines[-1].split()[1:]) <= {
            *(
                "console",
                "core",
                "fd",
                "full",
                "mqueue",
                "null",
                "ptmx",
                "pts",
                "random",
                "shm",
                "stderr",
                "stdin",
            ),
            *("stdout", "tty", "urandom", "zero"),
        }


async def test_a_fork_bomb_harms_neither_the_machine_nor_a_neighbour(each_bench: Bench) -> None:
    bomb = """
import os, signal
while True:
    try:
        if not os.fork():
            signal.pause()
    except BlockingIOError:
        print('full', flush=True)
        signal.pause()
"""
    workload = await each_bench.runtime.start(each_bench.spec(bomb, pids=30))
    await each_bench.line(workload, "full")
    assert (await each_bench.runtime.stats(workload.id)).processes <= 32
    assert await each_bench.run("import os; os.fork(); os.write(1, b'forked\\n')") == (0, ["forked"] * 2)
    await each_bench.runtime.stop(workload.id, grace_ms=0)


FILL = {
    "one file": """
data = b'x' * (1 << 20)
with open(PLACE + '/big', 'wb') as file:
    while True:
        file.write(data); file.flush()
""",
    "many files": """
import itertools
for n in itertools.count():
    open(f'{PLACE}/{n}', 'wb').write(b'x' * (1 << 20)); print(n)
""",
    "empty files": """
import itertools
for n in itertools.count():
    open(f'{PLACE}/{n}', 'wb').close()
""",
    "deleted files": """
import itertools, os, signal
kept = []
for n in range(200):
    kept.append(open(f'{PLACE}/x', 'wb'))
    os.unlink(f'{PLACE}/x')
    kept[-1].write(b'x' * (1 << 20))
    kept[-1].flush()
signal.pause()
""",
}


@pytest.mark.parametrize(("way", "place"), [*((way, "/data") for way in FILL), ("many files", "/app")])
async def test_the_disk_cannot_be_filled(
    each_bench: Bench, way: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "EVERY_S", 0.05)
    if place == "/app" and not (await each_bench.runtime.probe()).writable_root:
        pytest.skip("this backend's root cannot be written to at all")
    limit = 16 * MIB
    volume = VolumeMount(name="data", path="/data", size_bytes=limit)
    spec = each_bench.spec(f"PLACE = {place!r}\n" + FILL[way], ephemeral_bytes=limit, volumes=(volume,))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(each_bench.runtime.watch)
        workload = await each_bench.runtime.start(spec)
        with trio.fail_after(3 * PATIENCE_SECONDS):
            last = await each_bench.runtime.wait(workload.id)
        nursery.cancel_scope.cancel()
    if way == "one file":
        # The kernel stops it: by a signal, or by an error where it is the first process and no signal ends it.
        assert last.exit_code in (1, 128 + signal.SIGXFSZ) or last.reason is Reason.DISK
        assert [path.stat().st_size for path in each_bench.home.rglob("big")] == [limit]
    else:
        assert (last.exit_code, last.reason) == (137, Reason.DISK)
    await each_bench.runtime.stop(workload.id)


async def test_who_keeps_within_the_disk_it_was_let_is_left_alone(
    each_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "EVERY_S", 0.05)
    code = "import time; open('/data/x', 'wb').write(b'x' * (10 << 20)); print('full'); time.sleep(600)"
    volume = VolumeMount(name="data", path="/data", size_bytes=16 * MIB)
    workload = await each_bench.runtime.start(each_bench.spec(code, ephemeral_bytes=MIB << 4, volumes=(volume,)))
    await each_bench.line(workload, "full")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(each_bench.runtime.watch)
        with trio.move_on_after(0.5):
            await each_bench.runtime.wait(workload.id)
        nursery.cancel_scope.cancel()
    assert (await each_bench.runtime.status(workload.id)).state is State.RUNNING


def layout_with(top: Path, *members: tuple[str, bytes, str]) -> None:
    """An OCI layout with an image `evil:1` of one layer: (name, type, content or link)."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            content = text.encode() if kind == tarfile.REGTYPE else b""
            info.size, info.linkname = len(content), "" if content else text
            archive.addfile(info, io.BytesIO(content))
    (top / "blobs" / "sha256").mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (top / "blobs" / "sha256" / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    diff_id = "sha256:" + hashlib.sha256(plain.getvalue()).hexdigest()
    config = {"os": "linux", "config": {"Cmd": ["/bin/true"]}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = {
        "schemaVersion": 2,
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": [put(gzip.compress(plain.getvalue()), "layer.v1.tar+gzip")],
    }
    entry = put(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "evil:1"}
    (top / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


@pytest.mark.parametrize(
    "members",
    [
        [("../escaped", tarfile.REGTYPE, "x")],
        [("HOST/escaped", tarfile.REGTYPE, "x")],
        [("up", tarfile.SYMTYPE, "../../.."), ("up/escaped", tarfile.REGTYPE, "x")],
        [("out", tarfile.SYMTYPE, "HOST"), ("out/escaped", tarfile.REGTYPE, "x")],
        [("hard", tarfile.LNKTYPE, "../secret")],
        [("out", tarfile.SYMTYPE, "HOST"), ("hard", tarfile.LNKTYPE, "out/secret")],
        [("out", tarfile.SYMTYPE, "HOST"), ("out/.wh.secret", tarfile.REGTYPE, "")],
    ],
    ids=["dots", "absolute", "link up", "link out", "hard link", "hard link through a link", "whiteout"],
)
async def test_no_layer_of_an_image_reaches_out_of_it(
    each_bench: Bench, tmp_path: Path, members: list[tuple[str, bytes, str]]
) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "secret").write_text(SECRET)
    named = [
        (name.replace("HOST", str(host)), kind, text.replace("HOST", str(host))) for name, kind, text in members
    ]
    layout_with(tmp_path / "evil", *named)
    bench = Bench(host / "home", tmp_path / "evil", each_bench.image, each_bench.backend, each_bench.socket)
    with contextlib.suppress(Refused):  # or it is unpacked, and all it brought lies inside
        await bench.runtime.prepare("evil:1")
    await ended(bench)
    assert sorted(path.name for path in host.iterdir()) == ["home", "secret"]
    assert (host / "secret").read_text() == SECRET
    assert (host / "secret").stat().st_nlink == 1
    inside = host / "home" / "images"
    assert all(path.is_relative_to(inside) for path in tmp_path.rglob("escaped"))


@pytest.fixture
def host() -> Iterator[Path]:
    """A folder of the machine in which everybody may write: no permissions protect it."""
    top = Path(tempfile.mkdtemp(dir="/var/tmp"))
    top.chmod(0o777)
    (top / "secret").write_text(SECRET)
    (top / "secret").chmod(0o666)
    yield top
    shutil.rmtree(top)


async def test_a_mount_point_below_a_link_of_the_image_is_not_made_outside(
    each_bench: Bench, tmp_path: Path, host: Path
) -> None:
    layout_with(tmp_path / "evil", ("data", tarfile.SYMTYPE, f"/oldroot{host}"))
    bench = Bench(
        each_bench.home / "other", tmp_path / "evil", each_bench.image, each_bench.backend, each_bench.socket
    )
    volume = VolumeMount(name="data", path="/data/made", size_bytes=MIB)
    with contextlib.suppress(Refused):  # there is no program in it anyway
        await bench.runtime.start(bench.spec(image="evil:1", command=("/bin/true",), volumes=(volume,)))
    await ended(bench)
    assert [path.name for path in host.iterdir()] == ["secret"]


async def test_a_link_in_a_volume_leads_nowhere_out_of_the_sandbox(each_bench: Bench, host: Path) -> None:
    lease = LeaseId(b"\2" * 32)
    outer = VolumeMount(name="outer", path="/data", size_bytes=4 * MIB, persistent=True)
    plant = f"""
import os
os.symlink({str(host / "secret")!r}, '/data/file')
os.symlink({str(host)!r}, '/data/folder')
os.symlink('/oldroot' + {str(host)!r}, '/data/old')
os.symlink('/proc/1/root' + {str(host)!r}, '/data/proc')
"""
    assert await each_bench.run(plant, lease=lease, volumes=(outer,)) == (0, [])
    read = """
import os
for name in ('file', 'folder/secret', 'old/secret', 'proc/secret'):
    print(os.path.exists('/data/' + name))
"""
    assert await each_bench.run(read, lease=lease, volumes=(outer,)) == (0, ["False"] * 4)
    # A second volume to be mounted where the tenant has left a link: it may fail, it may not be made outside.
    for through in ("folder", "old", "proc"):
        inner = VolumeMount(name="inner", path=f"/data/{through}/made", size_bytes=4 * MIB)
        with contextlib.suppress(Refused):
            await each_bench.run(f"open('/data/{through}/made/x', 'w')", lease=lease, volumes=(outer, inner))
        assert [path.name for path in host.iterdir()] == ["secret"], through
    (workload,) = each_bench.runtime.kept()
    await each_bench.runtime.forget(workload)
    assert (host / "secret").read_text() == SECRET


SIGNAL = """
import os, signal, sys
def attempt(what, act):
    try:
        act(); print(what, 'done')
    except OSError as error:
        print(what, 'refused')
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for pid in map(int, sys.argv[1:]):
    attempt('kill', lambda: os.kill(pid, 9))
    attempt('pidfd', lambda: signal.pidfd_send_signal(os.pidfd_open(pid), 9))
"""


@as_root
async def test_no_process_of_the_machine_can_be_signalled(
    each_bench: Bench, victim: subprocess.Popen[bytes]
) -> None:
    uid = sandbox_uid()
    free = [sys.executable, "-c", SIGNAL, str(victim.pid)]
    other = subprocess.Popen(["sleep", "600"], user=uid, group=uid)
    python = Path("/usr/bin/python3")
    if python.exists():  # one that lies where that user can walk
        free[0] = str(python)
        done = subprocess.run(
            [*free[:3], str(other.pid)], user=uid, group=uid, capture_output=True, check=True, cwd="/"
        )
        assert b"kill done" in done.stdout
    other.kill()
    other.wait()
    idle = await each_bench.runtime.start(each_bench.spec("import time; time.sleep(600)"))
    state = lifecycle.read_json(each_bench.home / "run" / idle.id / "state.json")
    assert state is not None
    pids = [os.getpid(), victim.pid, *(state[name] for name in ("shim", "runner", "pid") if name in state)]
    # Numbers of this machine mean other processes inside, or none: those of the sandbox itself are left out.
    code, lines = await each_bench.run(SIGNAL, args=tuple(str(pid) for pid in pids if pid > 100))
    assert code == 0, lines
    assert {line.split()[1] for line in lines} == {"refused"}
    everyone = "import os; os.kill(-1, 9)"
    await each_bench.run(everyone)
    assert victim.poll() is None
    assert (await each_bench.runtime.status(idle.id)).state is State.RUNNING


async def test_nothing_of_another_lease_can_be_reached(each_bench: Bench) -> None:
    listen = """
import os, socket, time
open('/data/secret', 'w').write('of another lease')
os.environ['SECRET'] = 'x'
tcp = socket.create_server(('0.0.0.0', 8080))
unix = socket.socket(socket.AF_UNIX); unix.bind('\\0lease'); unix.listen()
import mmap; shared = open('/dev/shm/lease', 'w')
print('ready', flush=True)
time.sleep(600)
"""
    data = VolumeMount(name="data", path="/data", size_bytes=4 * MIB, kind=VolumeKind.DISK)
    other = await each_bench.runtime.start(each_bench.spec(listen, volumes=(data,)))
    await each_bench.line(other, "ready")
    assert other.pid is not None
    look = f"""
import os, socket
def connects(kind, place):
    try:
        with socket.socket(kind) as it:
            it.settimeout(0.5); it.connect(place); return True
    except OSError:
        return False
print(connects(socket.AF_INET, ('127.0.0.1', 8080)))
print(connects(socket.AF_UNIX, '\\0lease'))
print(os.path.exists('/dev/shm/lease'))
print(os.path.exists('/data/secret'))
print(any(os.path.exists(f'/proc/{{pid}}') for pid in {tuple(processes.family(other.pid))!r}))
home = {str(each_bench.home)!r}
print(any(os.path.exists(home + part) for part in ('', '/run', '/volumes', '/logs')))
"""
    inside = await each_bench.runtime.exec(other.id, ["python3", "-c", look])
    assert inside.out.decode().split()[:4] == ["True"] * 4, inside  # the same lease reaches its own
    assert await each_bench.run(look, volumes=(data,)) == (0, ["False"] * 6)


async def test_mount_points_appear_in_the_sandbox_and_not_in_the_image_that_others_share(
    each_bench: Bench,
) -> None:
    paths = ("/data", "/data/in", "/var/lib/some/where", "/usr/local/lib/deep")
    volumes = tuple(VolumeMount(name=f"v{number}", path=path, size_bytes=MIB) for number, path in enumerate(paths))
    root = Path((await each_bench.runtime.prepare(each_bench.image.reference)).rootfs)
    before = sorted(root.rglob("*"))
    code = f"""
for path in {paths!r}: open(path + '/x', 'w').write(path)
print([open(path + '/x').read() for path in {paths!r}] == list({paths!r}))
import http.server
"""
    assert await each_bench.run(code, volumes=volumes) == (0, ["True"])
    assert sorted(root.rglob("*")) == before


async def test_an_executed_command_gets_no_more_than_its_workload(each_bench: Bench) -> None:
    workload = await each_bench.runtime.start(
        each_bench.spec("import time; time.sleep(600)", memory_bytes=64 * MIB, pids=20)
    )
    greedy = "x = bytearray(400 << 20); print('got it')"
    found = await each_bench.runtime.exec(workload.id, ["python3", "-c", greedy])
    assert found.exit_code
    assert b"got it" not in found.out
