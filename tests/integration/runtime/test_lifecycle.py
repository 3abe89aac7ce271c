"""Workloads from start to stop, and through the death of the provider."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from tests.integration.runtime.conftest import NOT_DOCKERS, PATIENCE_SECONDS, Bench

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import processes
from fondaco.provider.runtimes.bounds import WORKLOAD_EXEC_OUTPUT_BYTES
from fondaco.provider.runtimes.port import (
    Channel,
    Command,
    State,
    VolumeKind,
    VolumeMount,
    WorkloadId,
    parse_workload_id,
    workload_id,
)

STARTER = """
import sys, trio
from pathlib import Path
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.oci import LayoutSource
from fondaco.provider.runtimes.docker import DockerRuntime
from fondaco.provider.runtimes.podman import PodmanRuntime
from fondaco.provider.runtimes.port import WorkloadSpec

async def main():
    home, sources = Path(sys.argv[1]), [LayoutSource(Path(sys.argv[2]))]
    kinds = {"podman": PodmanRuntime, "docker": DockerRuntime}
    kind, _, socket = sys.argv[4].partition(" ")
    runtime = kinds[kind](home, sources, socket=Path(socket)) if kind else EmbeddedRuntime(home, sources)
    for service in ("web", "api"):
        await runtime.start(WorkloadSpec(
            lease=bytes(32), service=service, image=sys.argv[3], cpu_milli=1_000, memory_bytes=1 << 28
        ))
    print("started", flush=True)
    await trio.sleep_forever()

trio.run(main)
"""


async def test_http_over_dial_reaches_the_demo_image(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec())
    page = await bench.get(workload.id)
    assert page.startswith("HTTP/1.0 200 OK")
    assert "hostname: web" in page
    assert "pid_isolated: True" in page
    assert (await bench.get(workload.id, "/health")).endswith("ok\n")


@NOT_DOCKERS
async def test_dialling_a_port_nobody_listens_on_is_refused_in_words(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec("import time; time.sleep(60)"))
    with pytest.raises(Refused, match=r"workload\.dial.*nothing listens there"):
        await bench.runtime.dial(workload.id, 8080)
    with pytest.raises(Refused, match=r"workload\.dial"):
        await bench.runtime.dial(workload.id, 70_000)


@NOT_DOCKERS
async def test_many_dials_at_once_each_get_their_own_connection(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec())
    await bench.get(workload.id)
    pages: list[str] = []

    async def one() -> None:
        pages.append(await bench.get(workload.id, "/health"))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert [page[-3:] for page in pages] == ["ok\n"] * 20


@NOT_DOCKERS
async def test_a_dialling_helper_that_died_is_replaced(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec())
    await bench.get(workload.id)
    helper = bench.runtime._dialer._helper
    assert helper is not None
    helper.kill()
    await helper.wait()
    assert (await bench.get(workload.id, "/health")).endswith("ok\n")


async def test_logs_come_with_times_and_channels_and_can_be_followed(bench: Bench) -> None:
    code = """
import sys, time
print('one'); print('two', file=sys.stderr); sys.stdin.read()
for n in range(5): print('n', n)
sys.stdout.write('no newline')
"""
    workload = await bench.runtime.start(bench.spec(code))
    lines = [line async for line in bench.runtime.logs(workload.id, follow=True)]
    assert [line.text for line in lines if line.channel is Channel.ERR] == ["two"]
    out = [line for line in lines if line.channel is Channel.OUT]
    assert [line.text for line in out] == ["one", "n 0", "n 1", "n 2", "n 3", "n 4", "no newline"]
    assert out[-1].partial
    assert not out[0].partial
    assert workload.started_at is not None
    assert all(workload.started_at - 1_000 <= line.at for line in lines)
    assert [line async for line in bench.runtime.logs(workload.id, tail=2)] == lines[-2:]


async def test_the_log_of_the_run_before_is_kept_until_there_is_another(bench: Bench) -> None:
    lease = LeaseId(b"\2" * 32)
    identity = workload_id(lease, "web")
    for number in range(3):
        await bench.run(f"print('run', {number})", lease=lease)
        if not number:
            with pytest.raises(Refused, match=r"logs\.no_previous"):
                bench.runtime.logs(identity, previous=True)
    with pytest.raises(Refused, match=r"runtime\.start"):
        await bench.runtime.start(bench.spec(lease=lease, command=("/no/such/program",)))
    with pytest.raises(Refused, match=r"runtime\.start"):  # a second one must not push out what the crash said
        await bench.runtime.start(bench.spec(lease=lease, command=("/no/such/program",)))
    assert [line.text async for line in bench.runtime.logs(identity)] == []
    assert [line.text async for line in bench.runtime.logs(identity, previous=True)] == ["run 2"]
    await bench.runtime.forget(identity)
    assert list((bench.home / "logs").iterdir()) == []


async def test_a_flood_of_output_is_kept_within_bounds(bench: Bench) -> None:
    code, lines = await bench.run("for n in range(200_000): print('x' * 60, n)")
    assert code == 0
    assert lines[-1].endswith(" 199999")
    assert len(lines) < 200_000
    size = sum(path.stat().st_size for path in (bench.home / "logs").rglob("log*") if path.is_file())
    assert size <= 8 * MIB


@pytest.mark.parametrize(
    ("code", "expected"),
    [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 15)", 143), ("import os; os.abort()", 134)],
)
async def test_the_exit_code_is_reported(bench: Bench, code: str, expected: int) -> None:
    workload = await bench.runtime.start(bench.spec(code))
    with trio.fail_after(PATIENCE_SECONDS):
        ended = await bench.runtime.wait(workload.id)
    assert (ended.state, ended.exit_code, ended.pid) == (State.EXITED, expected, None)


async def test_a_program_the_image_lacks_is_refused_with_the_reason(bench: Bench) -> None:
    with pytest.raises(Refused, match=r"runtime\.start: .*/no/such/program"):
        await bench.runtime.start(bench.spec(command=("/no/such/program",)))
    assert await bench.runtime.list() == ()


async def test_a_command_runs_inside_as_confined_as_the_workload(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec(env=("COLOUR=blue",)))
    await bench.get(workload.id)
    code = """
