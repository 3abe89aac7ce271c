"""What holds in a cluster, found out by running pods in it: two that look around, and one that wants too much.

The first listens; the second, in another lease's namespace, tries to reach it. That both have namespaces of their
own, and that they cannot reach each other, is what tenants are promised of each other.
"""

from __future__ import annotations

import secrets
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

import trio

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.images.registries import Login
from fondaco.provider.runtimes.kubernetes import forward, objects, output
from fondaco.provider.runtimes.kubernetes.cluster import Cluster
from fondaco.provider.runtimes.kubernetes.names import namespace_of, place_of
from fondaco.provider.runtimes.kubernetes.pods import pod
from fondaco.provider.runtimes.kubernetes.shape import Shape, Users
from fondaco.provider.runtimes.port import (
    KILLED,
    NAMESPACES,
    Capability,
    Reason,
    Workload,
    WorkloadId,
    WorkloadSpec,
)
from fondaco.provider.together import run_all

MEMORY_BYTES = 32 * MIB
PORT = 8_080
PATIENCE_S = 60.0
WHOLE = "4294967295"
"""Users that a process outside of any user namespace of its own sees."""
LOOK = r"""
for one in user pid mnt net ipc uts; do echo "ns-$one $(readlink /proc/self/ns/$one)"; done
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d ':'
echo users $(head -n 1 /proc/self/uid_map)
if unshare -U true 2>/dev/null; then echo nested allowed; else echo nested refused; fi
if touch /fondaco-probe 2>/dev/null; then echo root writable; fi
echo pids $(cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null | head -n 1)
echo cpu $(cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null | head -n 1)
"""
LISTEN = LOOK + f"echo told all\nexec httpd -f -p {PORT} -h /tmp\n"
REACH = LOOK + (
    f"ask() {{ printf 'GET /none HTTP/1.0\\r\\n\\r\\n' | nc -w 3 \"$1\" {PORT} 2>/dev/null | grep -q ' 404 '; }}\n"
    f"httpd -p {PORT} -h /tmp\n"
    "for one in 1 2 3 4 5; do if ask 127.0.0.1; then echo self reached; break; fi; sleep 1; done\n"
    "for one in 1 2 3; do if ask $0; then found=reached; else found=closed; break; fi; sleep 2; done\n"
    "echo peer $found\n"
    "echo told all\n"
)
"""It reaches itself in the way it tries to reach the other: that it cannot means that it is kept from it."""
GREEDY = ("dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1")


@dataclass(slots=True)
class Seen:
    """What a pod said of itself, by word."""

    facts: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        return self.facts.get(name, "")


async def probe(cluster: Cluster, shape: Shape, image: str, login: Login | None) -> Capability:
    """Run the pods, and remove them.  Raises `Refused` `runtime.unavailable` for what does not hold."""
    leases = [LeaseId(secrets.token_bytes(32)) for _ in range(2)]
    trial = _Trial(cluster, shape, image, login)
    try:
        listener = await trial.start(leases[0], "listener", ("sh", "-c", LISTEN))
        first = await trial.hear(listener)
        await trial.reached(listener)
        found = await cluster.find(listener.id)
        address = str(((found or {}).get("status") or {}).get("podIP", ""))
        other = await trial.start(leases[1], "neighbour", ("sh", "-c", REACH, address))
        second = await trial.hear(other)
        greedy = await trial.start(leases[1], "greedy", GREEDY)
        with trio.move_on_after(PATIENCE_S):
            greedy = await cluster.ended(greedy.id)
    finally:
        with trio.CancelScope(shield=True):
            await trial.remove(leases)
    killed = greedy.exit_code == KILLED and greedy.reason is Reason.MEMORY
    return judge(await cluster.version(), shape, first, second, killed=killed)


