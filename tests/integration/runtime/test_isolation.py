"""What a workload cannot do.  Each test runs a real sandbox."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from tests.integration.runtime.conftest import Bench

from fondaco.protocol.limits import MIB
from fondaco.provider.runtimes import processes
from fondaco.provider.runtimes.port import Capability

TRY = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, result):
    print(what, 'done' if result >= 0 else errno.errorcode[ctypes.get_errno()])
"""


async def test_the_probe_reports_what_holds(bench: Bench) -> None:
    found: Capability = await bench.runtime.probe()
    assert set(found.namespaces) == {"user", "pid", "mnt", "net", "ipc", "uts"}
    assert found.seccomp
    assert found.no_capabilities
    assert found.no_new_privileges
    assert found.nested_namespaces_refused
    assert found.hard_limits or found.limits_note.startswith("no hard limits")


async def test_a_workload_sees_only_its_own_processes(bench: Bench) -> None:
    code, lines = await bench.run(
        "import os; print(os.getpid()); print(*sorted(n for n in os.listdir('/proc') if n.isdigit()))"
    )
    assert code == 0
    assert set(lines[1].split()) <= {"1", lines[0]}
    assert int(lines[0]) < 100


async def test_a_workload_sees_only_the_files_of_its_image(bench: Bench) -> None:
    secret = bench.home / "secret"
    secret.write_text("of the host")
    code, lines = await bench.run(f"import os; print(os.path.exists({str(secret)!r}), *sorted(os.listdir('/')))")
    assert code == 0
    assert lines[0].startswith("False ")
    assert set(lines[0].split()[1:]) <= {
        *("app", "bin", "dev", "etc", "lib", "lib64", "proc", "run", "sys", "tmp", "usr", "var"),
        *(".dockerenv", "sbin"),  # docker's, whose init is /sbin/docker-init
    }


async def test_a_workload_cannot_reach_a_listener_on_the_hosts_loopback(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, lines = await bench.run(
            f"""
import socket
try:
    socket.create_connection(("127.0.0.1", {port}), 1)
    print("connected")
except OSError as error:
    print(type(error).__name__)
print(*[name for _, name in socket.if_nameindex()])
"""
        )
    assert code == 0
    assert lines == ["ConnectionRefusedError", "lo"]


async def test_a_workload_can_neither_mount_nor_make_namespaces_nor_trace(bench: Bench) -> None:
    code, lines = await bench.run(
        TRY
        + """
attempt('mount', libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None))
attempt('umount', libc.umount2(b'/proc', 2))
attempt('unshare-user', libc.unshare(0x10000000))
attempt('unshare-net', libc.unshare(0x40000000))
attempt('clone-user', libc.syscall(56 if os.uname().machine == 'x86_64' else 220, 0x10000000 | 17, 0, 0, 0, 0))
attempt('ptrace', libc.ptrace(16, 1, 0, 0))
attempt('vsock', libc.socket(40, 1, 0))
attempt('netlink', libc.socket(16, 3, 0))
attempt('chroot', libc.chroot(b'/tmp'))
"""
    )
    assert code == 0, lines
    answers = dict(line.split() for line in lines)
    assert answers.pop("netlink") == "done"
    assert answers.pop("vsock") == "EAFNOSUPPORT"
    assert set(answers.values()) == {"EPERM"}, answers


async def test_a_workload_has_no_capabilities_and_cannot_write_kernel_settings(bench: Bench) -> None:
    code, lines = await bench.run(
        """
import os
print(*[l.split()[1] for l in open('/proc/self/status') if l.startswith('Cap')])
for path in ('/proc/sys/kernel/hostname', '/proc/sys/vm/drop_caches', '/proc/sysrq-trigger'):
    try:
        os.close(os.open(path, os.O_WRONLY)); print('opened', path)
    except OSError as error:
        print('refused')
for number, name in ((8 << 8, 'sda'), ):
    try:
        os.mknod('/tmp/' + name, 0o60600, number); print('made')
    except OSError:
        print('refused')
"""
    )
    assert code == 0
    assert set(lines[0].split()) == {"0" * 16}
    assert lines[1:] == ["refused"] * 4


async def test_a_fork_bomb_stops_at_the_limit_of_processes(bench: Bench) -> None:
    code, lines = await bench.run(
        """
import os, signal
children = []
try:
    while len(children) < 200:
        pid = os.fork()
        if not pid:
            signal.pause()
        children.append(pid)
except BlockingIOError:
    print('stopped')
for pid in children:
    os.kill(pid, 9)
""",
        pids=20,
    )
    assert (code, lines) == (0, ["stopped"])


async def test_memory_beyond_the_order_is_not_given(bench: Bench) -> None:
    code, lines = await bench.run("x = bytearray(400 << 20); print('got it')", memory_bytes=64 * MIB)
    assert code != 0
    assert "got it" not in lines


async def test_the_environment_is_the_images_and_the_orders_and_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_SECRET", "1")
    code, lines = await bench.run(
        "import os; print(*sorted(os.environ)); print(os.environ['GREETING'])", env=("GREETING=a b=c",)
    )
    assert code == 0
    assert set(lines[0].split()) <= {
        "GREETING",
        "HOME",
        "HOSTNAME",
        "PATH",
        "PORT",
        "PYTHONDONTWRITEBYTECODE",
        "PWD",
        "LC_CTYPE",
    }
    assert lines[1] == "a b=c"


async def test_one_workload_leaves_nothing_in_another(bench: Bench) -> None:
    await bench.run("open('/app/left', 'w').write('x')")
    code, lines = await bench.run("import os; print(os.path.exists('/app/left'))")
    assert (code, lines) == (0, ["False"])


async def test_a_read_only_root_refuses_writes_but_tmp_takes_them(bench: Bench) -> None:
    code, lines = await bench.run(
        """
open('/tmp/x', 'w').write('1')
try:
    open('/app/x', 'w')
except OSError as error:
    print(error.errno)
""",
        read_only_root=True,
    )
    assert (code, lines) == (0, ["30"])


async def test_low_ports_can_be_listened_on_without_capabilities(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec(env=("PORT=80",)))
    assert "pid_isolated: True" in await bench.get(workload.id, port=80)


async def test_secrets_do_not_show_in_the_hosts_process_list(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec(env=("PASSWORD=hunter2",)))
    assert workload.pid is not None
    shown = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (os.getpid(), *processes.family(workload.pid))]
    assert not any(b"hunter2" in line for line in shown)
