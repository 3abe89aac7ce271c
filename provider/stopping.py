"""Stopping what runs for a lease: some of it, or all of it until nothing is left."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import trio

from fondaco.protocol.channel_calls import Happening, ServiceStatus
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.lease_events import LeaseEvents
from fondaco.provider.probes import Restarts
from fondaco.provider.runtimes.port import Runtime, Workload, WorkloadId, parse_workload_id
from fondaco.provider.together import run_all

log = logging.getLogger("fondaco.provider")
GRACE_MS = 2_000
RETRY_S = (1.0, 30.0)
"""First and longest pause between attempts."""


@dataclass(slots=True)
class Leaving:
    """A tenant has everything stopped, and waits for that."""

    grace_ms: int
    ended: tuple[ServiceStatus, ...] = ()
    done: trio.Event = field(default_factory=trio.Event)


class Replica(NamedTuple):
    """A workload of a lease, by its names."""

    workload: Workload
    service: str
    number: int

    def told(self, restarts: Restarts) -> ServiceStatus:
        workload = self.workload
        return ServiceStatus(
            service=self.service,
            replica=self.number,
            state=workload.state.value,
            exit_code=workload.exit_code,
            started_at=workload.started_at,
            restarts=restarts.count(workload.id),
            last_end=restarts.last(workload.id),
        )


async def replicas_of(runtime: Runtime, lease: LeaseId) -> list[Replica]:
    """All that is there of a lease, whether it runs or not."""
    found = []
    for workload in await runtime.list():
        parsed = parse_workload_id(workload.id)
        if parsed is not None and parsed[0] == lease:
            found.append(Replica(workload, parsed[1], parsed[2]))
    return found


async def stop(
    runtime: Runtime, workloads: Iterable[WorkloadId], events: LeaseEvents, *, grace_ms: int = GRACE_MS
) -> list[Replica]:
    """Stop these; how each ended that was there. Raises `Refused`."""
    ended: list[Replica] = []

    async def one(workload: WorkloadId) -> None:
        last, named = await runtime.stop(workload, grace_ms=grace_ms), parse_workload_id(workload)
        if last is not None and named is not None:
            ended.append(Replica(last, named[1], named[2]))
            events.add(Happening.STOPPED, service=named[1], replica=named[2], code=last.exit_code)

    await run_all(partial(one, workload) for workload in workloads)
    return sorted(ended, key=lambda replica: (replica.service, replica.number))


async def stop_everything(
    runtime: Runtime, lease: LeaseId, events: LeaseEvents, *, grace_ms: int = GRACE_MS, release: bool = False
) -> list[Replica]:
    """Stop all of a lease, also what no manifest names; again until that is done. `release`: the lease is over."""
    pause = RETRY_S[0]
    while True:
        try:
            there = await replicas_of(runtime, lease)
            ended = await stop(runtime, (one.workload.id for one in there), events, grace_ms=grace_ms)
            if release:
                await runtime.release(lease)
            return ended
        except (Refused, Unreachable) as error:
            log.warning("stopping failed, again soon", extra={"lease": lease.hex(), "code": error.code})
        await trio.sleep(pause)
        pause = min(RETRY_S[1], 2 * pause)
