"""Workloads held still: nothing in them runs, and all goes on where it was."""

from __future__ import annotations

import trio
from tests.integration.runtime.conftest import PATIENCE_SECONDS, Bench

from fondaco.provider.runtimes import processes
from fondaco.provider.runtimes.port import State, WorkloadId

BUSY = """
import os, time
print("ready", flush=True)
for _ in range(2):
    os.fork()
while True:
    if os.fork() == 0:
        time.sleep(0.001)
        os._exit(0)
    os.wait()
"""


async def cpu_ms(bench: Bench, workload: WorkloadId) -> int:
    return (await bench.runtime.stats(workload)).cpu_ms


async def test_what_is_held_uses_no_processor_and_answers_where_it_was_once_it_goes_on(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec())
    await bench.get(workload.id)
    await bench.runtime.pause(workload.id)
    await bench.runtime.pause(workload.id)
    (held,) = await bench.runtime.list()
    assert (held.state, held.pid) == (State.RUNNING, workload.pid)
    stream = await bench.runtime.dial(workload.id, 8080)  # the kernel's queue takes it
    async with stream:
        await stream.send_all(b"GET /health HTTP/1.0\r\n\r\n")
        with trio.move_on_after(0.2) as waiting:
            await stream.receive_some()
        assert waiting.cancelled_caught
        await bench.runtime.resume(workload.id)
        with trio.fail_after(PATIENCE_SECONDS):
            assert b"ok" in b"".join([chunk async for chunk in stream])
    await bench.runtime.resume(workload.id)


async def test_even_what_forks_all_the_time_is_stopped_whole(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec(BUSY))
    await bench.line(workload, "ready")
    await bench.runtime.pause(workload.id)
    before = await cpu_ms(bench, workload.id)
    await trio.sleep(0.2)
    assert await cpu_ms(bench, workload.id) == before
    assert workload.pid is not None
    assert len(list(processes.family(workload.pid))) >= 4
    await bench.runtime.stop(workload.id, grace_ms=0)
    assert await bench.runtime.list() == ()


async def test_what_does_not_run_can_be_neither_held_nor_set_going_and_that_is_no_error(bench: Bench) -> None:
    workload = await bench.runtime.start(bench.spec("pass"))
    await bench.runtime.wait(workload.id)
    await bench.runtime.pause(workload.id)
    await bench.runtime.resume(workload.id)
