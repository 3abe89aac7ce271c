"""What every backend has to know to start a workload, and what it answers: a recipe for the shim."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import bounds, network
from fondaco.provider.runtimes.network import NO_EGRESS, Egress
from fondaco.provider.runtimes.port import Image, VolumeKind, WorkloadSpec
from fondaco.provider.runtimes.shim import Recipe

SANDBOX_UID = 1_879_048_193
"""Runs the sandboxes of a provider that is root: above all ranges that logins and subordinate ids use."""
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STAGES = ("/tmp", "/mnt", "/media", "/srv", "/opt")
"""Where the shim may show a runner what it needs, in a mount namespace of its own."""


def sandbox_uid() -> int | None:
    """Whom runners become: root gives its power away before a runner starts, others stay who they are."""
    return SANDBOX_UID if os.geteuid() == 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One start of one workload."""

    spec: WorkloadSpec
    image: Image
    run_dir: Path
    log_dir: Path
    volumes_dir: Path
    uid: int | None
    overlay: bool
    """The kernel lets a user namespace mount overlays: the root can be written to."""
    cgroups: tuple[str, ...] = ()
    """Folders of the groups made for it."""
    hard_memory: bool = False
    """A cgroup bounds the memory; else each process is bounded by a resource limit."""
    hard_pids: bool = False
    """A cgroup bounds the processes."""
    counts_user: bool = False
    """The resource limit on processes would count all that the same user runs, in other leases, too."""
    egress: Egress = NO_EGRESS

    @property
    def scratch(self) -> Path:
        """Where the runner, as `uid`, may write: overlay layers, its own state."""
        return self.run_dir / "scratch"

    @property
    def argv(self) -> tuple[str, ...]:
        """What runs.  Raises `Refused` if neither the specification nor the image says."""
        spec, config = self.spec, self.image.config
        argv = (*spec.command, *spec.args) if spec.command else (*config.entrypoint, *(spec.args or config.cmd))
        if not argv:
            raise Refused("image.entrypoint", f"image {spec.image!r} has no command, and none was given")
        return argv

    @property
    def env(self) -> tuple[tuple[str, str], ...]:
        """Names are unique; the specification wins over the image."""
        merged: dict[str, str] = {}
        for item in (DEFAULT_PATH, *self.image.config.env, *self.spec.env):
            name, equals, value = item.partition("=")
            if not name or not equals or "\0" in item:
                raise Refused("workload.env", f"environment entry {name[:40]!r} is not NAME=value")
            merged[name] = value
        if sum(len(name) + len(value) for name, value in merged.items()) > bounds.WORKLOAD_ENV_BYTES:
            raise Refused("workload.env", f"the environment is larger than {bounds.WORKLOAD_ENV_BYTES} bytes")
        return tuple(merged.items())

    @property
    def working_dir(self) -> str:
        return self.spec.working_dir or self.image.config.working_dir

    def volume_path(self, name: str) -> Path:
        return self.volumes_dir / f"{self.spec.id}.{name}"

    def disk_volumes(self) -> tuple[tuple[str, Path, bool], ...]:
        """(path inside, directory outside, read only) of each."""
        return tuple(
            (volume.path, self.volume_path(volume.name), volume.read_only)
            for volume in self.spec.volumes
            if volume.kind is VolumeKind.DISK
        )

    @property
    def rlimits(self) -> dict[str, int]:
        """Of each process, those of executed commands included: names without RLIMIT_."""
        found = {"CORE": 0, "NOFILE": bounds.WORKLOAD_OPEN_FILES, "MEMLOCK": 64 * limits.KIB}
        if self.spec.ephemeral_bytes:
            found["FSIZE"] = max(size for _, size in self.ceilings)
        if not self.hard_memory:
            found["DATA"] = self.spec.memory_bytes
        return found

    @property
    def nproc(self) -> int | None:
        """The resource limit on processes, besides that of a cgroup; None where that one does better."""
        return None if self.counts_user and self.hard_pids else self.spec.pids

    @property
    def ceilings(self) -> tuple[tuple[Path, int], ...]:
        """(folder outside, bytes) of what the workload may write to the disk; RAM volumes bound themselves."""
        root = [(self.scratch, self.spec.ephemeral_bytes)] if self.spec.ephemeral_bytes else []
        volumes = [
            volume for volume in self.spec.volumes if volume.kind is VolumeKind.DISK and not volume.read_only
        ]
        return (*root, *((self.volume_path(volume.name), volume.size_bytes) for volume in volumes))


def without_gpus(spec: WorkloadSpec) -> None:
    """Raises `Refused` `workload.gpu` for one that wants what only clusters give."""
    if spec.gpu_units:
        raise Refused("workload.gpu", f"{spec.id} needs GPUs, and this runtime gives none")


class Backend(Protocol):
    """A program that makes sandboxes."""

    name: str
    overlays: bool
    """It can mount an overlay as the root, where the kernel lets it."""
    counts_user: bool
    """See `Launch`."""

    def version(self) -> str: ...

    def recipe(self, launch: Launch) -> Recipe:
        """Write what the program needs below `launch.run_dir` and say how it is run."""
        ...


def stage_for(executable: str) -> str:
    """A folder whose contents the runner can do without: not the one that it, and its libraries, lie in."""
    real = Path(executable).resolve()
    for folder in STAGES:
        if Path(folder).is_dir() and not real.is_relative_to(folder):
            return folder
    raise Refused("runtime.start", f"none of {', '.join(STAGES)} is a folder that {executable} can do without")


class Stage:
    """Paths as the runner sees them: staged if it became another user, as they are otherwise."""

    def __init__(self, launch: Launch, executable: str) -> None:
        self._staged = launch.uid is not None
        self.folder = stage_for(executable) if self._staged else ""
        self.entries: list[list[str]] = []

    def at(self, path: str | Path) -> str:
        if not self._staged:
            return str(path)
        target = f"{self.folder}/{len(self.entries)}"
        self.entries.append([str(path), target])
        return target


def recipe(launch: Launch, stage: Stage, *, executable: str, argv: Sequence[str], pid_file: str = "") -> Recipe:
    """The part of a recipe that is the same for all backends."""
    return Recipe(
        executable=executable,
        argv=list(argv),
        options=[],
        seccomp="",
        pid_file=pid_file,
        uid=launch.uid,
        stage=stage.entries,
        stage_folder=stage.folder,
        limits=launch.rlimits,
        pids=launch.spec.pids,
        cgroups=[f"{group}/cgroup.procs" for group in launch.cgroups],
        log_dir=str(launch.log_dir),
        log_file_bytes=bounds.WORKLOAD_LOG_FILE_BYTES,
        log_files=bounds.WORKLOAD_LOG_FILES,
        log_line_bytes=bounds.WORKLOAD_LOG_LINE_BYTES,
        timeout_ms=bounds.WORKLOAD_START_TIMEOUT_MS,
        gate=network.gate(launch.run_dir),
    )
