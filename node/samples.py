"""A resource unit that asks for CPU and memory only: of simulated markets, benchmarks and tests."""

from __future__ import annotations

from fondaco.protocol.limits import MIB
from fondaco.protocol.resources import Endpoint, Resources, ResourceUnit


def plain_unit(*, cpu_milli: int, memory_bytes: int, endpoints: tuple[Endpoint, ...] = ()) -> ResourceUnit:
    """One replica of it, with the id 1."""
    resources = Resources(
        cpu_milli=cpu_milli,
        cpu_attributes=(),
        memory_bytes=memory_bytes,
        memory_attributes=(),
        gpu_units=0,
        gpu_attributes=(),
        volumes=(),
        endpoints=endpoints,
    )
    return ResourceUnit(id=1, resources=resources, count=1)


UNIT = plain_unit(cpu_milli=100, memory_bytes=MIB)
"""About as small as they come."""
