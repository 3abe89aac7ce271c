"""Where control groups can be made and what is written into them: both versions, on folders in their place."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import cgroups
from fondaco.provider.runtimes.port import VolumeKind, VolumeMount, WorkloadSpec

RAM = VolumeMount(name="r", path="/ram", size_bytes=4 * MIB, kind=VolumeKind.RAM)
SPEC = WorkloadSpec(
    lease=LeaseId(bytes(32)),
    service="web",
    image="x",
    cpu_milli=250,
    memory_bytes=60 * MIB,
    pids=20,
    volumes=(RAM,),
)
HOME = Path("/var/lib/fondaco")


class Kernel:
    """Folders in the shape of the kernel's, and what it says of them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.mounts = top / "mountinfo"
        self.own = top / "own"
        self.mounts.write_text("20 1 0:1 / / rw - ext4 /dev/sda rw\n")
        self.own.write_text("")

    def find(self) -> tuple[cgroups.Cgroups | None, str]:
        return cgroups.find(HOME, mounts=self.mounts, own=self.own)

    def version_1(self, controllers: str, group: str = "/user") -> Path:
        folder = self.top / controllers
        (folder / group.strip("/")).mkdir(parents=True)
        with self.mounts.open("a") as file:
            file.write(f"30 20 0:{len(controllers)} / {folder} rw - cgroup cgroup rw,{controllers}\n")
        with self.own.open("a") as file:
            file.write(f"3:{controllers}:{group}\n")
        return folder / group.strip("/")

    def version_2(self, group: str, *, controllers: str = "cpuset cpu io memory pids", inside: str = "") -> Path:
        folder = self.top / "unified"
        own = folder / group.strip("/")
        own.mkdir(parents=True)
        for one in (own, own.parent):
            (one / "cgroup.controllers").write_text(controllers)
            (one / "cgroup.subtree_control").write_text("")
            (one / "cgroup.procs").write_text(inside if one == own else "")
            (one / "cgroup.type").write_text("domain")
        with self.mounts.open("a") as file:
            file.write(f"40 20 0:9 / {folder} rw - cgroup2 cgroup2 rw\n")
        with self.own.open("a") as file:
            file.write(f"0::{group}\n")
        return own


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_version_1_has_a_group_in_each_hierarchy(kernel: Kernel) -> None:
    for controllers in ("cpu,cpuacct", "memory", "pids", "blkio"):
        kernel.version_1(controllers)
    found, reason = kernel.find()
    assert found is not None
    assert (reason, found.controllers) == ("", ("cpu", "memory", "pids"))
    made = [Path(group) for group in found.make(SPEC)]
    assert [group.parent.parent for group in made] == [
        kernel.top / name / "user" for name in ("cpu,cpuacct", "memory", "pids")
    ]
    assert [read(group) for group in made] == [
        {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "25000"},
        {"memory.limit_in_bytes": str(64 * MIB)},
        {"pids.max": str(20 + cgroups.RUNNER_PIDS)},
    ]


def test_version_1_with_some_hierarchies_only_limits_what_it_can(kernel: Kernel) -> None:
    kernel.version_1("pids")
    found, _ = kernel.find()
    assert found is not None
    assert found.controllers == ("pids",)


def test_version_2_has_one_group_below_the_one_that_was_delegated(kernel: Kernel) -> None:
    own = kernel.version_2("/system.slice/fondaco.service/node", inside=str(os.getpid()))
    found, reason = kernel.find()
    assert found is not None
    assert (reason, found.controllers, found.tops) == ("", ("cpu", "memory", "pids"), {"": own.parent})
    assert (own.parent / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    (group,) = map(Path, found.make(SPEC))
    assert group.parent.parent == own.parent
    assert read(group) == {
        "cpu.max": "25000 100000",
        "memory.max": str(64 * MIB),
        "pids.max": str(20 + cgroups.RUNNER_PIDS),
    }


def test_in_version_2_a_provider_that_is_alone_moves_out_of_the_way(kernel: Kernel) -> None:
    own = kernel.version_2("/user.slice/fondaco.scope", inside=str(os.getpid()))
    kernel.find()
    assert (own / "node" / "cgroup.procs").read_text() == "0"


@pytest.mark.parametrize(
    ("inside", "reason"), [("1 2 3", r"other processes.*DelegateSubgroup=node"), ("", "not delegated")]
)
def test_in_version_2_a_group_of_others_is_left_alone_and_told_of(
    kernel: Kernel, inside: str, reason: str
) -> None:
    own = kernel.version_2("/user.slice/session.scope", inside=inside)
    if not inside:
        (own / "cgroup.subtree_control").unlink()
        (own / "cgroup.subtree_control").mkdir()  # as good as forbidden, also to root
    found, told = kernel.find()
    assert found is None
    assert re.search(reason, told)
    assert not (own / "node").exists()


def test_no_groups_at_all_is_no_error(kernel: Kernel) -> None:
    assert kernel.find() == (None, "no control group was delegated to this user")
    kernel.version_2("/", controllers="hugetlb")
    assert kernel.find()[0] is None


def test_a_group_above_what_is_mounted_is_none_of_ours(kernel: Kernel) -> None:
    kernel.version_1("memory")
    kernel.own.write_text("3:memory:/../other\n")
    assert kernel.find()[0] is None


def test_a_limit_that_cannot_be_set_is_refused_and_leaves_nothing(kernel: Kernel) -> None:
    own = kernel.version_1("pids")
    found, _ = kernel.find()
    assert found is not None
    group = own / found.name / SPEC.id
    (group / "pids.max").mkdir(parents=True)
    with pytest.raises(Refused, match=r"runtime\.cgroup"):
        found.make(SPEC)


def test_a_little_processor_time_is_rounded_up_to_what_the_kernel_takes() -> None:
    few = WorkloadSpec(lease=SPEC.lease, service="web", image="x", cpu_milli=1, memory_bytes=1)
    assert cgroups.settings(few, ("cpu",)) == {"quota": 1_000}


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n", True),
        ("memory.events", "low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\n", False),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", True),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", False),
    ],
)
def test_the_kernel_counts_whom_it_killed(tmp_path: Path, file: str, text: str, expected: bool) -> None:
    (tmp_path / file).write_text(text)
    assert cgroups.ran_out([str(tmp_path / "none"), str(tmp_path)]) is expected


def test_removing_waits_for_the_kernel_but_not_for_ever(tmp_path: Path) -> None:
    around = tmp_path / "fondaco-0"
    busy = around / "busy"
    (busy / "process").mkdir(parents=True)
    times = iter([0.0, 1.0, 3.0])
    cgroups.remove([str(around / "gone"), str(busy)], clock=lambda: next(times))
    assert busy.is_dir()
    (busy / "process").rmdir()
    cgroups.remove([str(busy)])
    assert not around.exists()
    theirs = tmp_path / "libpod_parent" / "container"
    theirs.mkdir(parents=True)
    cgroups.remove([str(theirs)])
    assert theirs.exists()
