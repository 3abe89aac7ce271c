"""What docker is asked for: the body of `POST /containers/create` for one workload.

Isolation is that of the embedded runtime: no capabilities, no new privileges, our system call filter, a network of
loopback alone. The user namespace is the daemon's to give: see `docker`.
"""

from __future__ import annotations

import json
from typing import Any

from fondaco.protocol.limits import KIB
from fondaco.provider.runtimes import bounds, cgroups, network, seccomp
from fondaco.provider.runtimes.launch import Launch
from fondaco.provider.runtimes.port import VolumeKind

LONGEST_RECORD_BYTES = 128 * KIB
"""Of a log: 16 KiB, each byte of which may be written as six. A file is rotated after it was passed."""


def specification(launch: Launch, image: str, label: str, *, init: bool) -> dict[str, Any]:
    """`image`: by the name that docker has it under; `init` as `EngineClient.create` has it."""
    key, _, value = label.partition("=")
    wanted = cgroups.settings(launch.spec, cgroups.CONTROLLERS)
    profile = json.dumps(seccomp.oci_profile(seccomp.machine()))
    return {
        "Image": image,
        "Labels": {key: value},
        "Entrypoint": list(launch.argv[:1]),
        "Cmd": list(launch.argv[1:]),
        "Env": [f"{name}={text}" for name, text in launch.env],
        "WorkingDir": launch.working_dir,
        "Hostname": launch.spec.service,
        "HostConfig": {
            "NetworkMode": "none",
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", f"seccomp={profile}"],
            "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "ReadonlyRootfs": launch.spec.read_only_root,
            "Init": init,
            "RestartPolicy": {"Name": "no"},
            "CpuPeriod": cgroups.PERIOD_US,
            "CpuQuota": wanted["quota"],
            "Memory": wanted["memory"],
            "MemorySwap": wanted["memory"],
            "PidsLimit": wanted["pids"],
            "Ulimits": [
                {"Name": name.lower(), "Soft": most, "Hard": most}
                for name, most in {**launch.rlimits, "NPROC": launch.spec.pids}.items()
            ],
            "ShmSize": bounds.WORKLOAD_TMPFS_BYTES,
            "Tmpfs": _memory(launch),
            "Mounts": _mounts(launch),
            "LogConfig": {
                "Type": "json-file",
                "Config": {
                    "max-size": str(bounds.WORKLOAD_LOG_FILE_BYTES - LONGEST_RECORD_BYTES),
                    "max-file": str(bounds.WORKLOAD_LOG_FILES),
                    "mode": "blocking",
                    "compress": "false",
                },
            },
        },
    }


def _memory(launch: Launch) -> dict[str, str]:
    def options(size: int, mode: str) -> str:
        return f"rw,exec,nosuid,nodev,size={size},mode={mode}"

    size = bounds.WORKLOAD_TMPFS_BYTES
    found = {"/tmp": options(size, "1777"), "/run": options(size, "755")}
    for volume in launch.spec.volumes:
        if volume.kind is VolumeKind.RAM:
            found[volume.path] = options(volume.size_bytes, "1777")
    return found


def _mounts(launch: Launch) -> list[dict[str, Any]]:
    """Volumes; and files that docker would else make where its own data lies, for the tenant to fill."""
    files = network.files(launch.run_dir)
    for path, text in (("/etc/hostname", f"{launch.spec.service}\n"), ("/etc/resolv.conf", "")):
        if path not in files:
            files[path] = launch.run_dir / path.rpartition("/")[2]
            files[path].write_text(text, encoding="utf-8")
            files[path].chmod(0o644)
    bound = [*launch.disk_volumes(), *((path, outside, True) for path, outside in files.items())]
    return [
        {"Type": "bind", "Source": str(outside), "Target": path, "ReadOnly": read_only}
        for path, outside, read_only in bound
    ]
