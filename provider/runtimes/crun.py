"""The crun backend: an OCI bundle of our own making, run without root.

Preferred where a distribution ships it: on Ubuntu 24.04 and later its AppArmor profile is what allows user
namespaces at all. `crun run` stays outside as the workload's parent; the workload itself is pid 1 inside.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from fondaco.protocol import limits
from fondaco.provider.runtimes import bounds, network, seccomp
from fondaco.provider.runtimes import launch as launching
from fondaco.provider.runtimes.inside import Grown, Inside
from fondaco.provider.runtimes.launch import Launch, Stage
from fondaco.provider.runtimes.port import VolumeKind
from fondaco.provider.runtimes.shim import Recipe

NAMESPACES = ("user", "pid", "mount", "network", "ipc", "uts", "cgroup")
MASKED = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

HOOK = 'while IFS= read -r one || [ -n "$one" ]; do printf "%s\\n" "$one"; done > "$1"; read go < "$2" || :'
"""It is given the container's state, pid and all, on its input. Of programs it needs the shell alone."""
HOOK_SECONDS = 10


def find() -> Crun | None:
    found = shutil.which("crun")
    return Crun(found) if found else None


class Crun:
    name = "crun"
    overlays = False
    counts_user = True

    def __init__(self, executable: str) -> None:
        self._executable = executable

    def version(self) -> str:
        out = subprocess.run([self._executable, "--version"], capture_output=True, text=True, check=False)
        return out.stdout.splitlines()[0].removeprefix("crun version ") if out.stdout else ""

    def recipe(self, launch: Launch) -> Recipe:
        stage = Stage(launch, self._executable)
        scratch = stage.at(launch.scratch)
        owner = os.geteuid() if launch.uid is None else launch.uid
        for name in ("bundle", "state", "upper", "work"):
            (launch.scratch / name).mkdir()
            os.chown(launch.scratch / name, owner, owner if launch.uid is not None else os.getegid())
        config = launch.scratch / "bundle" / "config.json"
        config.write_text(json.dumps(_config(launch, stage, scratch, owner)), encoding="utf-8")
        config.chmod(0o600)
        os.chown(config, owner, -1)
        argv = [
            *("crun", f"--root={scratch}/state", "--cgroup-manager=disabled", "run"),
            *(f"--bundle={scratch}/bundle", f"--pid-file={scratch}/pid", "workload"),
        ]
        pid_file = str(launch.scratch / "pid")
        return launching.recipe(launch, stage, executable=self._executable, argv=argv, pid_file=pid_file)


def _config(launch: Launch, stage: Stage, scratch: str, owner: int) -> dict[str, Any]:
    group = owner if launch.uid is not None else os.getegid()
    inside = Inside(Path(launch.image.rootfs))
    mounts = _mounts(launch, stage, inside)
    root, bound = _root(launch, stage, owner, inside)
    pids = {"type": "RLIMIT_NPROC", "soft": launch.nproc, "hard": launch.nproc}
    return {
        "ociVersion": "1.0.2",
        "root": {"path": root, "readonly": True},
        "hostname": launch.spec.service,
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(launch.argv),
            "env": [f"{name}={value}" for name, value in launch.env],
            "cwd": launch.working_dir,
            "noNewPrivileges": True,
            "capabilities": {
                kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")
            },
            "rlimits": [] if launch.nproc is None else [pids],
        },
        "mounts": [*bound, *mounts],
        "hooks": _hooks(launch, scratch),
        "linux": {
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "uidMappings": [{"containerID": 0, "hostID": owner, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": group, "size": 1}],
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "seccomp": seccomp.oci_profile(seccomp.machine()),
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
        },
    }


def _hooks(launch: Launch, scratch: str) -> dict[str, Any]:
    """What crun does when the namespaces are there and no program runs yet: tell its pid, wait at the gate.

    Only root may enter its namespaces by then; for others it is linked a moment after it has started.
    """
    if launch.uid is None or not network.gate(launch.run_dir):
        return {}
    args = ["sh", "-c", HOOK, "sh", f"{scratch}/{network.HELD}", f"{scratch}/{network.GATE}"]
    return {"createRuntime": [{"path": "/bin/sh", "args": args, "timeout": HOOK_SECONDS}]}


def _root(launch: Launch, stage: Stage, owner: int, inside: Inside) -> tuple[str, list[dict[str, Any]]]:
    """The image; or, where it lacks mount points, a tree that has them, and what of the image goes into it."""
    there = Path(launch.image.rootfs)
    image = stage.at(there)
    points = inside.points()
    if all(inside.fits(point) for point in points):
        return image, []
    top = launch.scratch / "root"
    top.mkdir()
    os.chown(top, owner, -1)
    options = ["bind", "ro", "nosuid", "nodev"]
    grown = Grown(top, there, points, owner, inside.files)
    return stage.at(top), [
        {"destination": str(path), "type": "bind", "source": f"{image}{path}", "options": options}
        for path in grown.bound
    ]


def _mounts(launch: Launch, stage: Stage, inside: Inside) -> list[dict[str, Any]]:
    quiet = ["nosuid", "nodev"]

    def tmpfs(path: str, size: int, mode: str) -> dict[str, Any]:
        options = [*quiet, f"mode={mode}", f"size={size}"]
        return {"destination": inside.mount(path), "type": "tmpfs", "source": "tmpfs", "options": options}

    size = bounds.WORKLOAD_TMPFS_BYTES
    mounts: list[dict[str, Any]] = []
    mounts += [
        {"destination": inside.mount("/proc"), "type": "proc", "source": "proc", "options": [*quiet, "noexec"]},
        tmpfs("/dev", 64 * limits.KIB, "755"),
        {
            "destination": inside.mount("/dev/pts"),
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
        tmpfs("/dev/shm", size, "1777"),
        tmpfs("/tmp", size, "1777"),
        tmpfs("/run", size, "755"),
    ]
    etc = stage.at(launch.run_dir / "etc")
    for path, outside in network.files(launch.run_dir).items():
        where, source = inside.mount(path, file=True), f"{etc}/{outside.name}"
        options = ["bind", *quiet, "noexec", "ro"]
        mounts.append({"destination": where, "type": "bind", "source": source, "options": options})
    for path, outside, read_only in launch.disk_volumes():
        options = ["bind", *quiet, *(["ro"] if read_only else [])]
        where = inside.mount(path, outside)
        mounts.append({"destination": where, "type": "bind", "source": stage.at(outside), "options": options})
    mounts += [
        tmpfs(volume.path, volume.size_bytes, "1777")
        for volume in launch.spec.volumes
        if volume.kind is VolumeKind.RAM
    ]
    return mounts