import ctypes, os, sys
print(os.environ['COLOUR'], os.getcwd(), os.getuid())
print(*[l.split()[1] for l in open('/proc/self/status') if l.split(':')[0] in ('CapEff', 'CapBnd', 'Seccomp')])
running = [open(f'/proc/{n}/cmdline').read() for n in os.listdir('/proc') if n.isdigit()]
print(ctypes.CDLL(None).unshare(0x10000000), any('server.py' in line for line in running))
print('bad', file=sys.stderr)
sys.exit(3)
"""
    result = await bench.runtime.exec(workload.id, ["python3", "-c", code])
    assert result.exit_code == 3, result
    assert result.out.decode().splitlines() == ["blue /app 0", f"{'0' * 16} {'0' * 16} 2", "-1 True"]
    assert result.err == b"bad\n"


async def test_a_command_that_is_missing_slow_or_talkative_is_bounded(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec("import time; time.sleep(60)"))
    assert (await bench.runtime.exec(workload.id, ["nothing"])).exit_code == 127
    with pytest.raises(Refused, match=r"workload\.timeout"):
        await bench.runtime.exec(workload.id, ["python3", "-c", "import time; time.sleep(60)"], timeout_ms=300)
    shout = await bench.runtime.exec(workload.id, ["python3", "-c", "print('x' * (3 << 20))"])
    assert shout.truncated
    assert len(shout.out) == WORKLOAD_EXEC_OUTPUT_BYTES
    with pytest.raises(Refused, match=r"workload\.exec"):
        await bench.runtime.exec(workload.id, [])


async def test_stats_count_the_processes_of_the_workload(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec())
    await bench.get(workload.id)
    stats = await bench.runtime.stats(workload.id)
    assert 1 <= stats.processes <= 3
    assert 4 * MIB < stats.memory_bytes < 200 * MIB
    assert stats.network is None, "it has nothing but loopback"


async def test_stats_count_commands_beside_it_and_time_that_children_took(bench: Bench) -> None:
    code = """
import os, time
if os.fork() == 0:
    while time.process_time() < 0.3: pass
    os._exit(0)
os.wait()
print('ready')
time.sleep(600)
"""
    workload = await bench.runtime.start(bench.spec(code))
    await bench.line(workload, "ready")
    alone = await bench.runtime.stats(workload.id)
    assert alone.cpu_ms >= 270, "less what is lost to whole ticks, of the user and of the system"
    hold = "x = b'x' * (50 << 20); print('held', flush=True); import time; time.sleep(600)"
    async with bench.runtime.execute(workload.id, Command(argv=(b"python3", b"-c", hold.encode()))) as execution:
        assert await execution.receive(Channel.OUT) == b"held\n"
        beside = await bench.runtime.stats(workload.id)
    assert beside.processes == alone.processes + 1
    assert beside.memory_bytes > alone.memory_bytes + 50 * MIB
    assert (await bench.runtime.stats(workload.id)).processes == alone.processes


async def test_stop_leaves_no_process_no_mount_and_no_file_but_the_log(bench: Bench) -> None:
    code = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open('/app/big', 'w').write('x')
os.mkdir('/app/locked', 0o000)
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
print('ready', flush=True)
time.sleep(600)
"""
    workload = await bench.runtime.start(bench.spec(code))
    await bench.line(workload, "ready")
    assert workload.pid is not None
    family = [found for pid in processes.family(workload.pid) if (found := processes.process(pid))]
    assert len(family) >= 2
    ended = await bench.runtime.stop(workload.id, grace_ms=50)
    assert ended is not None
    assert (ended.state, ended.exit_code) == (State.EXITED, 137)
    assert not any(member.alive() for member in family)
    assert str(bench.home) not in Path("/proc/mounts").read_text()
    assert list((bench.home / "run").iterdir()) == []
    assert "ready" in [line.text async for line in bench.runtime.logs(workload.id)]
    assert await bench.runtime.list() == ()
    assert await bench.runtime.stop(workload.id) is None
    assert bench.runtime.kept() == (workload.id,)
    await bench.runtime.forget(workload.id)
    assert list((bench.home / "logs").iterdir()) == []


