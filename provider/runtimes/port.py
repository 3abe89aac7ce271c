"""The port between a provider and whatever runs its workloads.

A runtime keeps no state that matters in memory: `list` finds every workload again after the provider was killed.
A runtime refuses what it cannot isolate; it never runs a workload with less than `probe` promised.
"""

from __future__ import annotations

import enum
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NewType, Protocol

import trio

from fondaco.protocol import limits
from fondaco.protocol.channel_exec import WindowSize
from fondaco.protocol.errors import Refused
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.scalars import LeaseId, Millis
from fondaco.provider.images.registries import Login
from fondaco.provider.runtimes import bounds

Report = Callable[[int, int], None]
"""Hears how many bytes of an image are here, and how many there are."""
WorkloadId = NewType("WorkloadId", str)
"""`<lease, 64 hex digits>.<service>.<replica>`: safe as a file name, sorts by lease."""

_SERVICE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_WORKLOAD = re.compile(r"([0-9a-f]{64})\.([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\.(\d{1,3})")


def quiet(done: int, total: int) -> None:
    """A `Report` for whom it does not interest."""


def workload_id(lease: LeaseId, service: str, replica: int = 0) -> WorkloadId:
    """The id of one replica of a lease's service.  Raises `Refused` for a name that is no DNS label."""
    if _SERVICE.fullmatch(service) is None:
        raise Refused("workload.name", f"service name {service!r} is not a lower-case DNS label")
    if not 0 <= replica < limits.REPLICAS:
        raise Refused("workload.replica", f"replica {replica} is not in 0..{limits.REPLICAS - 1}")
    return WorkloadId(f"{lease.hex()}.{service}.{replica}")


def parse_workload_id(text: str) -> tuple[LeaseId, str, int] | None:
    """The lease, service and replica named by `text`, or None if it names no workload."""
    match = _WORKLOAD.fullmatch(text)
    return None if match is None else (LeaseId(bytes.fromhex(match[1])), match[2], int(match[3]))


class VolumeKind(enum.StrEnum):
    DISK = "disk"
    RAM = "ram"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    """A volume of the workload's service."""

    name: str
    path: str
    """Where the workload sees it: absolute."""
    size_bytes: int
    kind: VolumeKind = VolumeKind.DISK
    persistent: bool = False
    """Kept when the workload stops, until the lease's volumes are removed; never with RAM."""
    storage_class: str = ""
    """That was leased: `beta2`; empty where the order names none."""
    read_only: bool = False


class Transport(enum.StrEnum):
    TCP = "TCP"
    UDP = "UDP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A port of another service of the lease that a workload may reach, as `service:port`: it, and no other."""

    service: str
    """Its name is what the workload dials."""
    port: int
    """That the workload dials: as the service is exposed to others."""
    target_port: int
    """That the service's replicas listen on."""
    transport: Transport = Transport.TCP


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSpec:
    """One replica of a service, ready to be started."""

    lease: LeaseId
    service: str
    replica: int = 0
    image: str
    """A reference, as `provider.images.references` reads it."""
    login: Login | None = None
    """The tenant's, at the image's registry."""
    command: tuple[str, ...] = ()
    """Replaces the image's entrypoint AND its command, as in Kubernetes; empty keeps them."""
    args: tuple[str, ...] = ()
    """Replaces the image's command; empty keeps it, unless `command` is given."""
    env: tuple[str, ...] = field(default=(), repr=False)
    """`NAME=value`; later ones and these win over the image's."""
    working_dir: str = ""
    """Absolute; empty takes the image's."""
    cpu_milli: int
    memory_bytes: int
    pids: int = bounds.WORKLOAD_PIDS
    gpu_units: int = 0
    gpu_models: tuple[GpuModel, ...] = ()
    """Any one of them will do."""
    ephemeral_bytes: int = 0
    """What it may write outside of volumes, and its largest file; 0 sets no limit."""
    volumes: tuple[VolumeMount, ...] = ()
    read_only_root: bool = False
    links: tuple[Link, ...] = ()
    """Services of the lease that it may reach; no others, and nobody but those who link to it reach it."""
    linked_from: tuple[tuple[str, Link], ...] = ()
    """The other way round: services that may reach it, each with the link to it that they have."""
    definition: str = ""
    """Of what the manifest says of its service, a hash: another one means that it must be started anew."""

    @property
    def id(self) -> WorkloadId:
        return workload_id(self.lease, self.service, self.replica)


