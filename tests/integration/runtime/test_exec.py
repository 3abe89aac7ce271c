"""Commands inside real workloads: streams, terminals, signals, and that nothing of them is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import trio
from tests.integration.runtime.conftest import NOR_ENGINES, PATIENCE_SECONDS, Bench

from fondaco.protocol.channel_exec import WindowSize
from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import KIB, MIB
from fondaco.provider.runtimes import processes
from fondaco.provider.runtimes.cgroups import RUNNER_PIDS
from fondaco.provider.runtimes.port import Channel, Command, Execution, Workload, WorkloadId

SLEEP = "import time; print('ready'); time.sleep(600)"
BARE = """
import json, resource, sys
names = [name for name in dir(resource) if name.startswith('RLIMIT_')]
kept = ('CapEff', 'CapBnd', 'CapPrm', 'NoNewPrivs', 'Seccomp', 'Uid', 'Gid', 'Groups')
status = dict(line.rstrip('\\n').split(':', 1) for line in open('/proc/self/status'))
status['Groups'] = sorted({*status['Groups'].split()} - {'0'})  # docker lists its own group a second time
limits = {name: resource.getrlimit(getattr(resource, name)) for name in names}
print(json.dumps([limits, [status[name] for name in kept]]))
"""


def python(code: str, *, terminal: WindowSize | None = None, env: tuple[bytes, ...] = ()) -> Command:
    return Command(argv=(b"python3", b"-u", b"-c", code.encode()), terminal=terminal, env=env)


async def seen(execution: Execution, wanted: bytes, channel: Channel = Channel.OUT) -> bytes:
    """Output up to and with `wanted`."""
    text = b""
    with trio.fail_after(PATIENCE_SECONDS):
        while wanted not in text:
            data = await execution.receive(channel)
            assert data, f"it ended with {text!r}"
            text += data
    return text


@pytest.fixture
async def bench(each_bench: Bench) -> Bench:
    """In each kind of sandbox."""
    return each_bench


@pytest.fixture
async def workload(bench: Bench) -> AsyncIterator[Workload]:
    """One that sleeps."""
    started = await bench.runtime.start(bench.spec(SLEEP))
    yield started
    await bench.runtime.stop(started.id, grace_ms=0)


async def inside(bench: Bench, workload: WorkloadId) -> list[str]:
    """The last arguments of all commands in it that begin with `marked`, as it sees them itself."""
    code = """
import os
for name in os.listdir('/proc'):
    if name.isdigit():
        print(open(f'/proc/{name}/cmdline').read().rstrip(chr(0)).rpartition(chr(0))[2].replace(chr(10), ' '))
"""
    result = await bench.runtime.exec(workload, ["python3", "-c", code])
    return [line for line in result.out.decode().splitlines() if line.startswith("marked")]


async def test_input_output_and_errors_are_streamed_and_the_exit_code_is_told(
    bench: Bench, workload: Workload
) -> None:
    code = """
import os, sys
for line in sys.stdin: print(line.upper(), end='')
print(os.environ['A'], file=sys.stderr)
sys.exit(7)
"""
    async with bench.runtime.execute(workload.id, python(code, env=(b"A=b",))) as execution:
        await execution.send(b"one\n")
        assert await seen(execution, b"\n") == b"ONE\n"
        await execution.send(b"two\n")
        assert await seen(execution, b"\n") == b"TWO\n"
        await execution.end_input()
        assert await seen(execution, b"\n", Channel.ERR) == b"b\n"
        assert await execution.receive(Channel.OUT) == b""
        assert await execution.wait() == 7


@NOR_ENGINES
async def test_neither_side_is_buffered_beyond_what_a_pipe_holds(bench: Bench, workload: Workload) -> None:
    code = """
import os, sys
os.set_blocking(1, False)
written = 0
try:
    while True: written += os.write(1, bytes(4096))
except BlockingIOError:
    print(written, file=sys.stderr)
import time; time.sleep(600)
"""
    async with bench.runtime.execute(workload.id, python(code)) as execution:
        assert int(await seen(execution, b"\n", Channel.ERR)) <= 256 * KIB
        with trio.move_on_after(0.3) as scope:
            await execution.send(bytes(2 * MIB))
        assert scope.cancelled_caught, "nobody reads, and yet it was all taken"


async def test_a_terminal_has_a_name_a_size_that_changes_and_takes_ctrl_c(
    bench: Bench, workload: Workload
) -> None:
    code = """
import os, signal, sys, time
def size(*_): print('size', *os.get_terminal_size())
signal.signal(signal.SIGWINCH, size)
print(os.ttyname(0), [os.isatty(fd) for fd in (0, 1, 2)], os.environ['TERM'])
try:
    size()
    while True: time.sleep(0.1)  # a signal on the way into a sleep is heard after it
except KeyboardInterrupt: print('interrupted', file=sys.stderr)
raise SystemExit(3)
"""
    command = python(code, terminal=WindowSize(columns=100, rows=30), env=(b"TERM=dumb",))
    async with bench.runtime.execute(workload.id, command) as execution:
        assert execution.channels == (Channel.OUT,)
        told = await seen(execution, b"size 100 30")
        assert b"/dev/pts/0 [True, True, True] dumb" in told
        execution.resize(WindowSize(columns=7, rows=5))
        await seen(execution, b"size 7 5")
        await execution.send(b"\x03")
        await seen(execution, b"interrupted")
        assert await execution.receive(Channel.OUT) in (b"\r\n", b"")
        assert await execution.wait() == 3


@NOR_ENGINES
async def test_end_of_input_is_typed_into_a_terminal(bench: Bench, workload: Workload) -> None:
    command = python("import sys; print(repr(sys.stdin.read()))", terminal=WindowSize(columns=80, rows=24))
    async with bench.runtime.execute(workload.id, command) as execution:
        await execution.send(b"words\n")
        await execution.end_input()
        await seen(execution, b"'words\\n'")
        assert await execution.wait() == 0


@NOR_ENGINES
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, 137), (signal.SIGINT, 5)])
async def test_a_signal_reaches_the_command_and_shows_in_its_code(
    bench: Bench, workload: Workload, number: int, code: int
) -> None:
    waits = """
