"""Limits that the kernel keeps for a workload as a whole, where control groups can be made."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from tests.integration.runtime.conftest import PATIENCE_SECONDS, Bench

from fondaco.protocol.limits import MIB
from fondaco.provider.runtimes import lifecycle
from fondaco.provider.runtimes.cgroups import RUNNER_PIDS
from fondaco.provider.runtimes.port import Reason, State, VolumeKind, VolumeMount, WorkloadId

TAKE = """
import os, signal
def take(mib):
    kept = []
    while len(kept) < mib:
        kept.append(b'x' * (1 << 20))
        print(len(kept), flush=True)
    return kept
"""


async def test_every_runtime_tells_an_end_for_memory_from_others(bench: Bench) -> None:
    promised = await bench.runtime.probe()
    if "memory" not in promised.hard_limits:
        pytest.skip(promised.limits_note)
    for code, reason in ((TAKE + "take(400)", Reason.MEMORY), ("import os; os.kill(os.getpid(), 9)", None)):
        workload = await bench.runtime.start(bench.spec(code, memory_bytes=64 * MIB))
        ended = await bench.runtime.wait(workload.id)
        assert (ended.state, ended.exit_code, ended.reason) == (State.EXITED, 137, reason)
        await bench.runtime.stop(workload.id)


@pytest.fixture
async def hard(each_bench: Bench) -> Bench:
    promised = await each_bench.runtime.probe()
    if set(promised.hard_limits) != {"cpu", "memory", "pids"}:
        pytest.skip(promised.limits_note or f"only {', '.join(promised.hard_limits)} can be limited here")
    return each_bench


def groups(bench: Bench, workload: WorkloadId) -> tuple[Path, ...]:
    return tuple(Path(group) for group in lifecycle.groups_of(bench.home / "run" / workload))


async def test_who_takes_more_memory_than_the_order_is_killed_and_the_reason_is_told(hard: Bench) -> None:
    workload = await hard.runtime.start(hard.spec(TAKE + "take(400)", memory_bytes=64 * MIB))
    ended = await hard.runtime.wait(workload.id)
    assert (ended.state, ended.exit_code, ended.reason) == (State.EXITED, 137, Reason.MEMORY)
    lines = [int(line.text) async for line in hard.runtime.logs(workload.id)]
    assert 32 < lines[-1] < 64


async def test_several_processes_share_the_memory_of_the_order(hard: Bench) -> None:
    code = (
        TAKE.replace("print(len(kept), flush=True)", "pass")
        + """
for number in range(3):
    if not os.fork():
        kept = take(40)
        signal.pause()
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    )
    assert await hard.run(code, memory_bytes=100 * MIB) == (0, ["-9"])


async def test_memory_volumes_cost_memory_of_their_own_and_no_more(hard: Bench) -> None:
    ram = VolumeMount(name="ram", path="/ram", size_bytes=64 * MIB, kind=VolumeKind.RAM)
    code = """
with open('/ram/x', 'wb') as file:
    for n in range(60): file.write(b'x' * (1 << 20))
kept = [b'x' * (1 << 20) for _ in range(30)]
print('both')
"""
    assert await hard.run(code, memory_bytes=64 * MIB, volumes=(ram,)) == (0, ["both"])
    status, lines = await hard.run(code, memory_bytes=16 * MIB, volumes=(ram,))
    assert (status, lines) == (137, [])


async def test_a_processor_is_given_by_the_share_that_was_ordered(hard: Bench) -> None:
    code = """
import time
start, used = time.monotonic(), time.process_time()
while time.monotonic() - start < 1: pass
print(round((time.process_time() - used) * 1000))
time.sleep(600)
"""
    workload = await hard.runtime.start(hard.spec(code, cpu_milli=200))
    with trio.fail_after(PATIENCE_SECONDS):
        line = await anext(aiter(hard.runtime.logs(workload.id, follow=True)))
    assert int(line.text) <= 300
    words = " ".join(
        (group / "cpu.stat").read_text() for group in groups(hard, workload.id) if (group / "cpu.stat").exists()
    )
    assert int(words.split("nr_throttled ")[1].split()[0]) >= 3


async def test_processes_are_counted_for_the_workload_and_what_is_executed_in_it(hard: Bench) -> None:
    workload = await hard.runtime.start(hard.spec("import time; time.sleep(600)", pids=20))
    bomb = """
import os, signal
children = []
try:
    while len(children) < 200:
        children.append(os.fork())
        if not children[-1]: signal.pause()
except BlockingIOError:
    pass
print(len(children))
for child in children: os.kill(child, 9)
"""
    found = await hard.runtime.exec(workload.id, ["python3", "-c", bomb])
    assert int(found.out) < 20 + RUNNER_PIDS
    counted = [
        int((group / "pids.peak").read_text())
        for group in groups(hard, workload.id)
        if (group / "pids.peak").exists()
    ]
    assert all(10 < peak <= 28 for peak in counted)


async def test_what_is_executed_shares_the_memory_of_the_order(hard: Bench) -> None:
    workload = await hard.runtime.start(hard.spec("import time; time.sleep(600)", memory_bytes=64 * MIB))
    found = await hard.runtime.exec(workload.id, ["python3", "-c", TAKE + "take(400)"])
    assert found.exit_code == 137
    assert int(found.out.split()[-1]) < 64


async def test_a_next_run_of_the_provider_removes_the_groups_of_the_one_before(hard: Bench) -> None:
    workload = await hard.runtime.start(hard.spec("import time; time.sleep(600)"))
    made = groups(hard, workload.id)
    assert len(made) in (1, 3)
    assert all(group.is_dir() for group in made)
    again = hard.again()
    await again.stop(workload.id, grace_ms=0)
    assert not any(group.exists() for group in made)
    assert hard.service or not any(group.parent.exists() for group in made)
