"""What podman is asked for: libpod's `SpecGenerator` for one workload.

The image is the tree that our own store verified and unpacked, under an overlay that podman makes: so digests are
checked, and registries asked, the same way for every runtime. Isolation is that of the embedded runtime: one user
of the machine's stands for root inside, no capabilities, our system call filter, a network of loopback alone.
"""

from __future__ import annotations

import json
from typing import Any

from fondaco.provider.runtimes import bounds, cgroups, network, seccomp
from fondaco.provider.runtimes.launch import Launch
from fondaco.provider.runtimes.port import VolumeKind

LOG_NAME = "log"


def specification(launch: Launch, label: str, *, init: bool = True) -> dict[str, Any]:
    """`init`: a first process that passes signals on, as bwrap has one, and not the workload itself."""
    filters = launch.run_dir / "seccomp.json"
    filters.write_text(json.dumps(seccomp.oci_profile(seccomp.machine())), encoding="utf-8")
    key, _, value = label.partition("=")
    private = {"nsmode": "private"}
    return {
        "name": launch.spec.id,
        "labels": {key: value},
        "rootfs": launch.image.rootfs,
        "rootfs_overlay": True,
        "read_only_filesystem": launch.spec.read_only_root,
        "command": list(launch.argv),
        "env": dict(launch.env),
        "unsetenvall": True,
        "work_dir": launch.working_dir,
        "hostname": launch.spec.service,
        "init": init,
        "systemd": "false",
        "use_image_hosts": True,
        "use_image_resolve_conf": True,  # and ours over both, as mounts
        "image_volume_mode": "ignore",
        "mounts": _mounts(launch),
        "shm_size": bounds.WORKLOAD_TMPFS_BYTES,
        **_user(launch),
        "netns": {"nsmode": "none"},
        **dict.fromkeys(("pidns", "ipcns", "utsns", "cgroupns"), private),
        "cap_drop": ["all"],
        "no_new_privileges": True,
        "seccomp_profile_path": str(filters),
        "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
        "resource_limits": _limits(launch),
        "r_limits": [
            {"type": name.lower(), "soft": value, "hard": value}
            # Both of these each time: podman's own defaults are more than a provider may be allowed to give.
            for name, value in {**launch.rlimits, "NPROC": launch.spec.pids}.items()
        ],
        "log_configuration": {
            "driver": "k8s-file",
            "path": str(launch.log_dir / LOG_NAME),
            "size": bounds.WORKLOAD_LOG_FILE_BYTES * bounds.WORKLOAD_LOG_FILES,
        },
    }


def _user(launch: Launch) -> dict[str, Any]:
    """Podman run by root maps one user; run by another, its own user namespace is around everything already."""
    if launch.uid is None:
        return {}
    one = [{"container_id": 0, "host_id": launch.uid, "size": 1}]
    return {"userns": {"nsmode": "private"}, "idmappings": {"UIDMap": one, "GIDMap": one}}


def _limits(launch: Launch) -> dict[str, Any]:
    wanted = cgroups.settings(launch.spec, cgroups.CONTROLLERS)
    return {
        "cpu": {"quota": wanted["quota"], "period": cgroups.PERIOD_US},
        "memory": {"limit": wanted["memory"], "swap": wanted["memory"]},
        "pids": {"limit": wanted["pids"]},
    }


def _mounts(launch: Launch) -> list[dict[str, Any]]:
    def tmpfs(path: str, size: int, mode: str) -> dict[str, Any]:
        options = ["nosuid", "nodev", f"size={size}", f"mode={mode}"]
        return {"type": "tmpfs", "source": "tmpfs", "destination": path, "options": options}

    size = bounds.WORKLOAD_TMPFS_BYTES
    mounts = [tmpfs("/tmp", size, "1777"), tmpfs("/run", size, "755")]
    for path, outside in network.files(launch.run_dir).items():
        options = ["nosuid", "nodev", "noexec", "ro"]
        mounts.append({"type": "bind", "source": str(outside), "destination": path, "options": options})
    for path, outside, read_only in launch.disk_volumes():
        options = ["nosuid", "nodev", "ro" if read_only else "rw"]
        mounts.append({"type": "bind", "source": str(outside), "destination": path, "options": options})
    for volume in launch.spec.volumes:
        if volume.kind is VolumeKind.RAM:
            mounts.append(tmpfs(volume.path, volume.size_bytes, "1777"))
    return mounts