@dataclass(frozen=True, slots=True)
class _Trial:
    cluster: Cluster
    shape: Shape
    image: str
    login: Login | None
    made: list[WorkloadId] = field(default_factory=list)

    async def remove(self, leases: list[LeaseId]) -> None:
        await run_all(partial(self.cluster.remove, one, grace_ms=0) for one in self.made)
        await run_all(
            partial(self.cluster.remove_namespace, namespace_of(lease), self.shape.provider) for lease in leases
        )

    async def start(self, lease: LeaseId, service: str, command: tuple[str, ...]) -> Workload:
        spec = WorkloadSpec(
            lease=lease,
            service=service,
            image=self.image,
            command=command,
            cpu_milli=200,
            memory_bytes=MEMORY_BYTES,
            ephemeral_bytes=16 * MIB,
        )
        await self.cluster.lay_ground((spec,) * 2, self.shape)
        if self.login is not None:
            await self.cluster.apply(objects.pull_secret(lease, self.login, self.shape))
        made = await self.cluster.create(pod(spec, self.image, self.login, self.shape))
        assert made is not None, "nobody else knows this lease"
        self.made.append(spec.id)
        return await self.cluster.started(made)

    async def hear(self, workload: Workload) -> Seen:
        """Its words until it has said all."""
        seen = Seen()
        with trio.move_on_after(PATIENCE_S):
            async with aclosing(output.follow(self.cluster.api, *place_of(workload.id), tail=None)) as found:
                async for line in found:
                    word, _, rest = line.text.replace("\t", " ").partition(" ")
                    seen.facts[word] = rest.strip()
                    if word == "told":
                        return seen
        raise Refused(
            "runtime.unavailable",
            "the probe's image did not tell what it sees",
            hint="kubernetes_probe_image must have the programs of busybox",
        )

    async def reached(self, workload: Workload) -> None:
        """We reach the listener, so that who does not is kept from it."""
        with trio.move_on_after(PATIENCE_S):
            while True:
                try:
                    stream = await forward.dial(self.cluster.api, *place_of(workload.id), PORT)
                except Refused as error:
                    if error.code != "workload.dial":
                        raise
                    await trio.sleep(0.2)
                    continue
                await trio.aclose_forcefully(stream)
                return
        raise Refused("runtime.unavailable", "nothing inside of a pod can be reached through the API server")


def judge(version: str, shape: Shape, first: Seen, second: Seen, *, killed: bool) -> Capability:
    """Raises `Refused` `runtime.unavailable`."""
    users = first.get("users").split()
    own = [
        kind
        for kind in NAMESPACES
        if first.get(f"ns-{kind}") and first.get(f"ns-{kind}") != second.get(f"ns-{kind}")
    ]
    if users[2:] == [WHOLE] and "user" in own:
        own.remove("user")
    hard = {
        "cpu": first.get("cpu").split()[:1] not in ([], ["max"], ["-1"]),
        "memory": killed,
        "pids": first.get("pids").isdigit(),
    }
    capability = Capability(
        backend="kubernetes",
        version=version,
        namespaces=tuple(own),
        seccomp=first.get("Seccomp") == "2",
        no_capabilities=set(first.get("CapEff") + first.get("CapBnd")) == {"0"},
        no_new_privileges=first.get("NoNewPrivs") == "1",
        nested_namespaces_refused=first.get("nested") == "refused",
        writable_root=first.get("root") == "writable",
        hard_limits=tuple(name for name, holds in hard.items() if holds),
        limits_note=""
        if hard["pids"]
        else "no limit on processes is seen from inside: set podPidsLimit of each kubelet",
    )
    wrong = _lacking(capability, shape, second)
    if wrong:
        raise Refused("runtime.unavailable", f"in this cluster {'; '.join(wrong)}", hint="see use-kubernetes.md")
    return capability


def _lacking(found: Capability, shape: Shape, second: Seen) -> list[str]:
    expected = [kind for kind in NAMESPACES if kind != "user" or shape.users is Users.NAMESPACED]
    missing = [kind for kind in expected if kind not in found.namespaces]
    claims = {
        f"pods have no namespaces of their own for {', '.join(missing)}": not missing,
        "there is no system call filter": found.seccomp and found.nested_namespaces_refused,
        "pods have capabilities": found.no_capabilities,
        "pods may gain privileges": found.no_new_privileges,
        "memory is not limited": "memory" in found.hard_limits,
        "the probe's own programs do not work": second.get("self") == "reached",
        "network policies are not enforced: a pod reached another lease's": second.get("peer") == "closed",
    }
    return [claim for claim, holds in claims.items() if not holds]
