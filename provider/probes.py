"""Whether workloads serve, and keeping them up.

The provider's own probe comes before activation: it is what the provider charges on, so it asks what a tenant
would ask first, a connection to the first TCP port exposed. The tenant's probe follows over the channel.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from fondaco.protocol import limits
from fondaco.protocol.channel_calls import Happening
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.manifest import ManifestGroup
from fondaco.provider.lease_events import LeaseEvents
from fondaco.provider.runtimes.port import AWAY, KILLED, Runtime, State, Workload, WorkloadId, WorkloadSpec
from fondaco.provider.together import run_all
from fondaco.provider.workloads import probe_port

log = logging.getLogger("fondaco.provider")
T = TypeVar("T")
SETTLE_S = 0.3
"""What exposes nothing must still run after this."""
BACK_OFF_S = (0.01, 0.5)
RESTART_S = (1.0, 60.0)
AWAY_S = 15.0
"""Longest pause before a runtime that is away is asked again."""
STEADY_S = 60.0
"""Having run for so long, a workload is given a fresh start at its next end."""


class Restarts:
    """How often each workload has ended and was started again."""

    def __init__(self) -> None:
        self._counts: dict[WorkloadId, int] = {}
        self._last: dict[WorkloadId, str] = {}

    def add(self, workload: WorkloadId, last: str) -> None:
        self._counts[workload] = self.count(workload) + 1
        self._last[workload] = last

    def last(self, workload: WorkloadId) -> str:
        """How it ended the last time; empty if it never did."""
        return self._last.get(workload, "")

    def count(self, workload: WorkloadId) -> int:
        return self._counts.get(workload, 0)


async def probe_all(
    runtime: Runtime,
    specs: tuple[WorkloadSpec, ...],
    group: ManifestGroup,
    *,
    timeout_ms: int = limits.PROBE_TIMEOUT_MS,
) -> None:
    """Return once every replica serves. Raises `Refused` `workload.exited` or `probe.timeout`."""
    ports = {service.name: probe_port(service) for service in group.services}
    await run_all(partial(_probe, runtime, spec.id, ports[spec.service], timeout_ms) for spec in specs)


async def _probe(runtime: Runtime, workload: WorkloadId, port: int | None, timeout_ms: int) -> None:
    if port is None:
        await _still_runs(runtime, workload, SETTLE_S)
        return
    pause = BACK_OFF_S[0]
    with trio.move_on_after(timeout_ms / 1000):
        while True:
            try:
                stream = await runtime.dial(workload, port)
            except Refused as error:
                if error.code != "workload.dial":
                    raise
                await _still_runs(runtime, workload, pause)
                pause = min(BACK_OFF_S[1], 2 * pause)
                continue
            await trio.aclose_forcefully(stream)
            return
    raise Refused("probe.timeout", f"nothing accepts connections on port {port} after {timeout_ms} ms")


async def _still_runs(runtime: Runtime, workload: WorkloadId, seconds: float) -> None:
    """Let some time pass; raises `workload.exited` as soon as it has ended."""
    ended: Workload | None = None
    with trio.move_on_after(seconds):
        ended = await runtime.wait(workload)
    if ended is not None:
        raise Refused("workload.exited", f"{_name(workload)} ended with {_code(ended)} before it served")


async def watch_all(
    runtime: Runtime, specs: tuple[WorkloadSpec, ...], restarts: Restarts, events: LeaseEvents
) -> None:
    """Start again whatever ends, with a growing pause; returns only when cancelled."""
    async with trio.open_nursery() as nursery:
        for spec in specs:
            nursery.start_soon(_watch, runtime, spec, restarts, events)
        await trio.sleep_forever()


async def _watch(runtime: Runtime, spec: WorkloadSpec, restarts: Restarts, events: LeaseEvents) -> None:
    pause, add = RESTART_S[0], partial(events.add, service=spec.service, replica=spec.replica)
    while True:
        since = trio.current_time()
        try:
            ended = await runtime.wait(spec.id)
            last = _code(ended)
            log.info("workload ended", extra={"lease": spec.lease.hex(), "workload": spec.id, "exit": last})
            lost = ended.exit_code is None
            add(Happening.LOST if lost else Happening.EXITED, _why(ended), code=ended.exit_code)
        except Refused as error:
            last = error.code
            log.warning(
                "workload lost", extra={"lease": spec.lease.hex(), "workload": spec.id, "code": error.code}
            )
            add(Happening.LOST, error.message)
        if trio.current_time() - since > STEADY_S:
            pause = RESTART_S[0]
        add(Happening.PAUSED, f"started again in {pause:.0f} s")
        await trio.sleep(pause)
        pause = min(RESTART_S[1], 2 * pause)
        restarts.add(spec.id, last)
        try:
            await persistently(partial(_again, runtime, spec), partial(add, Happening.AWAY))
            add(Happening.STARTED, f"again: {restarts.count(spec.id)} times now")
        except (Refused, Unreachable) as error:
            log.warning(
                "workload did not start again",
                extra={"lease": spec.lease.hex(), "workload": spec.id, "code": error.code},
            )
            add(Happening.FAILED, f"{error.message} [{error.code}]")


async def _again(runtime: Runtime, spec: WorkloadSpec) -> None:
    await runtime.stop(spec.id)
    await runtime.start(spec)


async def persistently(do: Callable[[], Awaitable[T]], tell: Callable[[str], None]) -> T:
    """Do what needs a runtime that may be away, again until it is there; `tell` hears once that it was not.

    A control plane that does not answer says nothing about workloads: it counts as no failure of theirs.
    """
    pause = RESTART_S[0]
    while True:
        try:
            return await do()
        except Unreachable as error:
            if error.code != AWAY:
                raise
            if pause == RESTART_S[0]:
                tell(error.message)
                log.warning("the runtime is away", extra={"code": error.code})
        await trio.sleep(pause)
        pause = min(AWAY_S, 2 * pause)


def _code(workload: Workload) -> str:
    if workload.state is State.LOST or workload.exit_code is None:
        return "no exit code"
    return f"exit code {workload.exit_code}" + (f", {workload.reason}" if workload.reason else "")


def _why(workload: Workload) -> str:
    """What people should know of an end besides its code."""
    code = workload.exit_code
    if workload.reason is not None:
        return workload.reason
    if code == KILLED:
        return "killed, as what takes more memory than it has"
    return signal.Signals(code - 128).name if code and code - 128 in set(signal.Signals) else ""


def _name(workload: WorkloadId) -> str:
    return workload.split(".", 1)[1]
