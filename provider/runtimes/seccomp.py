"""The system calls no workload may make, as a classic BPF program and as an OCI seccomp profile.

Namespaces and an empty capability set already stop most of these. The filter removes kernel code from reach that
has been broken before: new namespaces, mounts, key rings, BPF, perf, userfaultfd, io_uring, module loading. What
is denied gets EPERM; `clone3` gets ENOSYS because its flags lie behind a pointer no filter can follow, and libc
then falls back to `clone`, whose flags are checked. Sockets outside unix, inet, inet6 and netlink are refused:
vsock is not confined by a network namespace and reaches the machine that hosts this one.

Numbers: Linux `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`.
"""

from __future__ import annotations

import errno
import platform
import struct

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
SOCKET_DOMAINS = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK."""
TERMINAL_INJECTION = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put characters into a terminal's input."""

# name: (x86_64, aarch64); None where the architecture lacks it.
DENIED: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setns": (308, 268),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
CLONE = (56, 220)
CLONE3 = (435, 435)
SOCKET = (41, 198)
IOCTL = (16, 29)

_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24
"""Offsets in `struct seccomp_data`; the low halves of the arguments, both architectures being little-endian."""


def machine() -> str:
    """The architecture the filter is for here, `x86_64` or `aarch64`; "" if there is no filter for it."""
    name = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine(), platform.machine())
    return name if name in AUDIT_ARCH else ""


def program(arch: str) -> bytes:
    """The filter for `arch`: an array of `struct sock_filter`, ready for the kernel or for bwrap."""
    column = list(AUDIT_ARCH).index(arch)
    eperm = _ERRNO | errno.EPERM
    code: list[bytes] = []

    def emit(op: int, value: int, if_true: int = 0, if_false: int = 0) -> None:
        code.append(struct.pack("<HBBI", op, if_true, if_false, value))

    emit(_LOAD, _ARCH)
    emit(_JEQ, AUDIT_ARCH[arch], 1, 0)
    emit(_RET, eperm)  # another architecture's numbers mean other calls
    emit(_LOAD, _NR)
    if arch == "x86_64":
        emit(_JGE, 0x40000000, 0, 1)  # the x32 numbers of the same calls
        emit(_RET, eperm)
    for numbers in DENIED.values():
        number = numbers[column]
        if number is not None:
            emit(_JEQ, number, 0, 1)
            emit(_RET, eperm)
    emit(_JEQ, CLONE3[column], 0, 1)
    emit(_RET, _ERRNO | errno.ENOSYS)
    emit(_JEQ, CLONE[column], 0, 4)
    emit(_LOAD, _ARG0)
    emit(_JSET, NAMESPACE_FLAGS, 0, 1)
    emit(_RET, eperm)
    emit(_RET, _ALLOW)
    emit(_JEQ, SOCKET[column], 0, 3 + len(SOCKET_DOMAINS))
    emit(_LOAD, _ARG0)
    for left, domain in zip(range(len(SOCKET_DOMAINS), 0, -1), SOCKET_DOMAINS, strict=True):
        emit(_JEQ, domain, left, 0)
    emit(_RET, _ERRNO | errno.EAFNOSUPPORT)
    emit(_RET, _ALLOW)
    emit(_JEQ, IOCTL[column], 0, 1 + 2 * len(TERMINAL_INJECTION))
    emit(_LOAD, _ARG1)
    for request in TERMINAL_INJECTION:
        emit(_JEQ, request, 0, 1)
        emit(_RET, eperm)
    emit(_RET, _ALLOW)
    return b"".join(code)


def oci_profile(arch: str) -> dict[str, object]:
    """The same rules as the `linux.seccomp` object of an OCI runtime configuration."""
    column = list(AUDIT_ARCH).index(arch)
    names = sorted(name for name, numbers in DENIED.items() if numbers[column] is not None)

    def rule(names: list[str], error: int, *args: dict[str, object]) -> dict[str, object]:
        return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": error, "args": list(args)}

    def masked(flag: int) -> dict[str, object]:
        return {"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}

    flags = [1 << bit for bit in range(32) if NAMESPACE_FLAGS >> bit & 1]
    unlisted = [n for n in range(max(SOCKET_DOMAINS)) if n not in SOCKET_DOMAINS]
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [f"SCMP_ARCH_{arch.upper()}"],
        "syscalls": [
            rule(names, errno.EPERM),
            rule(["clone3"], errno.ENOSYS),
            *(rule(["clone"], errno.EPERM, masked(flag)) for flag in flags),
            *(
                rule(["socket"], errno.EAFNOSUPPORT, {"index": 0, "value": n, "op": "SCMP_CMP_EQ"})
                for n in unlisted
            ),
            rule(
                ["socket"],
                errno.EAFNOSUPPORT,
                {"index": 0, "value": max(SOCKET_DOMAINS), "op": "SCMP_CMP_GT"},
            ),
            *(
                rule(["ioctl"], errno.EPERM, {"index": 1, "value": n, "op": "SCMP_CMP_EQ"})
                for n in TERMINAL_INJECTION
            ),
        ],
    }