AWAY = "runtime.away"
"""Code of `Unreachable`: what runs workloads does not answer, or does not let us in. They may run as before."""
KILLED = 137
"""The exit code of what SIGKILL ended: for its memory, mostly."""
NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts")
"""Of a workload's own, as /proc names them."""


class State(enum.StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"
    LOST = "lost"
    """Gone without an exit code: the machine restarted, or its shim was killed."""


class Reason(enum.StrEnum):
    """Why a workload was made to end, where it was not asked to."""

    MEMORY = "out of memory"
    DISK = "out of disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is known of a workload now."""

    id: WorkloadId
    state: State
    pid: int | None
    """Of its first process as the host sees it; None unless running, and where it runs on another machine."""
    exit_code: int | None
    """Set when exited: 0..255, or 128 plus the signal that killed it."""
    started_at: Millis | None
    definition: str
    """As its specification had it; empty if that is not known."""
    reason: Reason | None = None
    """Why it was killed, if it was and that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What `probe` found to hold by running a sandbox, not by looking at versions."""

    backend: str
    """`bubblewrap` or `crun`, `podman`, `docker`, `kubernetes`."""
    version: str
    namespaces: tuple[str, ...]
    """Those seen to differ from the host's: user, pid, mnt, net, ipc, uts."""
    seccomp: bool
    no_capabilities: bool
    no_new_privileges: bool
    nested_namespaces_refused: bool
    """A workload that asks for a user namespace of its own is told EPERM."""
    writable_root: bool
    """True: an overlay over the image; False: the image is read-only and only /tmp, /run and volumes are not."""
    hard_limits: tuple[str, ...]
    """Of cpu, memory, pids: those the kernel enforces on the workload as a whole."""
    limits_note: str
    """Empty, or why some limits are missing and what holds instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """How an image wants to be run."""

    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: tuple[str, ...]
    working_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that is here, verified and unpacked."""

    digest: str
    """`sha256:...` of its manifest."""
    config: ImageConfig
    rootfs: str
    """Absolute path of the unpacked files: shared by all workloads, never written to."""


class Channel(enum.StrEnum):
    OUT = "out"
    ERR = "err"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    at: Millis
    channel: Channel
    text: str
    partial: bool = False
    """The line goes on in the next one of the same channel: it was too long, or the workload ended within it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is run inside a workload beside what it runs itself."""

    argv: tuple[bytes, ...]
    """The first is looked up in the workload's PATH."""
    env: tuple[bytes, ...] = field(default=(), repr=False)
    """`NAME=value`; wins over the workload's."""
    terminal: WindowSize | None = None
    """None: pipes, and output and errors come apart."""


class Execution(Protocol):
    """A command under way.  Nothing is kept of it: pipes and terminals hold either side to the other's pace."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Those that output comes on: one if it has a terminal."""
        ...

    async def send(self, data: bytes) -> None:
        """To its standard input, at its pace; what it does not want any more is dropped."""
        ...

    async def end_input(self) -> None: ...

    async def signal(self, number: int) -> None:
        """To its process group."""
        ...

    def resize(self, size: WindowSize) -> None: ...

    async def receive(self, channel: Channel) -> bytes:
        """The next output; empty once it has ended."""
        ...

    async def wait(self) -> int:
        """Its exit code once it has ended: 0..255, or 128 plus the signal that killed it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    exit_code: int
    out: bytes
    err: bytes
    truncated: bool
    """More than `bounds.WORKLOAD_EXEC_OUTPUT_BYTES` of a stream came; the rest was dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    cpu_ms: int
    """Processor time used by the processes alive now, and by those that they have waited for."""
    memory_bytes: int
    """Resident memory; shared pages count once for each process."""
    processes: int
    network: tuple[int, int] | None = None
    """Bytes received and sent over its own interfaces; None if it has none but loopback."""


class Runtime(Protocol):
    """What every runtime does.  All methods raise `Refused` with codes `runtime.*`, `image.*`, `workload.*`.

    `prepare` and `start` raise `Unreachable` `image.unreachable` too, where a registry does not answer. All but
    `wait` raise `Unreachable` `AWAY` where what runs workloads does not answer: nothing is known then of how they
    are, and nobody may act as if they had ended. `wait` goes on waiting.
    """

    async def probe(self) -> Capability:
        """Run a sandbox and say what holds; `runtime.unavailable` if the isolation asked for does not."""
        ...

    async def prepare(self, reference: str, *, login: Login | None = None, report: Report = quiet) -> Image:
        """Have the image here, as it is named now, verified and unpacked; cheap when it already is."""
        ...

    async def start(self, spec: WorkloadSpec) -> Workload:
        """Start it and return once it runs; `workload.exists` if one of that id was not stopped yet.

        Of the image that `prepare` found last, so that all replicas and restarts are of the same one.
        """
        ...

    async def link(self, specs: Sequence[WorkloadSpec]) -> None:
        """Let all workloads of one lease reach what their specifications link them to, from now on, and no more.

        `specs` are all replicas of the lease. Those that run are linked anew, without being started again; those
        that do not yet, as they start. Called whenever a lease is brought up, taken over or updated, before
        anything of it is started; calling it again changes nothing.
        """
        ...

    def execute(self, workload: WorkloadId, command: Command) -> AbstractAsyncContextManager[Execution]:
        """Run a command inside it, confined as it is; leaving the block kills the command's whole session.

        Entering raises `workload.gone` or `workload.exec`. A program that is not there is exit code 127.
        """
        ...

    async def exec(self, workload: WorkloadId, argv: Sequence[str], *, timeout_ms: int = 30_000) -> ExecResult:
        """Run a command inside it to its end, without input; `workload.timeout` if that takes longer."""
        ...

    def logs(
        self, workload: WorkloadId, *, tail: int | None = None, follow: bool = False, previous: bool = False
    ) -> AsyncIterator[LogLine]:
        """Its log since its last start, oldest first: the last `tail` lines or all kept; `follow` goes on until it
        ends.  `previous`: that of the run before, or `logs.no_previous` where there was none.
        """
        ...

    async def stats(self, workload: WorkloadId) -> Stats: ...

    async def dial(self, workload: WorkloadId, port: int) -> trio.abc.HalfCloseableStream:
        """Connect to 127.0.0.1:`port` as seen inside it; `workload.dial` if nothing listens there."""
        ...

    async def wait(self, workload: WorkloadId) -> Workload:
        """Return once it no longer runs."""
        ...

    async def pause(self, workload: WorkloadId) -> None:
        """Hold it still with all it has; one that does not run, or is held, is no error.

        Raises `Refused` `runtime.pause` where that cannot be done.
        """
        ...

    async def resume(self, workload: WorkloadId) -> None:
        """Set it going again where it was; one that is not held is no error."""
        ...

    async def stop(self, workload: WorkloadId, *, grace_ms: int = 2_000) -> Workload | None:
        """Ask it to end, then make it; remove all it had but its log and persistent volumes.

        Returns how it ended, or None if there was no such workload: stopping twice is no error.
        """
        ...

    async def list(self) -> tuple[Workload, ...]:
        """Every workload that was started and not stopped, also those of an earlier run of the provider."""
        ...

    async def release(self, lease: LeaseId) -> None:
        """The lease is over, and all its workloads were stopped: remove what only they want, but logs."""
        ...

    async def aclose(self) -> None:
        """Let go of helpers; workloads go on."""
        ...


class KeepingRuntime(Runtime, Protocol):
    """What a provider's host needs besides: what is kept of workloads, and what must go on as long as it does."""

    def kept(self) -> tuple[WorkloadId, ...]:
        """Workloads that have output on the disk, whether they run or not."""
        ...

    async def forget(self, workload: WorkloadId) -> None:
        """Remove all that is left of a workload that was stopped; `workload.running` if it was not."""
        ...

    async def watch(self) -> None:
        """Do what has to be done all the time; returns only when cancelled."""
        ...
