"""What isolation and limits really hold here: found by running a sandbox and looking at it from outside.

The sandbox runs a program of a hundred bytes made here, so that nothing of the machine is needed: without
arguments it waits to be looked at; with one it asks for a user namespace of its own and exits with the error.
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Sequence
from pathlib import Path

import trio

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import bounds, bubblewrap, crun, lifecycle, seccomp
from fondaco.provider.runtimes.launch import Backend, Launch
from fondaco.provider.runtimes.port import Capability, Image, ImageConfig, WorkloadSpec
from fondaco.provider.runtimes.unpack import MOUNT_POINTS, remove_tree

NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts")
HINT = (
    "install crun (`apt install crun`): its AppArmor profile allows user namespaces, which Ubuntu 24.04 and later "
    "forbid to a bubblewrap from PyPI; elsewhere check `sysctl user.max_user_namespaces`, and in a container "
    "allow user namespaces (seccomp=unconfined)"
)
EPERM = 1


def choose_backend() -> list[Backend]:
    """The backends found here, best first."""
    found: list[Backend | None] = [crun.find(), bubblewrap.find()]
    return [backend for backend in found if backend is not None]


def program() -> bytes:
    """The smallest ELF file that does what the module says.  Raises `KeyError` on another architecture."""
    machine, code = {
        "x86_64": (62, _X86_64),
        "aarch64": (183, b"".join(word.to_bytes(4, "little") for word in _AARCH64)),
    }[seccomp.machine()]
    base, headers = 0x400000, 64 + 56
    size = headers + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return ident + header + segment + code


_X86_64 = bytes.fromhex(
    "488b0424"  # mov rax, [rsp]: how many arguments
    "ffc8 7509"  # dec eax; jnz ask
    "b822000000 0f05 ebf7"  # wait: pause(); jmp wait
    "bf00000010 b810010000 0f05"  # ask: unshare(CLONE_NEWUSER)
    "f7d8 89c7 b83c000000 0f05"  # exit(-result)
)
_AARCH64 = (
    *(0xF94003E0, 0xF100041F, 0x54000101),  # ldr x0, [sp]; cmp x0, #1; b.ne ask
    *(0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003),  # wait: x0..x3 = 0
    *(0xD2800928, 0xD4000001, 0x17FFFFFA),  # ppoll(); b wait
    *(0xD2A20000, 0xD2800C28, 0xD4000001),  # ask: unshare(CLONE_NEWUSER)
    *(0xCB0003E0, 0xD2800BA8, 0xD4000001),  # exit(-result)
)


async def probe(backends: Sequence[Backend], home: Path, uid: int | None) -> tuple[Backend, Capability]:
    """The first of `backends` that isolates as it must, and what holds with it.

    Raises `Refused` `runtime.unavailable`, with what to install, if none does.
    """
    if not seccomp.machine():
        raise Refused("runtime.unavailable", f"no system call filter for {os.uname().machine}", hint=HINT)
    complaints = [] if backends else ["neither crun nor bubblewrap is here"]
    # Most images expect to write to their root: a backend that allows it goes before one that does not.
    writable = [(backend, True) for backend in backends if backend.overlays]
    for backend, overlay in [*writable, *((backend, False) for backend in backends)]:
        try:
            return backend, await _examine(backend, home, uid, overlay)
        except Refused as refused:
            complaints.append(f"{backend.name}: {refused.message}")
    raise Refused("runtime.unavailable", f"no sandbox can be made here: {'; '.join(complaints)}", hint=HINT)


async def _examine(backend: Backend, home: Path, uid: int | None, overlay: bool) -> Capability:
    top = home / f"probe-{secrets.token_hex(4)}"
    try:
        image = _image(top / "image", uid)
        for name in ("run", "logs", "volumes"):
            (top / name).mkdir()

        async def launch(*args: str) -> Path:
            spec = WorkloadSpec(
                lease=LeaseId(secrets.token_bytes(32)),
                service="probe",
                image="probe",
                args=args,
                cpu_milli=100,
                memory_bytes=64 * limits.MIB,
            )
            run_dir = top / "run" / spec.id
            await lifecycle.launch_workload(
                Launch(
                    spec=spec,
                    image=image,
                    run_dir=run_dir,
                    log_dir=top / "logs" / spec.id,
                    volumes_dir=top / "volumes",
                    uid=uid,
                    overlay=overlay,
                ),
                backend,
            )
            return run_dir

        asked = await launch("ask")
        await lifecycle.ended(asked)
        answer = (lifecycle.read_json(asked / "exit.json") or {}).get("code")
        waiting = await launch()
        try:
            found = await _look(waiting)
        finally:
            with trio.CancelScope(shield=True):
                await lifecycle.end(waiting, 0)
    finally:
        remove_tree(top)
    return _judge(backend, found, refused=answer == EPERM, overlay=overlay)


def _image(root: Path, uid: int | None) -> Image:
    for name in MOUNT_POINTS:
        (root / name).mkdir(parents=True)
    (root / "probe").write_bytes(program())
    (root / "probe").chmod(0o755)
    if uid is not None:
        for path in (root, *root.rglob("*")):
            os.chown(path, uid, uid)
    config = ImageConfig(entrypoint=("/probe",), cmd=(), env=(), working_dir="/")
    return Image(digest="", config=config, rootfs=str(root))


async def _look(run_dir: Path) -> dict[str, str]:
    """The lines of the program's /proc status and, under `ns:<kind>`, its namespaces."""
    with trio.move_on_after(bounds.WORKLOAD_START_TIMEOUT_MS / 1000):
        while (target := lifecycle.payload(run_dir)) is not None:
            text = Path(f"/proc/{target.pid}/status").read_text("utf-8", "replace")
            lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            if lines["Name"] == "probe":  # the last thing that changes: it runs
                return lines | {f"ns:{kind}": os.readlink(f"/proc/{target.pid}/ns/{kind}") for kind in NAMESPACES}
            await trio.sleep(0.001)
    raise Refused("runtime.start", "the sandbox started but its program did not")


def _judge(backend: Backend, found: dict[str, str], *, refused: bool, overlay: bool) -> Capability:
    own = tuple(kind for kind in NAMESPACES if found[f"ns:{kind}"] != os.readlink(f"/proc/self/ns/{kind}"))
    capability = Capability(
        backend=backend.name,
        version=backend.version(),
        namespaces=own,
        seccomp=found["Seccomp"].strip() == "2",
        no_capabilities=all(int(found[f"Cap{kind}"], 16) == 0 for kind in ("Prm", "Eff", "Bnd", "Amb")),
        no_new_privileges=found["NoNewPrivs"].strip() == "1",
        nested_namespaces_refused=refused,
        writable_root=overlay,
        hard_limits=(),
        limits_note="no hard limits: each process is bounded by resource limits, the workload as a whole is not",
    )
    missing = [kind for kind in NAMESPACES if kind not in own]
    if not capability.seccomp or not refused:
        missing.append("seccomp")
    if not capability.no_capabilities or not capability.no_new_privileges:
        missing.append("dropped privileges")
    if missing:
        raise Refused("runtime.unavailable", f"the sandbox lacks {', '.join(missing)}")
    return capability