import time, sys
try:
    print('ready')
    while True: time.sleep(0.1)
except KeyboardInterrupt: sys.exit(5)
"""
    async with bench.runtime.execute(workload.id, python(waits)) as execution:
        await seen(execution, b"ready")
        await execution.signal(number)
        with trio.fail_after(PATIENCE_SECONDS):
            assert await execution.wait() == code


FAMILY = """
import os, subprocess, sys, time
nap = [sys.executable, '-c', 'import time; time.sleep(600)', 'marked']
subprocess.Popen(nap)
subprocess.Popen(nap, process_group=0)
subprocess.Popen(nap, start_new_session=True)
if os.fork() == 0:
    subprocess.Popen(nap)  # an orphan, soon
    os._exit(0)
os.wait()
print('all there')
time.sleep(600)
"""


@pytest.mark.parametrize("terminal", [None, WindowSize(columns=80, rows=24)])
async def test_leaving_kills_the_command_its_children_its_jobs_and_its_orphans(
    bench: Bench, workload: Workload, terminal: WindowSize | None
) -> None:
    async with bench.runtime.execute(workload.id, python(FAMILY, terminal=terminal)) as execution:
        await seen(execution, b"all there")
        assert len(await inside(bench, workload.id)) == 4
    assert await inside(bench, workload.id) == []


@NOR_ENGINES
async def test_what_a_command_that_has_ended_left_in_its_session_is_killed_and_a_daemon_lives_on(
    bench: Bench, workload: Workload
) -> None:
    code = """
import subprocess, sys
for name, apart in (('marked', False), ('marked-daemon', True)):
    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', name], start_new_session=apart)
"""
    async with bench.runtime.execute(workload.id, python(code)) as execution:
        with trio.fail_after(PATIENCE_SECONDS):  # though the daemon still holds the pipe
            assert await execution.receive(Channel.OUT) == b""
            assert await execution.wait() == 0
    (left,) = await inside(bench, workload.id)
    assert left == "marked-daemon"


async def test_a_fork_bomb_stays_within_the_workloads_limit_and_is_swept(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec(SLEEP, pids=32))
    code = """
import os
print('ready')
while True:
    try: os.fork()
    except OSError: pass
"""
    async with bench.runtime.execute(workload.id, python(code)) as execution:
        await seen(execution, b"ready")
        with trio.fail_after(PATIENCE_SECONDS):
            while (await bench.runtime.stats(workload.id)).processes < 20:
                await trio.sleep(0.01)
        assert (await bench.runtime.stats(workload.id)).processes <= 33 + RUNNER_PIDS
    assert workload.pid is not None
    family = [processes.process(pid) for pid in processes.family(workload.pid)]
    assert sum(1 for one in family if one is not None and one.alive()) <= 2, "crun's first process reaps nobody"


async def test_a_command_is_confined_exactly_as_the_workload_is(bench: Bench, workload: Workload) -> None:
    itself = await bench.runtime.start(bench.spec(BARE, service="bare"))
    await bench.runtime.wait(itself.id)
    told = [line.text async for line in bench.runtime.logs(itself.id)]
    result = await bench.runtime.exec(workload.id, ["python3", "-c", BARE])
    assert json.loads(result.out) == json.loads(told[-1])


async def test_a_command_ends_with_its_workload(bench: Bench, workload: Workload) -> None:
    async with bench.runtime.execute(workload.id, python(SLEEP)) as execution:
        await seen(execution, b"ready")
        await bench.runtime.stop(workload.id, grace_ms=0)
        with trio.fail_after(PATIENCE_SECONDS):
            assert await execution.wait() == 137
    with pytest.raises(Refused, match=r"workload\.gone"):
        async with bench.runtime.execute(workload.id, python(SLEEP)):
            pass


@NOR_ENGINES
async def test_programs_that_are_missing_or_none_end_as_in_a_shell(bench: Bench, workload: Workload) -> None:
    for name, code, reason in ((b"nothing", 127, b"no such command"), (b"/etc/hosts", 126, b"Permission denied")):
        async with bench.runtime.execute(workload.id, Command(argv=(name,))) as execution:
            told = await seen(execution, b"\n", Channel.ERR)
            assert (name in told, reason in told) == (True, name == b"nothing" or reason in told)
            assert await execution.wait() == code


ASKER = """
import sys, trio
from pathlib import Path
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.port import Channel, Command

async def main():
    runtime = EmbeddedRuntime(Path(sys.argv[1]), [])
    async with runtime.execute(sys.argv[2], Command(argv=tuple(map(str.encode, sys.argv[3:])))) as execution:
        while data := await execution.receive(Channel.OUT):
            print(data.decode(), end='', flush=True)

trio.run(main)
"""


async def test_nothing_is_left_of_a_command_whose_provider_was_killed(bench: Bench, workload: Workload) -> None:
    command = [sys.executable, "-c", ASKER, str(bench.home), workload.id, "python3", "-u", "-c", FAMILY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as provider:
        assert provider.stdout is not None
        assert await trio.to_thread.run_sync(provider.stdout.readline) == "all there\n"
        beside = processes.children(provider.pid)
        assert beside
        provider.kill()
    with trio.fail_after(PATIENCE_SECONDS):
        while await inside(bench, workload.id):
            await trio.sleep(0.02)
