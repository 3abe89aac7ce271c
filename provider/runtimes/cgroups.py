"""Control groups of our own around workloads: the only limits that hold for a workload as a whole.

    version 2   <base>/fondaco-<home>/<workload>   where <base> was delegated to this user (systemd: Delegate=)
    version 1   <own>/fondaco-<home>/<workload>    in each hierarchy, for root

Version 2 lets no group have both processes and limited children, so the provider must not stand in the one that is
delegated: it moves into a leaf below, if it is alone there (`cgroup-v2.rst`, No Internal Process Constraint).
systemd sees to the same with DelegateSubgroup=. Where neither can be, workloads have no hard limits, as we say.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes.port import VolumeKind, WorkloadSpec

CONTROLLERS = ("cpu", "memory", "pids")
PREFIX = "fondaco-"
LEAF = "node"
"""Where the provider itself goes, in a group that was delegated to it alone."""
PERIOD_US = 100_000
LEAST_QUOTA_US = 1_000
RUNNER_PIDS = 8
"""Of bwrap or crun, and of those who enter: beside what the workload itself may have."""
REMOVE_S = 2.0
NO_LIMIT_BYTES = 1 << 60
"""Version 1 has a number for none that depends on the size of a page."""
MAKE_TIMES = 10
PROCESSES = "cgroup.procs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroups:
    """Where groups may be made. `tops`: by controller in version 1, under "" in version 2."""

    tops: dict[str, Path]
    controllers: tuple[str, ...]
    name: str
    """Of the group around all of one provider's."""

    @property
    def unified(self) -> bool:
        return "" in self.tops

    def make(self, spec: WorkloadSpec) -> tuple[str, ...]:
        """Groups for one workload, their limits set.  Raises `Refused` `runtime.cgroup`."""
        made: list[str] = []
        try:
            for controller, top in self.tops.items():
                group = self._folder(top, spec.id)
                made.append(str(group))
                for name, value in settings(spec, self.controllers if self.unified else (controller,)).items():
                    _set(group, name, value, unified=self.unified)
        except OSError as error:
            remove(made)
            raise Refused("runtime.cgroup", f"no group could be made for {spec.id}: {error}") from None
        return tuple(made)

    def _folder(self, top: Path, name: str) -> Path:
        around = top / self.name
        for _ in range(MAKE_TIMES):
            around.mkdir(exist_ok=True)
            if self.unified:
                _enable(around, self.controllers)
            # Where the last workload goes just now, so does the group around.
            with contextlib.suppress(FileNotFoundError):
                (around / name).mkdir(exist_ok=True)  # what a crash left has no processes any more
                return around / name
        raise OSError(f"{around} goes as often as it is made")


