"""What a runtime does to workloads that misbehave: each claim is tried on it, none is believed.

`Runtime.probe` is what a provider runs at every start. This is the long way, for its operator: it wants an image
with `python3`, runs a few small programs in it that ask for too much, and looks at what they got.
"""

from __future__ import annotations

import enum
import secrets
import socket
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import trio

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes.port import KILLED, NAMESPACES, Capability, Runtime, WorkloadSpec
from fondaco.provider.together import run_all

PATIENCE_S = 30.0
MEMORY_MIB = 64
CPU_MILLI, WHOLE_CPU = 100, 1_000
PIDS = 20
BURN_MS = 1_000
PRIVATE = (
    *("10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.0.1"),
    *("fd00::1", "fe80::1", "::1"),
)
"""One of each kind that is not the internet's: RFC 1918, 6598, 3927 (where clouds keep their secrets), 4193."""
PORTS = (53, 80)


class Verdict(enum.StrEnum):
    HOLDS = "holds"
    SOFT = "soft"
    """Something bounds it, but not the workload as a whole."""
    FAILS = "fails"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One claim about a runtime, and what was seen when it was tried."""

    name: str
    verdict: Verdict
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A runtime of this machine, found or missing."""

    name: str
    version: str = ""
    checks: tuple[Check, ...] = ()
    missing: str = ""
    """Why it cannot be used; empty where it was tried."""

    @property
    def usable(self) -> bool:
        """It may run workloads: nothing fails. Limits may be soft."""
        return not self.missing and all(check.verdict is not Verdict.FAILS for check in self.checks)


async def survey(name: str, runtime: Runtime, image: str) -> Report:
    """Try everything on `runtime` with `image`, which has a `python3`."""
    try:
        capability = await runtime.probe()
        checks = [*_isolation(capability)]
        for try_it in (_memory, _cpu, _processes, _network):
            checks.append(await try_it(runtime, image))
    except (Refused, Unreachable) as refused:
        return Report(name=name, missing=refused.message)
    return Report(name=name, version=capability.version, checks=tuple(checks))


async def promises(name: str, runtime: Runtime) -> Report:
    """What its own probe saw, for a runtime that takes no image of ours: that ran workloads, too."""
    try:
        found = await runtime.probe()
    except (Refused, Unreachable) as refused:
        return Report(name=name, missing=refused.message)
    limits = ", ".join(found.hard_limits) or "none"
    hard = _check(
        "hard limits", bool(found.hard_limits), limits + (f"; {found.limits_note}" if found.limits_note else "")
    )
    return Report(name=name, version=found.version, checks=(*_isolation(found), hard))


def _isolation(found: Capability) -> list[Check]:
    lacking = [kind for kind in NAMESPACES if kind not in found.namespaces]
    own = f"its own: {', '.join(found.namespaces)}" + (f"; the host's: {', '.join(lacking)}" if lacking else "")
    nested = "refused" if found.nested_namespaces_refused else "allowed"
    return [
        _check("namespaces", not lacking, own),
        _check(
            "seccomp",
            found.seccomp and found.nested_namespaces_refused,
            f"{'a' if found.seccomp else 'no'} filter is in force; namespaces of the workload's own are {nested}",
        ),
        _check("capabilities", found.no_capabilities, "none" if found.no_capabilities else "some are left"),
        _check(
            "no new privileges",
            found.no_new_privileges,
            "set" if found.no_new_privileges else "not set: setuid works",
        ),
    ]


def _check(name: str, holds: bool, seen: str) -> Check:
    return Check(name=name, verdict=Verdict.HOLDS if holds else Verdict.FAILS, seen=seen)


GREEDY = """
import os, sys
def take(mib):
    kept = []
    try:
        while len(kept) < mib:
            kept.append(b'x' * (1 << 20))
            print(len(kept), flush=True)
    except MemoryError:
        pass
    return kept
mib, processes = int(sys.argv[1]), int(sys.argv[2])
if processes == 1:
    sys.exit(len(take(mib)) < mib)
told, telling = os.pipe()
waiting, going = os.pipe()
for _ in range(processes):
    if os.fork() == 0:
        os.close(going)
        kept = take(mib)
        os.write(telling, bytes([len(kept)]))
        os.close(telling)
        os.read(waiting, 1)  # keep it until all have told
        os._exit(0)
os.close(telling)
together = 0
while one := os.read(told, 1):
    together += one[0]
print('together', together)
"""
BUSY = """
import time
start, used = time.monotonic(), time.process_time()
while time.monotonic() - start < 1:
    pass
print(round((time.process_time() - used) * 1000))
"""
FORKING = """
import os, signal
children = []
try:
    while len(children) < 200:
        pid = os.fork()
        if not pid:
            signal.pause()
        children.append(pid)
except BlockingIOError:
    pass
print(len(children) + 1)
for pid in children:
    os.kill(pid, 9)
"""
CURIOUS = """
import socket, sys
for place in sys.argv[1:]:
    host, _, port = place.rpartition(':')
    try:
        socket.create_connection((host, int(port)), 0.5).close()
        print('reached', place)
    except OSError:
        pass
print('interfaces', *[name for _, name in socket.if_nameindex()])
"""


