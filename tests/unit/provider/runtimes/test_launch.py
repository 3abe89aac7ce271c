"""What a specification and an image add up to."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes.crun import Crun
from fondaco.provider.runtimes.launch import Launch, stage_for
from fondaco.provider.runtimes.port import (
    Image,
    ImageConfig,
    VolumeKind,
    VolumeMount,
    WorkloadSpec,
    parse_workload_id,
    workload_id,
)

LEASE = LeaseId(bytes(range(32)))


def launch(config: dict[str, Any] | None = None, **spec: Any) -> Launch:
    image = ImageConfig(**{"entrypoint": (), "cmd": (), "env": (), "working_dir": "/", **(config or {})})
    return Launch(
        spec=WorkloadSpec(lease=LEASE, service="web", image="a", cpu_milli=1, memory_bytes=MIB, **spec),
        image=Image(digest="", config=image, rootfs="/r"),
        run_dir=Path("/run"),
        log_dir=Path("/log"),
        volumes_dir=Path("/volumes"),
        uid=None,
        overlay=True,
    )


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "command", "args", "expected"),
    [
        (("e",), ("c",), (), (), ("e", "c")),
        (("e",), ("c",), (), ("a",), ("e", "a")),
        (("e",), ("c",), ("x",), (), ("x",)),
        (("e",), ("c",), ("x",), ("a",), ("x", "a")),
        ((), ("c", "d"), (), (), ("c", "d")),
    ],
)
def test_command_and_arguments_replace_the_images_as_in_kubernetes(
    entrypoint: tuple[str, ...],
    cmd: tuple[str, ...],
    command: tuple[str, ...],
    args: tuple[str, ...],
    expected: tuple[str, ...],
) -> None:
    assert launch({"entrypoint": entrypoint, "cmd": cmd}, command=command, args=args).argv == expected


def test_an_image_without_a_command_needs_one() -> None:
    with pytest.raises(Refused, match=r"image\.entrypoint"):
        _ = launch().argv


def test_the_specifications_environment_wins_over_the_images() -> None:
    merged = dict(launch({"env": ("A=image", "B=image")}, env=("B=spec", "C=x=y", "D=")).env)
    assert merged.pop("PATH").startswith("/usr/local/sbin:")
    assert merged == {"A": "image", "B": "spec", "C": "x=y", "D": ""}


@pytest.mark.parametrize("entry", ["", "NAME", "=value", "A=\0", "A=" + "x" * 200_000])
def test_an_environment_entry_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(Refused, match=r"workload\.env"):
        _ = launch(env=(entry,)).env


def test_the_working_directory_is_the_specifications_or_the_images() -> None:
    assert launch({"working_dir": "/image"}).working_dir == "/image"
    assert launch({"working_dir": "/image"}, working_dir="/spec").working_dir == "/spec"


def test_a_workload_id_names_lease_service_and_replica() -> None:
    text = workload_id(LEASE, "web-1", 3)
    assert text == f"{LEASE.hex()}.web-1.3"
    assert parse_workload_id(text) == (LEASE, "web-1", 3)


@pytest.mark.parametrize("service", ["", "Web", "a.b", "-a", "a-", "a" * 64, "../x", "a\n"])
def test_a_service_name_that_is_no_dns_label_is_refused(service: str) -> None:
    with pytest.raises(Refused, match=r"workload\.name"):
        workload_id(LEASE, service)


@pytest.mark.parametrize("replica", [-1, 50, 1_000])
def test_a_replica_out_of_range_is_refused(replica: int) -> None:
    with pytest.raises(Refused, match=r"workload\.replica"):
        workload_id(LEASE, "web", replica)


@pytest.mark.parametrize("text", ["", "x", "..", f"{'0' * 64}.web", f"{'0' * 64}.web.0/..", f"{'g' * 64}.web.0"])
def test_text_that_names_no_workload_is_told_apart(text: str) -> None:
    assert parse_workload_id(text) is None


def test_the_bundle_for_crun_gives_nothing_away(tmp_path: Path) -> None:
    ram = VolumeMount(name="r", path="/ram", size_bytes=5 * MIB, kind=VolumeKind.RAM)
    disk = VolumeMount(name="d", path="/data", size_bytes=5 * MIB, read_only=True)
    made = replace(launch({"cmd": ("run",)}, volumes=(ram, disk), pids=7), run_dir=tmp_path, overlay=False)
    made.scratch.mkdir()
    recipe = Crun("/usr/bin/crun").recipe(made)
    assert recipe["argv"][:3] == ["crun", f"--root={made.scratch}/state", "--cgroup-manager=disabled"]
    assert recipe["limits"]["DATA"] == MIB
    config = json.loads((made.scratch / "bundle" / "config.json").read_text())
    process = config["process"]
    assert process["noNewPrivileges"]
    assert not any(process["capabilities"].values())
    assert process["rlimits"] == [{"type": "RLIMIT_NPROC", "soft": 7, "hard": 7}]
    assert config["root"]["readonly"]
    kinds = {namespace["type"] for namespace in config["linux"]["namespaces"]}
    assert kinds >= {"user", "pid", "mount", "network", "ipc", "uts"}
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    mounts = {mount["destination"]: mount for mount in config["mounts"]}
    assert "ro" in mounts["/data"]["options"]
    assert f"size={5 * MIB}" in mounts["/ram"]["options"]
    assert all("nosuid" in mount["options"] for mount in mounts.values())


def test_the_stage_never_hides_the_folder_that_the_runner_and_its_libraries_lie_in() -> None:
    assert not Path("/tmp/checkout/.venv/bin/bwrap").is_relative_to(stage_for("/tmp/checkout/.venv/bin/bwrap"))
    assert stage_for("/usr/bin/crun") == "/tmp"
