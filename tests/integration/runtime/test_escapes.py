"""Known ways out of a sandbox, and known abuses of one: each is tried on each backend, and none works.

So that a test can fail, most show first that the same program does what it tries where no sandbox holds it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.runtime.conftest import Bench

from fondaco.protocol.limits import MIB
from fondaco.provider.runtimes import lifecycle, processes
from fondaco.provider.runtimes.cgroups import RUNNER_PIDS
from fondaco.provider.runtimes.launch import sandbox_uid
from fondaco.provider.runtimes.port import State, VolumeKind, VolumeMount

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
    assert (await each_bench.runtime.stats(workload.id)).processes <= 30 + RUNNER_PIDS
    neighbour = "import os; child = os.fork(); os.write(1, b'forked\\n'); child and os.wait()"
    assert await each_bench.run(neighbour) == (0, ["forked"] * 2)
    await each_bench.runtime.stop(workload.id, grace_ms=0)


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


async def test_an_executed_command_gets_no_more_than_its_workload(each_bench: Bench) -> None:
    workload = await each_bench.runtime.start(
        each_bench.spec("import time; time.sleep(600)", memory_bytes=64 * MIB, pids=20)
    )
    greedy = "x = bytearray(400 << 20); print('got it')"
    found = await each_bench.runtime.exec(workload.id, ["python3", "-c", greedy])
    assert found.exit_code
    assert b"got it" not in found.out
