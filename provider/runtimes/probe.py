"""What isolation and limits really hold here: found by running a sandbox and looking at it from outside.

The sandbox runs a program of a hundred bytes made here, so that nothing of the machine is needed: without
arguments it waits to be looked at; with one it asks for a user namespace of its own and exits with the error; with
two it asks for 128 MiB of memory, and exits with the error, or is killed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import bounds, bubblewrap, crun, lifecycle, seccomp
from fondaco.provider.runtimes.cgroups import Cgroups
from fondaco.provider.runtimes.launch import Backend, Launch
from fondaco.provider.runtimes.port import (
    NAMESPACES,
    Capability,
    Image,
    ImageConfig,
    Reason,
    Workload,
    WorkloadId,
    WorkloadSpec,
)
from fondaco.provider.runtimes.unpack import MOUNT_FILES, MOUNT_POINTS, remove_tree

HINT = (
    "install crun (`apt install crun`): its AppArmor profile allows user namespaces, which Ubuntu 24.04 and later "
    "forbid to a bubblewrap from PyPI; elsewhere check `sysctl user.max_user_namespaces`, and in a container "
    "allow user namespaces (seccomp=unconfined)"
)
EPERM = 1
ENOMEM = 12
BOUNDED = "each process is bounded by resource limits, the workload as a whole is not"
UNBOUNDED = "nothing bounds memory"
MEMORY_BYTES = 32 * limits.MIB
"""What a sandbox here may have: less than the greedy program asks for."""


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
    "83f802 740b 7717"  # cmp eax, 2; je ask; ja eat
    "b822000000 0f05 ebf7"  # wait: pause(); jmp wait
    "bf00000010 b810010000 0f05 eb36"  # ask: unshare(CLONE_NEWUSER); jmp leave
    "bb80000000"  # eat: 128 times
    "31ff be00001000 ba03000000 41ba22800000 49c7c0ffffffff 4531c9 b809000000 0f05"  # next: mmap(a mebibyte)
    "483d01f0ffff 7306 ffcb 75d1 31c0"  # cmp rax, -4095; jae leave; dec ebx; jne next; 0
    "f7d8 89c7 b83c000000 0f05"  # leave: exit(-result)
)
_AARCH64 = (
    *(0xF94003E0, 0xF100081F, 0x54000120, 0x54000188),  # ldr x0, [sp]; cmp x0, #2; b.eq ask; b.hi eat
    *(0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003),  # wait: x0..x3 = 0
    *(0xD2800928, 0xD4000001, 0x17FFFFFA),  # ppoll(); b wait
    *(0xD2A20000, 0xD2800C28, 0xD4000001, 0x1400000F),  # ask: unshare(CLONE_NEWUSER); b leave
    0xD2801013,  # eat: 128 times
    *(0xD2800000, 0xD2A00201, 0xD2800062, 0xD2900443, 0x92800004, 0xD2800005),  # next: a mebibyte, populated
    *(0xD2801BC8, 0xD4000001),  # mmap()
    *(0xB13FFC1F, 0x54000082, 0xF1000673, 0x54FFFEA1, 0xD2800000),  # cmn x0, #4095; b.hs leave; again; 0
    *(0xCB0003E0, 0xD2800BA8, 0xD4000001),  # leave: exit(-result)
)
"""Assembled from the same steps for both. 0x8022 is MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE."""


async def probe(
    backends: Sequence[Backend], home: Path, uid: int | None, groups: Cgroups | None = None, no_groups: str = ""
) -> tuple[Backend, Capability]:
    """The first of `backends` that isolates as it must, and what holds with it.

    `groups`: where control groups can be made, else `no_groups` says why not. Whether they hold is found out.
    Raises `Refused` `runtime.unavailable`, with what to install, if none does.
    """
    if not seccomp.machine():
        raise Refused("runtime.unavailable", f"no system call filter for {os.uname().machine}", hint=HINT)
    complaints = [] if backends else ["neither crun nor bubblewrap is here"]
    # Most images expect to write to their root: a backend that allows it goes before one that does not.
    writable = [(backend, True) for backend in backends if backend.overlays]
    for backend, overlay in [*writable, *((backend, False) for backend in backends)]:
        try:
            return backend, await _examine(backend, home, uid, overlay, groups, no_groups)
        except Refused as refused:
            complaints.append(f"{backend.name}: {refused.message}")
    raise Refused("runtime.unavailable", f"no sandbox can be made here: {'; '.join(complaints)}", hint=HINT)


async def _examine(
    backend: Backend, home: Path, uid: int | None, overlay: bool, groups: Cgroups | None, no_groups: str
) -> Capability:
    top = home / f"probe-{secrets.token_hex(4)}"
    try:
        image = image_of(top / "image", uid)
        for name in ("run", "logs", "volumes"):
            (top / name).mkdir()
        trial = _Trial(backend=backend, top=top, image=image, uid=uid, overlay=overlay)
        if groups is not None:
            try:
                killed = (await trial.outcome(groups, "eat", "more")).reason is Reason.MEMORY
                groups, no_groups = (groups, "") if killed else (None, "control groups limit nothing here")
            except Refused as error:
                groups, no_groups = None, error.message
        bounded = groups is not None or (await trial.outcome(None, "eat", "more")).exit_code == ENOMEM
        refused = (await trial.outcome(groups, "ask")).exit_code == EPERM
        async with trial.running(groups) as run_dir:
            found = await look(run_dir)
    finally:
        remove_tree(top)
    note = "" if groups is not None else f"no hard limits: {no_groups}; {BOUNDED if bounded else UNBOUNDED}"
    return judge(
        backend.name,
        backend.version(),
        found,
        refused=refused,
        overlay=overlay,
        hard=() if groups is None else groups.controllers,
        note=note,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """Starts the program in sandboxes."""

    backend: Backend
    top: Path
    image: Image
    uid: int | None
    overlay: bool

    @asynccontextmanager
    async def running(self, groups: Cgroups | None, *args: str) -> AsyncIterator[Path]:
        """A sandbox until the block ends; yields its directory."""
        spec = trial(args)
        run_dir = self.top / "run" / spec.id
        launch = Launch(
            spec=spec,
            image=self.image,
            run_dir=run_dir,
            log_dir=self.top / "logs" / spec.id,
            volumes_dir=self.top / "volumes",
            uid=self.uid,
            overlay=self.overlay,
        )
        await lifecycle.launch_workload(launch, self.backend, groups)
        try:
            yield run_dir
        finally:
            with trio.CancelScope(shield=True):
                await lifecycle.end(run_dir, 0)
                await trio.to_thread.run_sync(lifecycle.remove, run_dir)

    async def outcome(self, groups: Cgroups | None, *args: str) -> Workload:
        """How the program ended."""
        async with self.running(groups, *args) as run_dir:
            await lifecycle.ended(run_dir)
            return lifecycle.read_workload(run_dir, WorkloadId(run_dir.name))


def image_of(root: Path, uid: int | None) -> Image:
    """An image below `root` that has only the program."""
    for name in MOUNT_POINTS:
        (root / name).mkdir(parents=True)
    for name in MOUNT_FILES:
        (root / name).touch()
    (root / "probe").write_bytes(program())
    (root / "probe").chmod(0o755)
    if uid is not None:
        for path in (root, *root.rglob("*")):
            os.chown(path, uid, uid)
    config = ImageConfig(entrypoint=("/probe",), cmd=(), env=(), working_dir="/")
    return Image(digest="", config=config, rootfs=str(root))


def trial(args: tuple[str, ...] = ()) -> WorkloadSpec:
    """Something of no lease that runs the program."""
    return WorkloadSpec(
        lease=LeaseId(secrets.token_bytes(32)),
        service="probe",
        image="probe",
        args=args,
        cpu_milli=500,
        memory_bytes=MEMORY_BYTES,
    )


def image_key() -> str:
    """A name for that image, and for no other."""
    return f"probe-{hashlib.sha256(program()).hexdigest()[:12]}"


async def look(run_dir: Path) -> dict[str, str]:
    """The lines of the program's /proc status and, under `ns:<kind>`, its namespaces."""
    with trio.move_on_after(bounds.WORKLOAD_START_TIMEOUT_MS / 1000):
        while (target := lifecycle.payload(run_dir)) is not None:
            text = Path(f"/proc/{target.pid}/status").read_text("utf-8", "replace")
            lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            if lines["Name"] == "probe":  # the last thing that changes: it runs
                return lines | {f"ns:{kind}": os.readlink(f"/proc/{target.pid}/ns/{kind}") for kind in NAMESPACES}
            await trio.sleep(0.001)
    raise Refused("runtime.start", "the sandbox started but its program did not")