async def _run(
    runtime: Runtime, image: str, code: str, *args: str, cpu_milli: int = 1_000, pids: int = 64
) -> tuple[int | None, list[str]]:
    """Run `code` to its end: its exit code and what it printed."""
    spec = WorkloadSpec(
        lease=LeaseId(secrets.token_bytes(32)),
        service="survey",
        image=image,
        command=("python3", "-c", code, *args),
        cpu_milli=cpu_milli,
        memory_bytes=MEMORY_MIB * MIB,
        pids=pids,
    )
    started = await runtime.start(spec)
    try:
        with trio.move_on_after(PATIENCE_S):
            ended = await runtime.wait(started.id)
            return ended.exit_code, [line.text async for line in runtime.logs(started.id)]
        raise Refused("runtime.survey", f"a small program did not end within {PATIENCE_S:.0f} s")
    finally:
        with trio.CancelScope(shield=True):
            await runtime.stop(started.id, grace_ms=0)


async def _memory(runtime: Runtime, image: str) -> Check:
    """One process asks for twice the limit; where it is told no instead of killed, several ask for a part each."""
    code, lines = await _run(runtime, image, GREEDY, str(2 * MEMORY_MIB), "1")
    got = int(lines[-1]) if lines else 0
    if got > MEMORY_MIB:
        return Check(name="memory", verdict=Verdict.FAILS, seen=f"a process got {got} MiB of {MEMORY_MIB}")
    if code == KILLED:
        seen = f"killed with {KILLED} when it had {got} MiB of {MEMORY_MIB}"
        return Check(name="memory", verdict=Verdict.HOLDS, seen=seen)
    part, processes = MEMORY_MIB // 2, 4
    _, lines = await _run(runtime, image, GREEDY, str(part), str(processes))
    together = int(lines[-1].split()[1]) if lines and lines[-1].startswith("together") else 0
    seen = f"no hard limits: a process is refused more than {got} MiB of {MEMORY_MIB}, {processes} got {together}"
    return Check(name="memory", verdict=Verdict.SOFT, seen=seen)


async def _cpu(runtime: Runtime, image: str) -> Check:
    """A second of nothing but work, beside a workload that may have more: a busy machine is no limit."""
    used: dict[int, int] = {}

    async def burn(cpu_milli: int) -> None:
        code, lines = await _run(runtime, image, BUSY, cpu_milli=cpu_milli)
        if code or len(lines) != 1:
            raise Refused("runtime.survey", f"a busy program ended with {code}: {' '.join(lines)[:200]}")
        used[cpu_milli] = int(lines[0]) * 100 // BURN_MS

    await run_all([partial(burn, CPU_MILLI), partial(burn, WHOLE_CPU)])
    limited, whole = used[CPU_MILLI], used[WHOLE_CPU]
    seen = f"{limited} % of a processor, of {CPU_MILLI // 10} %; another had {whole} %"
    if limited * 10 <= CPU_MILLI * 3 // 2 and limited * 3 // 2 < whole:
        return Check(name="cpu", verdict=Verdict.HOLDS, seen=f"throttled to {seen}")
    return Check(name="cpu", verdict=Verdict.SOFT, seen=f"no hard limits: it got {seen}")


async def _processes(runtime: Runtime, image: str) -> Check:
    code, lines = await _run(runtime, image, FORKING, pids=PIDS)
    if code or len(lines) != 1:
        raise Refused("runtime.survey", f"a forking program ended with {code}: {' '.join(lines)[:200]}")
    return _check("processes", int(lines[0]) <= PIDS, f"a fork bomb was stopped at {lines[0]} of {PIDS}")


async def egress(runtime: Runtime, image: str, addresses: Collection[str], resolvers: Collection[str]) -> Check:
    """What a workload reaches whose egress is public: nothing that is not the internet's, nor this machine.

    `addresses` are this machine's; `resolvers` what is dialled to see whether the world is there at all.
    """
    with socket.create_server(("", 0)) as listener:
        port = listener.getsockname()[1]
        hosts = [one for one in addresses if not one.startswith("127.")]
        places = [*(f"{host}:{port}" for host in (*hosts, "127.0.0.1"))]
        places += [f"{host}:{one}" for host in PRIVATE for one in PORTS]
        public = [f"{host}:{PORTS[0]}" for host in resolvers]
        code, lines = await _run(runtime, image, CURIOUS, *places, *public)
    if code or not lines:
        raise Refused("runtime.survey", f"a program that dials ended with {code}: {' '.join(lines)[:200]}")
    reached = [line.removeprefix("reached ") for line in lines if line.startswith("reached ")]
    wrong = [one for one in reached if one not in public]
    if wrong:
        return _check("egress", False, f"reached {', '.join(wrong)}, which is not public")
    world = f"public: {', '.join(reached)}" if reached else f"no resolver answered ({', '.join(resolvers)})"
    return _check("egress", True, f"{world}; none of {len(places)} that are not public")


async def _network(runtime: Runtime, image: str) -> Check:
    """What is not the internet's, and a port that is open on this machine, as a connection from here shows."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 1).close()
        places = [f"127.0.0.1:{port}", *(f"{host}:{port}" for host in PRIVATE for port in PORTS)]
        code, lines = await _run(runtime, image, CURIOUS, *places)
    if code or not lines:
        raise Refused("runtime.survey", f"a program that dials ended with {code}: {' '.join(lines)[:200]}")
    reached = [line.removeprefix("reached ") for line in lines if line.startswith("reached ")]
    interfaces = lines[-1].removeprefix("interfaces ")
    seen = f"reached {', '.join(reached)}" if reached else f"none of {len(places)} reached, over {interfaces}"
    return _check("private addresses", not reached, seen)
