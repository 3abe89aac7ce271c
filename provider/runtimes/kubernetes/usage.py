"""What a pod takes, as its own control group and interfaces show it from inside.

Cluster-wide numbers are a rate over half a minute, where there are any (`metrics.k8s.io`), and a node's own want
rights that amount to being the node. So the workload is asked, by the `head` of its image.
"""

from __future__ import annotations

from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes.kubernetes import executing
from fondaco.provider.runtimes.kubernetes.client import ApiServer
from fondaco.provider.runtimes.port import Stats

CPU_2, MEMORY_2, PIDS_2 = (f"/sys/fs/cgroup/{one}" for one in ("cpu.stat", "memory.current", "pids.current"))
CPU_1, MEMORY_1, PIDS_1 = (
    f"/sys/fs/cgroup/{one}"
    for one in ("cpuacct/cpuacct.usage", "memory/memory.usage_in_bytes", "pids/pids.current")
)
NETWORK = "/proc/net/dev"
FILES = (CPU_2, MEMORY_2, PIDS_2, CPU_1, MEMORY_1, PIDS_1, NETWORK)


async def stats(api: ApiServer, namespace: str, pod: str) -> Stats:
    """Raises `Refused` `runtime.stats`, and `workload.gone`."""
    try:
        _, told = await executing.run(api, namespace, pod, ["head", "-n", "64", *FILES])
    except Refused as error:
        if error.code == "workload.gone":
            raise
        raise _unknown() from None
    return parse(told.decode("utf-8", "replace"))


def parse(text: str) -> Stats:
    """From what `head` prints of those of the files that are there.  Raises `Refused` `runtime.stats`."""
    files = dict(part.partition(" <==\n")[::2] for part in text.split("==> ")[1:])
    try:
        if CPU_2 in files:
            counted = dict(line.split() for line in files[CPU_2].splitlines() if line.strip())
            cpu_ms = int(counted["usage_usec"]) // 1_000
        else:
            cpu_ms = int(files[CPU_1]) // 1_000_000
        memory = int(files[MEMORY_2 if MEMORY_2 in files else MEMORY_1])
        processes = int(files[PIDS_2 if PIDS_2 in files else PIDS_1])
        network = _network(files[NETWORK]) if NETWORK in files else None
    except (KeyError, ValueError, IndexError):
        raise _unknown() from None
    # The asking itself is two of them: `head`, and what began it.
    return Stats(cpu_ms=cpu_ms, memory_bytes=memory, processes=max(1, processes - 1), network=network)


def _network(text: str) -> tuple[int, int] | None:
    rows = [line.partition(":") for line in text.splitlines() if ":" in line]
    counts = [numbers.split() for name, _, numbers in rows if name.strip() != "lo"]
    if not counts:
        return None
    return sum(int(one[0]) for one in counts), sum(int(one[8]) for one in counts)


def _unknown() -> Refused:
    return Refused("runtime.stats", "the workload's image has no `head` to show what it takes")
