"""Workloads as containers of an engine, podman or docker, driven over its own interface.

The engine starts, limits and ends them, and they outlive the provider. All else is done as for the embedded
runtime, from outside and by the same programs, over the same folders below the provider's home: images, volumes,
logs, commands, dialling. A container is named like its workload and bears the label of this home; it is there as
long as `run/<workload>` is.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import trio

from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import Millis
from fondaco.provider.runtimes import bounds, cgroups, lifecycle, network, probe, processes, seccomp
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.engine_client import EngineClient, Seen, until_back
from fondaco.provider.runtimes.launch import Launch, without_gpus
from fondaco.provider.runtimes.logs import LogReader
from fondaco.provider.runtimes.network import NO_EGRESS, Egress
from fondaco.provider.runtimes.oci import ImageSource
from fondaco.provider.runtimes.port import (
    KILLED,
    Capability,
    Image,
    LogLine,
    Reason,
    State,
    Workload,
    WorkloadId,
    WorkloadSpec,
    parse_workload_id,
)
from fondaco.provider.runtimes.shim import boot_id
from fondaco.provider.runtimes.unpack import remove_tree

LABEL = "fondaco.home"
LOG_FILES = "log*"
CONFIRM_S = 0.002


class EngineRuntime(EmbeddedRuntime):
    """Runs workloads below `home` by the engine that `client` speaks to.  Implements `port.Runtime`."""

    not_executed = ""
    """What the engine's init says in the log of a program that is not there."""

    def __init__(
        self,
        home: Path,
        sources: Sequence[ImageSource],
        client: EngineClient,
        *,
        image_cache_bytes: int,
        egress: Egress = NO_EGRESS,
    ) -> None:
        super().__init__(home, sources, image_cache_bytes=image_cache_bytes, egress=egress)
        self._client = client
        self._owner = self._uid
        """Who root of a container is outside, if that is not us."""
        self._label = f"{LABEL}={hashlib.sha256(str(self._home).encode()).hexdigest()[:12]}"

    # --- What engines differ in

    async def _suits(self) -> None:
        """Raises `Refused` `runtime.unavailable` where the engine says itself that it does not isolate."""

    async def _admit(self, image: Image) -> None:
        """Let the engine have an image."""

    def _fits(self, run_dir: Path, seen: Seen) -> None:
        """Raises `Refused` `runtime.unavailable` if what has to be done from outside cannot be."""

    def _recorded(self, launch: Launch, seen: Seen) -> None:
        """A container was started: note where the engine keeps what is of it."""

    def _keep_log(self, workload: str) -> None:
        """The container is going to be removed: keep what the engine has of its log."""

    async def leave(self) -> None:
        """The home goes: take from the engine what it keeps for it."""

    # --- All else

    async def probe(self) -> Capability:
        """Run containers and say what holds.

        Raises `Refused` `runtime.podman`, `runtime.docker` or `runtime.unavailable`, and `Unreachable` `AWAY`.
        """
        if not seccomp.machine():
            raise Refused("runtime.unavailable", f"no system call filter for {os.uname().machine}")
        version = await self._client.version()
        await self._suits()
        top = self._home / f"probe-{secrets.token_hex(4)}"
        try:
            image = await trio.to_thread.run_sync(probe.image_of, top / probe.image_key(), self._uid)
            killed = (await self._outcome(image, "eat", "more")).exit_code == KILLED
            refused = (await self._outcome(image, "ask")).exit_code == probe.EPERM
            waiting = await self._run(probe.trial(), image, init=False)
            run_dir = self._run_dir(waiting.id)
            try:
                found = await probe.look(run_dir)
                limited = cgroups.limited(lifecycle.groups_of(run_dir))
                seen = await self._client.see(waiting.id)
                if seen is not None:
                    self._fits(run_dir, seen)
            finally:
                await self._discard(waiting.id)
        finally:
            await trio.to_thread.run_sync(remove_tree, top)
        hard = tuple(one for one in limited if one != "memory" or killed)
        name = self._client.name
        note = "" if "memory" in hard else f"no hard limits: {name}'s hold nothing here; {probe.BOUNDED}"
        self._capability = probe.judge(name, version, found, refused=refused, overlay=True, hard=hard, note=note)
        await self._try_egress()
        return self._capability

    async def _outcome(self, image: Image, *args: str) -> Workload:
        """How the probe's program ended."""
        started = await self._run(probe.trial(args), image, init=False)
        try:
            return await self.wait(started.id)
        finally:
            await self._discard(started.id)

    async def start(self, spec: WorkloadSpec) -> Workload:
        """Start it; `runtime.start` if the engine cannot, `workload.exists` if it was not stopped."""
        if self._capability is None:
            await self.probe()
        async with self._images.held(spec.image, spec.login) as image:
            return await self._run(spec, image)

    async def _run(self, spec: WorkloadSpec, image: Image, *, init: bool = True) -> Workload:
        without_gpus(spec)
        launch = Launch(
            spec=spec,
            image=image,
            run_dir=self._run_dir(spec.id),
            log_dir=self._home / "logs" / spec.id,
            volumes_dir=self._home / "volumes",
            uid=self._owner,
            overlay=True,
            hard_memory=True,
            egress=self._linking.egress,
        )
        link = partial(self._linking.refresh, spec.lease, f"{spec.service}.{spec.replica}")
        lifecycle.claim(launch)
        try:
            await trio.to_thread.run_sync(lifecycle.describe, launch)
            await self._admit(image)
            await self._client.create(launch, self._label, init=init)
            linked = not network.gate(launch.run_dir)
            if not linked and await self._client.init(spec.id):
                await self._record(launch)
                await link()
                linked = True
            await self._client.start(spec.id)
            await self._record(launch)
            if not linked:
                await link()
            if init:
                await self._confirm(launch)
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await self._take_back(launch)
                await self._relink(spec.id)
            if isinstance(error, Refused) and error.code in (f"runtime.{self._client.name}", "runtime.start"):
                raise Refused("runtime.start", f"{spec.id}: {error.message}", hint=error.hint) from None
            raise
        await self._relink(spec.id)
        return await self.status(spec.id)

    async def _take_back(self, launch: Launch) -> None:
        """Remove what did not start; if the engine is away, its folder stays, so that it is stopped later."""
        await self._client.remove(launch.spec.id)
        await trio.to_thread.run_sync(lifecycle.remove, launch.run_dir)
        # All that is in it are the init's words on what did not start, which the error has.
        for path in launch.log_dir.glob(LOG_FILES):
            path.unlink()

    async def _record(self, launch: Launch) -> None:
        """Write down what the engine made, for those who look at it from outside."""
        seen = await self._client.see(launch.spec.id)
        pid = 0 if seen is None else seen.pid
        first = processes.process(pid) if pid else None  # it may have come and gone already
        if first is not None:
            lifecycle.enterable(launch, cgroups.of(pid))
            upper = upper_of(pid)
            if upper is not None and launch.spec.ephemeral_bytes:
                there = [(upper if folder == launch.scratch else folder, size) for folder, size in launch.ceilings]
                lifecycle.limit_disk(launch.run_dir, there)
        if seen is not None:
            self._recorded(launch, seen)
        lifecycle.write_json(
            launch.run_dir / "state.json",
            {
                "pid": pid,
                "pid_ticks": -1 if first is None else first.ticks,
                "boot": boot_id(),
                # One that waits to be linked has not started: its engine says the year 1, or so.
                "started_at": Millis(0) if seen is None else Millis(max(0, seen.started_at)),
            },
        )

    async def _confirm(self, launch: Launch) -> None:
        """The first process has started; return once it runs the program, or refuse with why it cannot."""
        while (first := lifecycle.first_process(launch.run_dir)) is not None:
            inner = [processes.program(pid) for pid in processes.children(first.pid)]
            if any(program and program != processes.program(first.pid) for program in inner):
                return
            await trio.sleep(CONFIRM_S)
        ended = await self.wait(launch.spec.id)
        if ended.exit_code:
            async for line in self.logs(launch.spec.id):
                if self.not_executed in line.text:
                    raise Refused("runtime.start", f"{launch.argv[0]}: {line.text.rpartition(': ')[2]}")

    def logs(
        self, workload: WorkloadId, *, tail: int | None = None, follow: bool = False, previous: bool = False
    ) -> AsyncIterator[LogLine]:
        reader = super().logs(workload, tail=tail, follow=follow, previous=previous)
        assert isinstance(reader, LogReader)
        if follow and not previous:
            reader.settled = partial(self._written, workload)
        return reader

    async def _written(self, workload: WorkloadId) -> None:
        """Return once the engine has written down all that a workload that ended had said."""
        if lifecycle.read_json(self._run_dir(workload) / "exit.json") is None:
            await until_back(partial(self._client.wait, workload))

    def _read(self, workload: WorkloadId) -> Workload:
        """From the files alone: who has ended and was not asked after yet is lost, and `status` finds it."""
        run_dir = self._run_dir(workload)
        return lifecycle.read_workload(run_dir, workload, alive=lifecycle.first_process(run_dir) is not None)

    async def status(self, workload: WorkloadId) -> Workload:
        """How it is now; `workload.unknown` if it was never started or was stopped."""
        known = await super().status(workload)
        if known.state is State.LOST:
            await self._write_end(workload)
        return self._read(workload)

    async def _write_end(self, workload: WorkloadId, *, ran_out: bool = False) -> None:
        """Ask the engine how it ended, and write that down; if it does not know, the workload is lost.

        `ran_out`: the kernel killed something of it for its memory. Podman 4.3 does not always notice.
        """
        seen = await self._client.see(workload)
        if seen is None or seen.exit_code is None:
            return
        run_dir = self._run_dir(workload)
        out_of_memory = seen.exit_code == KILLED and (ran_out or seen.out_of_memory)
        if out_of_memory and lifecycle.read_json(run_dir / "reason.json") is None:
            lifecycle.write_json(run_dir / "reason.json", {"reason": Reason.MEMORY})
        lifecycle.write_json(run_dir / "exit.json", {"code": seen.exit_code})

    async def wait(self, workload: WorkloadId) -> Workload:
        """Return once it no longer runs, however long the engine is away meanwhile."""
        ran_out = await self._gone(workload)
        return await until_back(partial(self._ended, workload, ran_out))

    async def _gone(self, workload: WorkloadId) -> bool:
        """Return once it has no process; whether the kernel killed one for the memory of all."""
        run_dir = self._run_dir(workload)
        first = lifecycle.first_process(run_dir)
        if first is not None:
            await lifecycle.gone(first)
        # At once: its control group goes when the engine has cleaned up, and what the kernel counted with it.
        return cgroups.ran_out(lifecycle.groups_of(run_dir))

    async def _ended(self, workload: WorkloadId, ran_out: bool) -> Workload:
        """How it ended, once the engine has seen it too."""
        run_dir = self._run_dir(workload)
        if run_dir.is_dir() and lifecycle.read_json(run_dir / "exit.json") is None:
            await self._client.wait(workload)  # until the engine has written down what it saw
            await self._write_end(workload, ran_out=ran_out)
        return await self.status(workload)

    async def stop(self, workload: WorkloadId, *, grace_ms: int = 2_000) -> Workload | None:
        run_dir = self._run_dir(workload)
        if not run_dir.is_dir():
            return None
        with trio.CancelScope(shield=True):
            await lifecycle.ask(run_dir, grace_ms)
            first = lifecycle.first_process(run_dir)
            if first is not None:
                first.send(signal.SIGKILL)
            if lifecycle.read_json(run_dir / "state.json") is not None:  # else a start was cut off: see `_record`
                with trio.move_on_after(bounds.WORKLOAD_START_TIMEOUT_MS / 1000):
                    await self._ended(workload, await self._gone(workload))
            last = await self.status(workload)
            await trio.to_thread.run_sync(self._keep_log, workload)
            await self._client.remove(workload)
            await trio.to_thread.run_sync(self._remove, workload)
            await self._relink(workload)
        return last

    async def list(self) -> tuple[Workload, ...]:
        """As the folders say; containers of this home that have none are what a crash left, and are removed."""
        names = sorted(path.name for path in (self._home / "run").iterdir())
        ids = [WorkloadId(name) for name in names if parse_workload_id(name) is not None]
        for name in await self._client.names(self._label):
            if parse_workload_id(name) is not None and name not in names:
                await trio.to_thread.run_sync(self._keep_log, name)
                await self._client.remove(name)
        found = []
        for one in ids:
            try:
                found.append(await self.status(one))
            except Refused as error:
                if error.code != "workload.unknown":  # it was stopped while others were asked after
                    raise
        return tuple(found)

    async def aclose(self) -> None:
        await super().aclose()
        await self._client.aclose()


def upper_of(pid: int) -> Path | None:
    """Where what `pid` writes to its root goes, as the mounts it sees name it; None if that is no overlay."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split()[4] == "/" and after.startswith("overlay "):
            for option in after.split(" ", 2)[2].split(","):
                if option.startswith("upperdir="):
                    return Path(option.removeprefix("upperdir="))
    return None