def judge(
    name: str,
    version: str,
    found: dict[str, str],
    *,
    refused: bool,
    overlay: bool,
    hard: tuple[str, ...],
    note: str,
) -> Capability:
    """From what was seen of the program.  Raises `Refused` `runtime.unavailable` unless it was isolated."""
    own = tuple(kind for kind in NAMESPACES if found[f"ns:{kind}"] != os.readlink(f"/proc/self/ns/{kind}"))
    capability = Capability(
        backend=name,
        version=version,
        namespaces=own,
        seccomp=found["Seccomp"].strip() == "2",
        no_capabilities=all(int(found[f"Cap{kind}"], 16) == 0 for kind in ("Prm", "Eff", "Bnd", "Amb")),
        no_new_privileges=found["NoNewPrivs"].strip() == "1",
        nested_namespaces_refused=refused,
        writable_root=overlay,
        hard_limits=hard,
        limits_note=note,
    )
    missing = [kind for kind in NAMESPACES if kind not in own]
    if not capability.seccomp or not refused:
        missing.append("seccomp")
    if not capability.no_capabilities or not capability.no_new_privileges:
        missing.append("dropped privileges")
    if missing:
        raise Refused("runtime.unavailable", f"the sandbox lacks {', '.join(missing)}")
    return capability
