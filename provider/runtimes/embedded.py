"""The embedded runtime: sandboxes by crun or bubblewrap, no service and no root needed.

Below its home:

    images/<key>/                  unpacked images, shared and never written to: see `images.cache`
    run/<workload>/                recipe, image, state and scratch of one workload; removed when it is stopped
    links/<lease>/                 of what links its services: see `linking`
    logs/<workload>/               its log, kept until `forget`
    volumes/<workload>.<volume>/   disk volumes

Nothing else is remembered: `run/` is the truth, and each workload's shim (see `shim`) holds a lock there as long
as it lives. A runtime that starts over the same home therefore finds everything the one before it left.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.images.cache import ImageCache
from fondaco.provider.images.registries import Login
from fondaco.provider.runtimes import bounds, cgroups, disk, freezing, lifecycle, processes
from fondaco.provider.runtimes.cgroups import Cgroups
from fondaco.provider.runtimes.commands import EnteredCommand, running_inside, to_end
from fondaco.provider.runtimes.dialer import Dialer
from fondaco.provider.runtimes.disk import Ceiling, Target
from fondaco.provider.runtimes.launch import Backend, Launch, sandbox_uid, without_gpus
from fondaco.provider.runtimes.linking import Linking
from fondaco.provider.runtimes.logs import PREVIOUS, LogReader
from fondaco.provider.runtimes.network import NO_EGRESS, Egress
from fondaco.provider.runtimes.oci import ImageSource, ImageStore
from fondaco.provider.runtimes.port import (
    Capability,
    Command,
    ExecResult,
    Execution,
    Image,
    LogLine,
    Reason,
    Report,
    State,
    Stats,
    Workload,
    WorkloadId,
    WorkloadSpec,
    parse_workload_id,
    quiet,
)
from fondaco.provider.runtimes.probe import choose_backend, image_of, probe, trial
from fondaco.provider.runtimes.processes import Process
from fondaco.provider.runtimes.unpack import remove_tree

EGRESS_HINT = 'see what pasta needs in docs/how-to/let-workloads-reach-the-world.md, or set egress = "none"'


def open_cache(home: Path, cap_bytes: int) -> ImageCache:
    """The images of the runtime at `home`, which may run or not."""
    return ImageCache(home / "images", cap_bytes=cap_bytes, in_use=lambda: lifecycle.images_of(home / "run"))


class EmbeddedRuntime:
    """Runs workloads below `home`, from images that `sources` have.  Implements `port.Runtime`."""

    def __init__(
        self,
        home: Path,
        sources: Sequence[ImageSource],
        *,
        backend: Backend | None = None,
        image_cache_bytes: int = bounds.IMAGE_CACHE_BYTES,
        egress: Egress = NO_EGRESS,
    ) -> None:
        self._home = home.absolute()
        self._linking = Linking(self._home, egress)
        self._backend = backend
        self._capability: Capability | None = None
        self._groups: Cgroups | None = None
        self._uid = sandbox_uid()
        cache = open_cache(self._home, image_cache_bytes)
        self._images = ImageStore(self._home / "images", sources, owner=self._uid, cache=cache)
        self._dialer = Dialer()
        self._commands: dict[WorkloadId, set[EnteredCommand]] = {}
        """Under way: no descendants of the workload's first process, and yet part of it."""
        for name in ("run", "logs", "volumes"):
            (self._home / name).mkdir(parents=True, exist_ok=True)
        self._home.chmod(0o700)

    async def probe(self) -> Capability:
        """Run a sandbox and say what holds.  Raises `Refused` `runtime.unavailable`."""
        backends = choose_backend() if self._backend is None else [self._backend]
        groups, reason = cgroups.find(self._home)
        self._backend, self._capability = await probe(backends, self._home, self._uid, groups, reason)
        self._groups = groups if self._capability.hard_limits else None
        await self._try_egress()
        return self._capability

    async def prepare(self, reference: str, *, login: Login | None = None, report: Report = quiet) -> Image:
        return await self._images.prepare(reference, login=login, report=report)

    async def start(self, spec: WorkloadSpec) -> Workload:
        """Start it; `runtime.start` if the sandbox fails, `workload.exists` if it was not stopped."""
        if self._capability is None:
            await self.probe()
        async with self._images.held(spec.image, spec.login) as image:
            return await self._run(spec, image)

    async def _run(self, spec: WorkloadSpec, image: Image, *, init: bool = True) -> Workload:
        """Start it, linked. Without `init` no first process is wanted but its own."""
        assert self._capability is not None, "probe sets it or raises"
        assert self._backend is not None, "chosen by probe"
        without_gpus(spec)
        launch = Launch(
            spec=spec,
            image=image,
            run_dir=self._run_dir(spec.id),
            log_dir=self._home / "logs" / spec.id,
            volumes_dir=self._home / "volumes",
            uid=self._uid,
            overlay=self._capability.writable_root,
            counts_user=self._backend.counts_user,
            egress=self._linking.egress,
        )
        link = partial(self._linking.refresh, spec.lease, f"{spec.service}.{spec.replica}")
        try:
            started = await lifecycle.launch_workload(launch, self._backend, self._groups, link)
        except Refused:
            await self._relink(spec.id)
            raise
        await self._relink(spec.id)
        return started

    async def _try_egress(self) -> None:
        """Give a workload that only waits the way out that all are to have.  Raises `Refused` `runtime.egress`."""
        if not self._linking.egress.pasta:
            return
        top = self._home / f"probe-{secrets.token_hex(4)}"
        try:
            image = await trio.to_thread.run_sync(image_of, top / "image", self._uid)
            spec = trial()
            await self._run(spec, image, init=False)
            await self._discard(spec.id)
        except Refused as error:
            message = f"egress is public, and does not work here: {error.message}"
            raise Refused("runtime.egress", message, hint=EGRESS_HINT) from None
        finally:
            await trio.to_thread.run_sync(remove_tree, top)

    async def _discard(self, workload: WorkloadId) -> None:
        with trio.CancelScope(shield=True):
            await self.stop(workload, grace_ms=0)
            await self.forget(workload)

    async def link(self, specs: Sequence[WorkloadSpec]) -> None:
        """Services of one lease reach each other as their specifications say; `runtime.links` if they cannot."""
        await self._linking.link(specs)

    @asynccontextmanager
    async def execute(self, workload: WorkloadId, command: Command) -> AsyncIterator[Execution]:
        """Run a command inside; `workload.gone` unless that runs."""
        async with running_inside(self._run_dir(workload), command) as execution:
            beside = self._commands.setdefault(workload, set())
            beside.add(execution)
            try:
                yield execution
            finally:
                beside.discard(execution)
                if not beside:
                    self._commands.pop(workload, None)

    async def exec(self, workload: WorkloadId, argv: Sequence[str], *, timeout_ms: int = 30_000) -> ExecResult:
        """Run a command inside to its end; `workload.timeout` if that takes longer than `timeout_ms`."""
        return await to_end(self.execute, workload, argv, timeout_ms)

    def logs(
        self, workload: WorkloadId, *, tail: int | None = None, follow: bool = False, previous: bool = False
    ) -> AsyncIterator[LogLine]:
        """Its log, also after it was stopped; `workload.unknown` if it never ran here, or `logs.no_previous`."""
        directory = self._home / "logs" / self._checked(workload)
        if not directory.is_dir():
            raise Refused("workload.unknown", f"there is no log of workload {workload}")
        if previous and not (directory / PREVIOUS).is_dir():
            raise Refused("logs.no_previous", "it was not started again, or said nothing before")
        if previous:
            return LogReader(directory / PREVIOUS, tail=tail, follow=False, running=lambda: False)

        def running() -> bool:
            return self._read(workload).state in (State.STARTING, State.RUNNING)

        return LogReader(directory, tail=tail, follow=follow, running=running)

    async def stats(self, workload: WorkloadId) -> Stats:
        first = self._alive(workload)
        beside = [child for one in self._commands.get(workload, ()) for child in processes.children(one.pid)]
        pids = {pid for start in (first.pid, *beside) for pid in processes.family(start)}
        usages = [usage for pid in pids if (usage := processes.usage(pid)) is not None]
        return Stats(
            cpu_ms=sum(cpu for cpu, _ in usages),
            memory_bytes=sum(memory for _, memory in usages),
            processes=len(usages),
            network=processes.network(first.pid),
        )

    async def dial(self, workload: WorkloadId, port: int) -> trio.SocketStream:
        return await self._dialer.dial(self._alive(workload), port)

    async def status(self, workload: WorkloadId) -> Workload:
        """How it is now; `workload.unknown` if it was never started or was stopped."""
        if not self._run_dir(workload).is_dir():
            raise Refused("workload.unknown", f"there is no workload {workload}")
        return self._read(workload)

    async def wait(self, workload: WorkloadId) -> Workload:
        await lifecycle.ended(self._run_dir(workload))
        return await self.status(workload)

    async def pause(self, workload: WorkloadId) -> None:
        first = lifecycle.first_process(self._run_dir(workload))
        if first is not None:
            await trio.to_thread.run_sync(freezing.freeze, first)

    async def resume(self, workload: WorkloadId) -> None:
        first = lifecycle.first_process(self._run_dir(workload))
        if first is not None and freezing.is_frozen(first):
            await trio.to_thread.run_sync(freezing.thaw, first)

    async def stop(self, workload: WorkloadId, *, grace_ms: int = 2_000) -> Workload | None:
        run_dir = self._run_dir(workload)
        if not run_dir.is_dir():
            return None
        with trio.CancelScope(shield=True):  # half a teardown would leave a workload nobody pays for
            await lifecycle.end(run_dir, grace_ms)
            last = self._read(workload)
            await trio.to_thread.run_sync(self._remove, workload)
            await self._relink(workload)
        return last

    async def _relink(self, workload: WorkloadId) -> None:
        """Others may reach it from now on, or not any more; with the last one of a lease, its linker goes."""
        named = parse_workload_id(workload)
        assert named is not None, "checked before"
        with contextlib.suppress(Refused):  # of others of the lease, and told to whoever starts them
            await self._linking.refresh(named[0])

    async def list(self) -> tuple[Workload, ...]:
        names = sorted(path.name for path in (self._home / "run").iterdir())
        return tuple(self._read(WorkloadId(name)) for name in names if parse_workload_id(name) is not None)

    async def release(self, lease: LeaseId) -> None:
        for path in (self._home / "volumes").glob(f"{lease.hex()}.*"):
            await trio.to_thread.run_sync(remove_tree, path)

    def kept(self) -> tuple[WorkloadId, ...]:
        """Workloads that have output on the disk, whether they run or not."""
        names = sorted(path.name for path in (self._home / "logs").iterdir())
        return tuple(WorkloadId(name) for name in names if parse_workload_id(name) is not None)

    async def forget(self, workload: WorkloadId) -> None:
        """Remove the log and the persistent volumes of a workload that was stopped."""
        if self._run_dir(workload).is_dir():
            raise Refused("workload.running", f"workload {workload} was not stopped")
        doomed = [self._home / "logs" / workload, *(self._home / "volumes").glob(f"{workload}.*")]
        for path in doomed:
            if path.is_dir():
                await trio.to_thread.run_sync(remove_tree, path)

    async def watch(self) -> None:
        """Kill workloads that take more disk than they were let, and keep leases linked.

        Returns only when cancelled.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(disk.watch, self._targets)
            nursery.start_soon(self._linking.watch)

    def _targets(self) -> tuple[Target, ...]:
        return tuple(
            self._target(run_dir, ceilings)
            for run_dir in (self._home / "run").iterdir()
            # In this order: once it runs, all about it is written down.
            if lifecycle.first_process(run_dir) is not None and (ceilings := lifecycle.ceilings(run_dir))
        )

    def _target(self, run_dir: Path, ceilings: tuple[Ceiling, ...]) -> Target:
        def pids() -> tuple[int, ...]:
            first = lifecycle.first_process(run_dir)
            return () if first is None else tuple(processes.family(first.pid))

        async def kill() -> None:
            await trio.to_thread.run_sync(lifecycle.kill, run_dir, Reason.DISK)

        return Target(id=run_dir.name, ceilings=ceilings, pids=pids, kill=kill)

    async def aclose(self) -> None:
        await self._dialer.aclose()

    def _checked(self, workload: WorkloadId) -> WorkloadId:
        if parse_workload_id(workload) is None:
            raise Refused("workload.unknown", f"{workload[:100]!r} names no workload")
        return workload

    def _run_dir(self, workload: WorkloadId) -> Path:
        return self._home / "run" / self._checked(workload)

    def _read(self, workload: WorkloadId) -> Workload:
        return lifecycle.read_workload(self._run_dir(workload), workload)

    def _alive(self, workload: WorkloadId) -> Process:
        """The workload's first process.  Raises `Refused` `workload.gone` unless it runs."""
        first = lifecycle.first_process(self._run_dir(workload))
        if first is None:
            raise Refused("workload.gone", f"workload {workload} does not run", hint="look at its status")
        return first

    def _remove(self, workload: WorkloadId) -> None:
        kept = {
            volume["name"]
            for volume in (lifecycle.read_json(self._run_dir(workload) / "volumes.json") or {}).get(
                "persistent", []
            )
        }
        prefix = f"{workload}."
        for path in (self._home / "volumes").glob(f"{prefix}*"):
            if path.name.removeprefix(prefix) not in kept:
                remove_tree(path)
        lifecycle.remove(self._run_dir(workload))