async def test_a_polite_workload_may_end_by_itself(bench: Bench) -> None:
    code = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
print('ready')
while True: time.sleep(1)
"""
    workload = await bench.runtime.start(bench.spec(code))
    await bench.line(workload, "ready")
    ended = await bench.runtime.stop(workload.id, grace_ms=5_000)
    assert ended is not None
    assert ended.exit_code == 5


async def test_workloads_survive_a_kill_of_the_provider_and_are_found_again(bench: Bench) -> None:
    starter = subprocess.Popen(
        [
            *(sys.executable, "-c", STARTER, str(bench.home), str(bench.layout), bench.image.reference),
            "" if bench.service is None else f"{bench.service.name} {bench.service.socket}",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    with starter.stdout:
        assert await trio.to_thread.run_sync(starter.stdout.readline) == "started\n"
    starter.send_signal(signal.SIGKILL)
    assert starter.wait() == -signal.SIGKILL

    again = bench.again()
    found = await again.list()
    assert [(w.id, w.state) for w in found] == [
        (workload_id(LeaseId(bytes(32)), service), State.RUNNING) for service in ("api", "web")
    ]
    web = found[1]
    assert "hostname: web" in await bench.get(web.id)
    await bench.line(web, "GET / HTTP/1.0")  # the log went on without a provider
    with pytest.raises(Refused, match=r"workload\.exists"):
        await again.start(bench.spec(lease=LeaseId(bytes(32))))
    for workload in found:
        ended = await again.stop(workload.id)
        assert ended is not None
        assert ended.exit_code == 143
    assert await again.list() == ()


async def test_a_workload_whose_shim_is_killed_goes_down_with_it_and_is_lost(embedded: Bench) -> None:
    workload = await embedded.runtime.start(embedded.spec("import time; time.sleep(600)"))
    assert workload.pid is not None
    first = processes.process(workload.pid)
    assert first is not None
    state = (embedded.home / "run" / workload.id / "state.json").read_text()
    shim = int(state.split('"shim": ')[1].split(",")[0])
    os.kill(shim, signal.SIGKILL)
    with trio.fail_after(PATIENCE_SECONDS):
        while first.alive():
            await trio.sleep(0.01)
    assert (await embedded.runtime.status(workload.id)).state is State.LOST
    ended = await embedded.runtime.stop(workload.id)
    assert ended is not None
    assert ended.exit_code is None


async def test_a_pid_that_was_given_away_is_not_taken_for_the_workload(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec("import time; time.sleep(600)"))
    path = bench.home / "run" / workload.id / "state.json"
    kept = path.read_text()
    path.write_text(kept.replace(f'"pid": {workload.pid},', f'"pid": {os.getpid()},'))
    try:
        with pytest.raises(Refused, match=r"workload\.gone"):
            await bench.runtime.dial(workload.id, 80)
        with pytest.raises(Refused, match=r"workload\.gone"):
            await bench.runtime.exec(workload.id, ["true"])
    finally:
        path.write_text(kept)


async def test_disk_volumes_outlive_the_workload_if_persistent_and_ram_volumes_do_not(bench: Bench) -> None:
    def volume(name: str, **more: object) -> VolumeMount:
        return VolumeMount(name=name, path=f"/data/{name}", size_bytes=5 * MIB, **more)  # type: ignore[arg-type]

    volumes = (volume("kept", persistent=True), volume("scratch"), volume("ram", kind=VolumeKind.RAM))
    code = """
import os
print(*[os.path.exists(f'/data/{name}/x') for name in ('kept', 'scratch', 'ram')])
for name in ('kept', 'scratch', 'ram'): open(f'/data/{name}/x', 'w').write('1')
"""
    lease = LeaseId(b"\1" * 32)
    code_one, first = await bench.run(code, volumes=volumes, lease=lease)
    code_two, second = await bench.run(code, volumes=volumes, lease=lease)
    assert (code_one, code_two) == (0, 0)
    assert first == ["False False False"]
    assert second[-1] == "True False False"


@NOT_DOCKERS
async def test_what_was_never_started_is_unknown(bench: Bench) -> None:
    unknown = workload_id(LeaseId(bytes(32)), "nobody")
    with pytest.raises(Refused, match=r"workload\.unknown"):
        bench.runtime.logs(unknown)
    with pytest.raises(Refused, match=r"workload\.unknown"):
        await bench.runtime.status(unknown)
    with pytest.raises(Refused, match=r"workload\.unknown"):
        await bench.runtime.stop(WorkloadId("../../etc"))
    with pytest.raises(Refused, match=r"image\.not_found"):
        await bench.runtime.start(bench.spec(image="library/nothing:1"))
    assert parse_workload_id(unknown) == (bytes(32), "nobody", 0)


async def test_what_needs_gpus_is_refused_and_leaves_nothing(bench: Bench) -> None:
    with pytest.raises(Refused) as refused:
        await bench.runtime.start(bench.spec(gpu_units=1))
    assert refused.value.code == "workload.gpu"
    assert await bench.runtime.list() == ()
