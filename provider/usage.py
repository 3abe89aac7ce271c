"""What workloads take, as their tenant is told it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from fondaco.protocol.channel_calls import Usage
from fondaco.protocol.errors import Refused
from fondaco.provider.lease_events import wall
from fondaco.provider.runtimes.port import Runtime, WorkloadId, parse_workload_id

USAGE_EVERY_S = 1.0


@dataclass(slots=True)
class Traffic:
    """Carried over forwards since the provider was started."""

    received_bytes: int = 0
    """By the workload."""
    sent_bytes: int = 0


TrafficOf = defaultdict[WorkloadId, Traffic]


async def usages(runtime: Runtime, workloads: list[WorkloadId], traffic: TrafficOf) -> list[Usage]:
    """Of each that runs."""
    found: list[Usage] = []
    for workload in workloads:
        try:
            stats = await runtime.stats(workload)
        except Refused:
            continue  # it has ended, and is about to be started again
        parsed = parse_workload_id(workload)
        assert parsed is not None, "an id we made"
        received, sent = stats.network or (0, 0)
        carried = traffic[workload]
        found.append(
            Usage(
                service=parsed[1],
                replica=parsed[2],
                time=wall(),
                cpu_ms=stats.cpu_ms,
                memory_bytes=stats.memory_bytes,
                processes=stats.processes,
                received_bytes=received + carried.received_bytes,
                sent_bytes=sent + carried.sent_bytes,
            )
        )
    return found
