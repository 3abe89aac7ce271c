"""The runtime of a provider that has a cluster: workloads are pods, and nothing is remembered outside it.

Below its home lie only `provider`, by whose word it knows its own pods, and `logs/<workload>/`, what pods said
that have been removed.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

import trio

from fondaco.protocol.errors import FondacoError, Refused
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.images.pulling import resolve
from fondaco.provider.images.references import parse_reference
from fondaco.provider.images.registries import Login, Registries
from fondaco.provider.runtimes.commands import to_end
from fondaco.provider.runtimes.kubernetes import executing, forward, objects, output, state, usage
from fondaco.provider.runtimes.kubernetes.cluster import Cluster
from fondaco.provider.runtimes.kubernetes.names import namespace_of, place_of
from fondaco.provider.runtimes.kubernetes.pods import pod
from fondaco.provider.runtimes.kubernetes.probing import probe
from fondaco.provider.runtimes.kubernetes.shape import Shape
from fondaco.provider.runtimes.logs import PREVIOUS, LogReader, begin_run
from fondaco.provider.runtimes.port import (
    Capability,
    Command,
    ExecResult,
    Execution,
    Image,
    ImageConfig,
    LogLine,
    Report,
    State,
    Stats,
    Workload,
    WorkloadId,
    WorkloadSpec,
    parse_workload_id,
    quiet,
)
from fondaco.provider.runtimes.unpack import remove_tree

log = logging.getLogger("fondaco.provider")
ENDED = (State.EXITED, State.LOST)
SETTLE_S = 10.0
"""For the rest of a log, when its pod has ended."""


class KubernetesRuntime:
    """Runs workloads in the cluster that `cluster` is. Implements `port.KeepingRuntime`."""

    def __init__(
        self, home: Path, cluster: Cluster, registries: Registries, shape: Shape, *, probe_image: str
    ) -> None:
        self._home = home.absolute()
        self.cluster = cluster
        self._registries = registries
        self._probe_image = probe_image
        self._images: dict[tuple[str, Login | None], str] = {}
        """By digest, as they were prepared last."""
        self._locks: WeakValueDictionary[LeaseId, trio.Lock] = WeakValueDictionary()
        (self._home / "logs").mkdir(parents=True, exist_ok=True)
        self._home.chmod(0o700)
        self._shape = replace(shape, provider=_own_name(self._home / "provider"))
        self._capability: Capability | None = None

    async def probe(self) -> Capability:
        """Run pods and say what holds.  Raises `Refused` `runtime.unavailable` and `runtime.kubernetes`."""
        self._shape = await self.cluster.suited(self._shape)
        image, login = await self._image(self._probe_image, None)
        self._capability = await probe(self.cluster, self._shape, image, login)
        return self._capability

    async def trust(self, capability: Capability) -> None:
        """Take what another run of the same cluster found, instead of a probe."""
        self._shape = await self.cluster.suited(self._shape)
        self._capability = capability

    async def prepare(self, reference: str, *, login: Login | None = None, report: Report = quiet) -> Image:
        """Find out which image is meant, and whether it may be had: nodes pull it, by its digest."""
        found = await resolve(self._registries, parse_reference(reference), login)
        self._images[reference, login] = found
        config = ImageConfig(entrypoint=(), cmd=(), env=(), working_dir="")
        return Image(digest=found, config=config, rootfs="")

    async def link(self, specs: Sequence[WorkloadSpec]) -> None:
        """Make the lease's namespace, and what says who reaches whom in it."""
        if specs:
            async with self._lock(specs[0].lease):
                await self.cluster.lay_ground(specs, await self._suited())

    async def start(self, spec: WorkloadSpec) -> Workload:
        """Start it; `runtime.start` if the cluster cannot, `image.pull`, `workload.exists`."""
        image, login = await self._image(spec.image, spec.login)
        shape = await self._suited()
        wanted = pod(spec, image, login, shape)
        async with self._lock(spec.lease):
            if await self.cluster.find(spec.id) is not None:
                raise _exists(spec.id)
            if not await self.cluster.has_ground(spec.lease):
                await self.cluster.lay_ground((spec,), shape)
            if login is not None:
                await self.cluster.apply(objects.pull_secret(spec.lease, login, shape))
            for volume in spec.volumes:
                if volume.persistent:
                    await self.cluster.ensure(objects.claim(spec, volume, shape))
            directory = self._logs(spec.id)
            directory.mkdir(mode=0o700, exist_ok=True)
            made = await self.cluster.create(wanted)
            if made is None:
                raise _exists(spec.id)
            await trio.to_thread.run_sync(begin_run, directory)
        try:
            return await self.cluster.started(made)
        except Refused:
            with trio.CancelScope(shield=True):
                await self.cluster.remove(spec.id, grace_ms=0)
            raise

    def execute(self, workload: WorkloadId, command: Command) -> AbstractAsyncContextManager[Execution]:
        return executing.executing(self.cluster.api, *place_of(workload), command)

    async def exec(self, workload: WorkloadId, argv: Sequence[str], *, timeout_ms: int = 30_000) -> ExecResult:
        return await to_end(self.execute, workload, argv, timeout_ms)

    def logs(
        self, workload: WorkloadId, *, tail: int | None = None, follow: bool = False, previous: bool = False
    ) -> AsyncIterator[LogLine]:
        """All of it on one channel; after it was stopped, what was kept."""
        place_of(workload)
        directory = self._logs(workload)
        if not directory.is_dir():
            raise Refused("workload.unknown", f"there is no log of workload {workload}")
        if not previous:
            return self._lines(workload, directory, tail, follow)
        if not (directory / PREVIOUS).is_dir():
            raise Refused("logs.no_previous", "it was not started again, or said nothing before")
        return LogReader(directory / PREVIOUS, tail=tail, follow=False, running=lambda: False)

    async def _lines(
        self, workload: WorkloadId, directory: Path, tail: int | None, follow: bool
    ) -> AsyncGenerator[LogLine, None]:
        place = place_of(workload)
        if await self.cluster.find(workload) is None:
            async for kept in LogReader(directory, tail=tail, follow=False, running=lambda: False):
                yield kept
        elif follow:
            async with aclosing(output.follow(self.cluster.api, *place, tail=tail)) as followed:
                async for line in followed:
                    yield line
        else:
            async with aclosing(output.read(self.cluster.api, *place, tail=tail)) as found:
                async for _, line in found:
                    yield line

    async def stats(self, workload: WorkloadId) -> Stats:
        """As its own control group and interfaces have it; `runtime.stats` for an image that cannot show them."""
        await self._running(workload)
        return await usage.stats(self.cluster.api, *place_of(workload))

    async def dial(self, workload: WorkloadId, port: int) -> trio.abc.HalfCloseableStream:
        await self._running(workload)
        return await forward.dial(self.cluster.api, *place_of(workload), port)

    async def wait(self, workload: WorkloadId) -> Workload:
        """Return once it no longer runs; `workload.unknown` if there is none."""
        return await self.cluster.ended(workload)

    async def pause(self, workload: WorkloadId) -> None:
        raise Refused("runtime.pause", "a cluster cannot hold pods still: they go on until their lease ends")

    async def resume(self, workload: WorkloadId) -> None:
        await trio.lowlevel.checkpoint()

    async def stop(self, workload: WorkloadId, *, grace_ms: int = 2_000) -> Workload | None:
        namespace, name = place_of(workload)
        if await self.cluster.find(workload) is None:
            return None
        keeper = output.Keeper(self._logs(workload) / "log")
        last: Workload | None = None
        failed: FondacoError | None = None
        with trio.CancelScope(shield=True):  # half a teardown would leave a workload nobody pays for
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keeper.take, self.cluster.api, namespace, name)
                await keeper.begun.wait()
                try:
                    last = await self.cluster.remove(workload, grace_ms=grace_ms)
                except FondacoError as error:  # by itself, and not in a group
                    failed = error
                nursery.cancel_scope.deadline = trio.current_time() + (0 if failed else SETTLE_S)
            if failed is not None:
                raise failed
            await keeper.write()
        return last

    async def list(self) -> tuple[Workload, ...]:
        found = (state.read(one) for one in await self.cluster.pods(self._shape.provider))
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.id))

    async def release(self, lease: LeaseId) -> None:
        """Remove the lease's namespace and all in it, volumes too; return when it is gone."""
        async with self._lock(lease):
            await self.cluster.remove_namespace(namespace_of(lease), self._shape.provider)

    def kept(self) -> tuple[WorkloadId, ...]:
        names = sorted(path.name for path in (self._home / "logs").iterdir())
        return tuple(WorkloadId(name) for name in names if parse_workload_id(name) is not None)

    async def forget(self, workload: WorkloadId) -> None:
        """Remove its log; with that of a lease's last workload its namespace, should a crash have left it."""
        if await self.cluster.find(workload) is not None:
            raise Refused("workload.running", f"workload {workload} was not stopped")
        parsed = parse_workload_id(workload)
        assert parsed is not None, "what names no workload was not found"
        await trio.to_thread.run_sync(remove_tree, self._logs(workload))
        if not any(other.startswith(parsed[0].hex()) for other in self.kept()):
            await self.release(parsed[0])

    async def watch(self) -> None:
        """The cluster does all there is to do: it evicts what takes more disk than it may."""
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await self.cluster.api.aclose()

    # --- Small things

    async def _image(self, reference: str, login: Login | None) -> tuple[str, Login | None]:
        """By digest, and whose login opens it: the tenant's or the operator's."""
        if (reference, login) not in self._images:
            await self.prepare(reference, login=login)
        named = parse_reference(reference)
        return f"{named.name}@{self._images[reference, login]}", self._registries.login_for(named, login)

    async def _suited(self) -> Shape:
        if self._capability is None:
            await self.probe()
        return self._shape

    async def _running(self, workload: WorkloadId) -> None:
        found = await self.cluster.find(workload)
        told = None if found is None else state.read(found)
        if told is None or told.state is not State.RUNNING:
            raise Refused("workload.gone", f"workload {workload} does not run", hint="look at its status")

    def _logs(self, workload: WorkloadId) -> Path:
        return self._home / "logs" / workload

    def _lock(self, lease: LeaseId) -> trio.Lock:
        lock = self._locks.get(lease)
        if lock is None:
            lock = self._locks[lease] = trio.Lock()
        return lock


def _exists(workload: WorkloadId) -> Refused:
    return Refused("workload.exists", f"workload {workload} exists", hint="stop it first")


def _own_name(path: Path) -> str:
    """What this provider's pods are known by, made once: two providers may well have homes of the same name."""
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        name = secrets.token_hex(8)
        partial = path.with_suffix(".new")
        partial.write_text(name + "\n", "ascii")
        partial.replace(path)
        return name
