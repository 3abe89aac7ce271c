"""Workloads as containers of podman, driven over its own interface.

Podman starts, limits and ends them, and its conmon outlives both it and the provider. All else is done as for the
embedded runtime, from outside and by the same programs, over the same folders below the provider's home: images,
volumes, logs, commands, dialling. A container is named like its workload and bears the label of this home; it is
there as long as `run/<workload>` is.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import Millis
from fondaco.provider.runtimes import bounds, cgroups, lifecycle, network, probe, processes, seccomp
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.launch import Launch
from fondaco.provider.runtimes.libpod import Libpod, default_socket
from fondaco.provider.runtimes.logs import moment
from fondaco.provider.runtimes.network import NO_EGRESS, Egress
from fondaco.provider.runtimes.oci import ImageSource
from fondaco.provider.runtimes.podman_container import LOG_NAME, specification, upper_of
from fondaco.provider.runtimes.port import (
    KILLED,
    Capability,
    Image,
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
CONFIRM_S = 0.002
NOT_EXECUTED = "failed to exec pid1"
"""What catatonit says of a program that is not there."""


class PodmanRuntime(EmbeddedRuntime):
    """Runs workloads below `home` by the podman service at `socket`.  Implements `port.Runtime`."""

    def __init__(
        self,
        home: Path,
        sources: Sequence[ImageSource],
        *,
        socket: Path | None = None,
        image_cache_bytes: int = bounds.IMAGE_CACHE_BYTES,
        egress: Egress = NO_EGRESS,
    ) -> None:
        super().__init__(home, sources, image_cache_bytes=image_cache_bytes, egress=egress)
        self._libpod = Libpod(socket or default_socket())
        self._label = f"{LABEL}={hashlib.sha256(str(self._home).encode()).hexdigest()[:12]}"

    async def probe(self) -> Capability:
        """Run containers and say what holds.  Raises `Refused` `runtime.podman` or `runtime.unavailable`."""
        if not seccomp.machine():
            raise Refused("runtime.unavailable", f"no system call filter for {os.uname().machine}")
        version = str((await self._libpod.info()).get("version", {}).get("Version", ""))
        top = self._home / f"probe-{secrets.token_hex(4)}"
        try:
            image = await trio.to_thread.run_sync(probe.image_of, top / "image", self._uid)
            killed = (await self._outcome(image, "eat", "more")).exit_code == KILLED
            refused = (await self._outcome(image, "ask")).exit_code == probe.EPERM
            waiting = await self._run(probe.trial(), image, init=False)
            try:
                found = await probe.look(self._run_dir(waiting.id))
                limited = cgroups.limited(lifecycle.groups_of(self._run_dir(waiting.id)))
            finally:
                await self._discard(waiting.id)
        finally:
            await trio.to_thread.run_sync(remove_tree, top)
        hard = tuple(one for one in limited if one != "memory" or killed)
        note = "" if "memory" in hard else f"no hard limits: podman's hold nothing here; {probe.BOUNDED}"
        self._capability = probe.judge(
            "podman", version, found, refused=refused, overlay=True, hard=hard, note=note
        )
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
        """Start it; `runtime.start` if podman cannot, `workload.exists` if it was not stopped."""
        if self._capability is None:
            await self.probe()
        async with self._images.held(spec.image, spec.login) as image:
            return await self._run(spec, image)

    async def _run(self, spec: WorkloadSpec, image: Image, *, init: bool = True) -> Workload:
        launch = Launch(
            spec=spec,
            image=image,
            run_dir=self._run_dir(spec.id),
            log_dir=self._home / "logs" / spec.id,
            volumes_dir=self._home / "volumes",
            uid=self._uid,
            overlay=True,
            hard_memory=True,
            egress=self._linking.egress,
        )
        lifecycle.claim(launch)
        try:
            await trio.to_thread.run_sync(lifecycle.describe, launch)
            await self._libpod.create(specification(launch, self._label, init=init))
            if network.gate(launch.run_dir):
                await self._libpod.init(spec.id)
                await self._record(launch)
                await self._linking.refresh(spec.lease, f"{spec.service}.{spec.replica}")
            await self._libpod.start(spec.id)
            await self._record(launch)
            if init:
                await self._confirm(launch)
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await self._libpod.remove(spec.id)
                await trio.to_thread.run_sync(lifecycle.remove, launch.run_dir)
                # All that is in it are the init's words on what did not start, which the error has.
                for path in launch.log_dir.glob(f"{LOG_NAME}*"):
                    path.unlink()
                await self._relink(spec.id)
            if isinstance(error, Refused) and error.code in ("runtime.podman", "runtime.start"):
                raise Refused("runtime.start", f"{spec.id}: {error.message}", hint=error.hint) from None
            raise
        await self._relink(spec.id)
        return await self.status(spec.id)

    async def _record(self, launch: Launch) -> None:
        """Write down what podman made, for those who look at it from outside."""
        found = await self._libpod.inspect(launch.spec.id)
        state: dict[str, Any] = (found or {}).get("State", {})
        pid = int(state.get("Pid") or 0)
        first = processes.process(pid) if pid else None  # it may have come and gone already
        if first is not None:
            lifecycle.enterable(launch, cgroups.of(pid))
            upper = upper_of(pid)
            if upper is not None and launch.spec.ephemeral_bytes:
                there = [(upper if folder == launch.scratch else folder, size) for folder, size in launch.ceilings]
                lifecycle.limit_disk(launch.run_dir, there)
        lifecycle.write_json(
            launch.run_dir / "state.json",
            {
                "pid": pid,
                "pid_ticks": -1 if first is None else first.ticks,
                "boot": boot_id(),
                "started_at": moment(str(state.get("StartedAt", ""))) or Millis(0),
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
                if NOT_EXECUTED in line.text:
                    raise Refused("runtime.start", f"{launch.argv[0]}: {line.text.rpartition(': ')[2]}")

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
        """Ask podman how it ended, and write that down; if it does not know, the workload is lost.

        `ran_out`: the kernel killed something of it for its memory. Podman 4.3 does not always notice.
        """
        found = await self._libpod.inspect(workload)
        state: dict[str, Any] = (found or {}).get("State", {})
        if state.get("Status") not in ("exited", "stopped"):
            return
        run_dir, code = self._run_dir(workload), int(state.get("ExitCode", 0))
        out_of_memory = code == KILLED and (ran_out or bool(state.get("OOMKilled")))
        if out_of_memory and lifecycle.read_json(run_dir / "reason.json") is None:
            lifecycle.write_json(run_dir / "reason.json", {"reason": Reason.MEMORY})
        lifecycle.write_json(run_dir / "exit.json", {"code": code})

    async def wait(self, workload: WorkloadId) -> Workload:
        run_dir = self._run_dir(workload)
        first = lifecycle.first_process(run_dir)
        if first is not None:
            await lifecycle.gone(first)
        # At once: its control group goes when podman has cleaned up after it, and what the kernel counted with it.
        ran_out = cgroups.ran_out(lifecycle.groups_of(run_dir))
        if run_dir.is_dir() and lifecycle.read_json(run_dir / "exit.json") is None:
            await self._libpod.wait(workload)  # until conmon has written down what it saw
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
            with trio.move_on_after(bounds.WORKLOAD_START_TIMEOUT_MS / 1000):
                await self.wait(workload)
            last = await self.status(workload)
            await self._libpod.remove(workload)
            await trio.to_thread.run_sync(self._remove, workload)
            await self._relink(workload)
        return last

    async def list(self) -> tuple[Workload, ...]:
        """As the folders say; containers of this home that have none are what a crash left, and are removed."""
        names = sorted(path.name for path in (self._home / "run").iterdir())
        ids = [WorkloadId(name) for name in names if parse_workload_id(name) is not None]
        for name in await self._libpod.names(self._label):
            if parse_workload_id(name) is not None and name not in names:
                await self._libpod.remove(name)
        return tuple([await self.status(one) for one in ids])

    async def aclose(self) -> None:
        await super().aclose()
        await self._libpod.aclose()
