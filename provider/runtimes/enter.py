"""Runs one command inside a workload, confined as the workload is.

nsenter would join the namespaces with every capability in them and without the filter; this joins them, gives
everything up again, and only then runs the command. Run by path, standard library only:

    enter.py PID

with JSON on standard input: {"argv": [...], "env": {...}, "cwd": ..., "limits": {...}, "cgroups": [...],
"seccomp": hex}. Exit code: the command's, 128 plus the signal that killed it, 127 if there is no such command, 126
if it cannot be entered.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import struct
import sys
from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER = 0x20000, 0x4000000, 0x8000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP = 0x20000000, 0x40000000, 0x2000000
NS_GET_USERNS = 0xB701
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 28, 38
SECCOMP_MODE_FILTER = 2
NO_ROOT_LOCKED = 0b11 | 0b1100
"""SECBIT_NOROOT and NO_SETUID_FIXUP, both locked: being uid 0 inside gives nothing."""
CAPABILITIES = 64
KINDS = (
    ("pid", CLONE_NEWPID),
    ("net", CLONE_NEWNET),
    ("ipc", CLONE_NEWIPC),
    ("uts", CLONE_NEWUTS),
    ("cgroup", CLONE_NEWCGROUP),
    ("mnt", CLONE_NEWNS),
)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def main() -> None:
    request = json.load(sys.stdin)
    libc = ctypes.CDLL(None, use_errno=True)
    # Opened from here, where they can be seen; written to by the child alone, so that only it is counted.
    groups = [os.open(f"{group}/cgroup.procs", os.O_WRONLY) for group in request["cgroups"]]
    try:
        join(libc, int(sys.argv[1]))
    except OSError as error:
        sys.exit(f"cannot enter the workload: {error}")
    child = os.fork()  # only children are in the pid namespace that was joined
    if not child:
        for group in groups:
            os.write(group, b"0")
            os.close(group)
        become(libc, request)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(128 - code if code < 0 else code)


def check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def join(libc: Any, pid: int) -> None:
    """Enter all namespaces of `pid`.  The one that owns the others comes first, and the innermost user's last."""
    here = f"/proc/{pid}/ns/"
    fds = [(os.open(here + name, os.O_RDONLY), kind, name) for name, kind in KINDS]
    innermost = os.open(here + "user", os.O_RDONLY)
    owner = fcntl.ioctl(fds[1][0], NS_GET_USERNS)
    if os.geteuid() == 0:
        os.setgroups([])
    check(libc.setns(owner, CLONE_NEWUSER), "user")
    for fd, kind, name in fds:
        check(libc.setns(fd, kind), name)
    if os.fstat(owner).st_ino != os.fstat(innermost).st_ino:
        check(libc.setns(innermost, CLONE_NEWUSER), "inner user")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def become(libc: Any, request: dict[str, Any]) -> NoReturn:
    """In the child: give up every privilege and run the command."""
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them, and that would be inherited
        os.chdir(request["cwd"])
        limit_resources(request["limits"])
        for capability in range(CAPABILITIES):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        check(libc.prctl(PR_SET_SECUREBITS, NO_ROOT_LOCKED, 0, 0, 0), "securebits")
        check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        drop_capabilities(libc)
        filter_calls(libc, bytes.fromhex(request["seccomp"]))
        run(request["argv"], request["env"])
    except OSError as error:
        os.write(2, f"{request['argv'][0]}: {error.strerror or error}\n".encode())
        os._exit(127 if error.errno == errno.ENOENT else 126)


def limit_resources(limits: dict[str, int]) -> None:
    """Those of the workload: a command that is executed in it gets no more than it."""
    for name, value in limits.items():
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def drop_capabilities(libc: Any) -> None:
    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0), 8)
    nothing = ctypes.create_string_buffer(24)
    check(libc.capset(header, nothing), "capset")


def filter_calls(libc: Any, code: bytes) -> None:
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0), "seccomp")


def run(argv: list[str], env: dict[str, str]) -> NoReturn:
    if "/" in argv[0]:
        os.execve(argv[0], argv, env)
    for directory in env.get("PATH", "").split(":"):
        try:
            os.execve(f"{directory}/{argv[0]}", argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
    raise OSError(errno.ENOENT, "no such command")


if __name__ == "__main__":
    main()