def settings(spec: WorkloadSpec, controllers: Sequence[str]) -> dict[str, int]:
    """What is set, by the names that both versions share: `memory`, `quota` of `PERIOD_US`, `pids`."""
    ram = sum(volume.size_bytes for volume in spec.volumes if volume.kind is VolumeKind.RAM)
    wanted = {
        "cpu": ("quota", max(LEAST_QUOTA_US, spec.cpu_milli * PERIOD_US // 1_000)),
        "memory": ("memory", spec.memory_bytes + ram),
        "pids": ("pids", spec.pids + RUNNER_PIDS),
    }
    return dict(wanted[controller] for controller in controllers)


def _set(group: Path, name: str, value: int, *, unified: bool) -> None:
    if name == "pids":
        _write(group / "pids.max", str(value))
    elif unified and name == "memory":
        _write(group / "memory.max", str(value))
        # No swap, and no workload without its largest process: it starts anew as a whole.
        for file, text in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
            if (group / file).exists():
                _write(group / file, text)
    elif name == "memory":
        _write(group / "memory.limit_in_bytes", str(value))
        if (group / "memory.memsw.limit_in_bytes").exists():
            _write(group / "memory.memsw.limit_in_bytes", str(value))
    elif unified:
        _write(group / "cpu.max", f"{value} {PERIOD_US}")
    else:
        _write(group / "cpu.cfs_period_us", str(PERIOD_US))
        _write(group / "cpu.cfs_quota_us", str(value))


def find(
    home: Path, *, mounts: Path = Path("/proc/self/mountinfo"), own: Path = Path("/proc/self/cgroup")
) -> tuple[Cgroups | None, str]:
    """Where the provider at `home` may make groups; or None, and why not."""
    name = f"{PREFIX}{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"
    hierarchies, groups = _hierarchies(mounts), _own(own)
    unified = _folder(hierarchies.get(""), groups.get(""))
    if unified is not None and set(CONTROLLERS) <= set(_words(unified / "cgroup.controllers")):
        return _delegated(unified, name)
    tops = {}
    for controller in CONTROLLERS:
        folder = _folder(hierarchies.get(controller), groups.get(controller))
        if folder is not None and os.access(folder, os.W_OK):
            tops[controller] = folder
    if not tops:
        return None, "no control group was delegated to this user"
    return Cgroups(tops=tops, controllers=tuple(tops), name=name), ""


def _delegated(own: Path, name: str) -> tuple[Cgroups | None, str]:
    hint = "run it by systemd with Delegate=yes and DelegateSubgroup=node"
    base = own.parent if own.name == LEAF else own
    try:
        if base == own and _words(own / PROCESSES) == [str(os.getpid())]:
            (own / LEAF).mkdir(exist_ok=True)
            _write(own / LEAF / PROCESSES, "0")
        if _words(base / PROCESSES) and (base / "cgroup.type").exists():  # only the root has no type
            return None, f"the control group {base} has other processes in it: {hint}"
        _enable(base, CONTROLLERS)
    except OSError as error:
        return None, f"the control group {base} was not delegated to this user ({error.strerror}): {hint}"
    return Cgroups(tops={"": base}, controllers=CONTROLLERS, name=name), ""


def _enable(group: Path, controllers: Sequence[str]) -> None:
    if not set(controllers) <= set(_words(group / "cgroup.subtree_control")):
        _write(group / "cgroup.subtree_control", " ".join(f"+{one}" for one in controllers))


def _hierarchies(mounts: Path) -> dict[str, tuple[str, Path]]:
    """By controller, "" for version 2: (which group its top is, where it is mounted)."""
    found: dict[str, tuple[str, Path]] = {}
    for line in mounts.read_text("utf-8", "replace").splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = (*after.split(" ", 2), "", "")[:3]
        if kind == "cgroup2":
            found.setdefault("", (root, Path(point)))
        elif kind == "cgroup":
            for controller in set(options.split(",")) & set(CONTROLLERS):
                found.setdefault(controller, (root, Path(point)))
    return found


def _own(own: Path) -> dict[str, str]:
    """By controller, "" for version 2: which group this process is in."""
    found = {}
    for line in own.read_text("utf-8", "replace").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _folder(hierarchy: tuple[str, Path] | None, group: str | None) -> Path | None:
    if hierarchy is None or group is None or ".." in group.split("/"):
        return None  # not mounted here, or above what is
    root, point = hierarchy
    if not Path(group).is_relative_to(root):
        return None
    folder = point / Path(group).relative_to(root)
    return folder if folder.is_dir() else None


def of(pid: int) -> tuple[str, ...]:
    """The groups of `pid`, in hierarchies that limit something, as this process sees them; none if it is gone."""
    try:
        groups = _own(Path(f"/proc/{pid}/cgroup"))
    except (FileNotFoundError, ProcessLookupError):
        return ()
    hierarchies = _hierarchies(Path("/proc/self/mountinfo"))
    wanted = ("",) if "memory" not in hierarchies else CONTROLLERS
    folders = [_folder(hierarchies.get(one), groups.get(one)) for one in wanted]
    return tuple(str(folder) for folder in folders if folder is not None)


def limited(groups: Sequence[str]) -> tuple[str, ...]:
    """Of `CONTROLLERS` those that have a limit in one of `groups`."""
    unlimited = {"cpu.max": "max", "cpu.cfs_quota_us": "-1", "memory.max": "max", "pids.max": "max"}
    found = {
        file.split(".")[0]
        for group in groups
        for file, none in unlimited.items()
        if _words(Path(group) / file)[:1] not in ([], [none])
    }
    for group in groups:
        bytes_ = _words(Path(group) / "memory.limit_in_bytes")
        if bytes_ and int(bytes_[0]) < NO_LIMIT_BYTES:
            found.add("memory")
    return tuple(one for one in CONTROLLERS if one in found)


def ran_out(groups: Sequence[str]) -> bool:
    """Whether the kernel killed a process of the workload because its memory was used up."""
    for group in groups:
        for file in ("memory.events", "memory.oom_control"):
            words = _words(Path(group) / file)
            if "oom_kill" in words and words[words.index("oom_kill") + 1] != "0":
                return True
    return False


def remove(groups: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
    """Remove those of our own whose processes have been killed; the kernel may still be at it for a moment."""
    until = clock() + REMOVE_S
    for group in groups:
        if not Path(group).parent.name.startswith(PREFIX):
            continue  # podman's are podman's
        while True:
            try:
                os.rmdir(group)
                break
            except FileNotFoundError:
                break
            except OSError:
                if clock() > until:
                    break  # it stays, empty and without harm; the next of its name takes it over
                time.sleep(0.005)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(group))  # around all of one provider's, once none is left


def _words(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").split()
    except OSError:
        return []


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="ascii") as file:
        file.write(text)
