"""Runs one command inside a workload, confined as the workload is, and ends all of it when nobody wants it more.

nsenter would join the namespaces with every capability in them and without the filter; this joins them, gives
everything up again, and only then runs the command. Run by path, standard library only:

    enter.py PID INIT CONTROL_FD

PID is entered; INIT is the first process in there, to which orphans go. CONTROL_FD is a stream socket, on which
one line of JSON comes first: {"argv": [...], "env": {...}, "cwd": ..., "limits": {...}, "cgroups": [...],
"seccomp": hex, "terminal": [rows, columns] | null}. The answer is `ok` once the command runs, with the terminal's
other end where one was asked for, or else what is in the way. Then `signal N` lines may come. When the socket
closes, or the command has ended, whatever it started is killed: all its descendants, and all of its session. What
is to stay must have left the session by then (setsid).

Exit code: the command's, or 128 plus the signal that killed it; 127 if there is no such command, 126 if it cannot
run.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER = 0x20000, 0x4000000, 0x8000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP = 0x20000000, 0x40000000, 0x2000000
NS_GET_USERNS = 0xB701
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 28, 38
SECCOMP_MODE_FILTER = 2
NO_ROOT_LOCKED = 0b11 | 0b1100
"""SECBIT_NOROOT and NO_SETUID_FIXUP, both locked: being uid 0 inside gives nothing."""
CAPABILITIES = 64
TIOCSCTTY, TIOCSWINSZ, TIOCSPTLCK, TIOCGPTPEER = 0x540E, 0x5414, 0x40045431, 0x5441
PTMX = "/dev/pts/ptmx"
PTMX_DEVICE = os.makedev(5, 2)
KINDS = (
    ("pid", CLONE_NEWPID),
    ("net", CLONE_NEWNET),
    ("ipc", CLONE_NEWIPC),
    ("uts", CLONE_NEWUTS),
    ("cgroup", CLONE_NEWCGROUP),
    ("mnt", CLONE_NEWNS),
)
SWEEP_SECONDS = 5
SWEEP_PAUSE_SECONDS = 0.002


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def main() -> None:
    target, init, control = int(sys.argv[1]), int(sys.argv[2]), socket.socket(fileno=int(sys.argv[3]))
    control.set_inheritable(False)
    request = json.loads(control.makefile("rb").readline())
    standard = put_aside()
    libc = ctypes.CDLL(None, use_errno=True)
    started, running = os.pipe()
    try:
        # Opened from here, where they can be seen; written to by the child alone, so that only it is counted.
        groups = [os.open(f"{group}/cgroup.procs", os.O_WRONLY) for group in request["cgroups"]]
        outside = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        join(libc, target)
        master, slave = open_terminal(request["terminal"]) if request["terminal"] else (-1, -1)
        child = os.fork()  # only children are in the pid namespace that was joined
    except OSError as error:
        control.sendall(f"cannot enter the workload: {error.strerror or error}".encode())
        sys.exit(126)
    if not child:
        for fd in (control.fileno(), outside, started):
            os.close(fd)
        become(libc, request, groups, [slave] * 3 if slave >= 0 else standard)
    for fd in (running, *groups, *standard, *([slave] if slave >= 0 else [])):
        os.close(fd)
    os.read(started, 1)  # ends when the command runs, or failed to
    answer(control, master)
    attend(control, child)
    sweep(outside, child, init)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(128 - code if code < 0 else code)


def put_aside() -> list[int]:
    """Keep the standard streams for the command: what this process might say is not for the tenant."""
    standard = [os.dup(number) for number in (0, 1, 2)]
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    return standard


def answer(control: socket.socket, master: int) -> None:
    try:
        if master < 0:
            control.sendall(b"ok")
        else:
            socket.send_fds(control, [b"ok"], [master])
            os.close(master)  # while it is open here too, nobody hangs up
    except OSError:
        return  # nobody wants it any more: the command ends at once


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
    os.close(owner)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def open_terminal(size: Sequence[int]) -> tuple[int, int]:
    """A terminal of the workload's own kind, as it would have opened one itself: `tty` tells its name inside."""
    master = os.open(PTMX, os.O_RDWR | os.O_NOCTTY)
    found = os.fstat(master)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != PTMX_DEVICE:
        raise OSError(errno.ENODEV, f"{PTMX} makes no terminals")
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    os.set_inheritable(slave, False)
    fcntl.ioctl(slave, TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    return master, slave


def become(libc: Any, request: dict[str, Any], groups: Sequence[int], standard: Sequence[int]) -> NoReturn:
    """In the child: give up every privilege and run the command."""
    argv = [as_bytes(word) for word in request["argv"]]
    env = {as_bytes(name): as_bytes(value) for name, value in request["env"].items()}
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for fd in groups:
            os.write(fd, b"0")
        os.setsid()
        if request["terminal"]:
            fcntl.ioctl(standard[0], TIOCSCTTY, 0)
        for number, fd in enumerate(standard):
            os.dup2(fd, number)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them, and that would be inherited
        os.chdir(request["cwd"])
        for capability in range(CAPABILITIES):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        check(libc.prctl(PR_SET_SECUREBITS, NO_ROOT_LOCKED, 0, 0, 0), "securebits")
        check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        drop_capabilities(libc)
        limit_resources(request["limits"])
        filter_calls(libc, bytes.fromhex(request["seccomp"]))
        run(argv, env)
    except OSError as error:
        os.write(2, argv[0] + f": {error.strerror or error}\n".encode())
        os._exit(127 if error.errno == errno.ENOENT else 126)
    finally:
        os._exit(126)  # whatever happens: never two that attend


def as_bytes(text: str) -> bytes:
    """As the provider was given it: JSON knows only text."""
    return text.encode("utf-8", "surrogateescape")


def limit_resources(limits: dict[str, int]) -> None:
    """Those of the workload: a command that runs inside gets no more than it."""
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


def run(argv: list[bytes], env: dict[bytes, bytes]) -> NoReturn:
    if b"/" in argv[0]:
        os.execve(argv[0], argv, env)
    for directory in env.get(b"PATH", b"").split(b":"):
        try:
            os.execve(directory + b"/" + argv[0], argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
    raise OSError(errno.ENOENT, "no such command")


# --- Beside the command


def attend(control: socket.socket, child: int) -> None:
    """Pass signals on; return when the command has ended, or nobody wants it any more."""
    ended = os.pidfd_open(child)
    waiting = select.poll()
    for fd in (control.fileno(), ended):
        waiting.register(fd, select.POLLIN)
    rest = b""
    while ended not in (ready := [fd for fd, _ in waiting.poll()]):
        try:
            data = control.recv(4_096) if ready else b""
        except OSError:
            data = b""
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            try:
                os.killpg(child, int(line.removeprefix(b"signal ")))
            except ProcessLookupError:
                continue


def sweep(outside: int, child: int, init: int) -> None:
    """Kill all that the command started and return when it is gone; the command itself is left to be waited for.

    Its pid stays taken until then, so nobody else's session can be mistaken for its own.
    """
    deadline = time.monotonic() + SWEEP_SECONDS
    while time.monotonic() < deadline:
        mine = set(descendants(outside, child))
        mine |= {pid for pid in descendants(outside, init) if status(outside, pid)[1] == child}
        left = [pid for pid in mine if status(outside, pid)[0] not in "ZX"]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(SWEEP_PAUSE_SECONDS)


def descendants(outside: int, pid: int) -> Iterator[int]:
    """`pid` and all below it, as the host sees them."""
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        yield one
        for task in tasks_of(outside, one):
            waiting.extend(int(word) for word in read(outside, f"{one}/task/{task}/children").split())


def tasks_of(outside: int, pid: int) -> list[str]:
    try:
        directory = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=outside)
    except OSError:
        return []
    try:
        return os.listdir(directory)
    except OSError:
        return []
    finally:
        os.close(directory)


def status(outside: int, pid: int) -> tuple[str, int]:
    """State and session of a process; one that is gone counts as dead."""
    fields = read(outside, f"{pid}/stat").rpartition(b")")[2].split()
    return (fields[0].decode(), int(fields[3])) if fields else ("X", 0)


def read(directory: int, name: str) -> bytes:
    """A file of /proc, whole; empty if what it tells of is gone."""
    try:
        fd = os.open(name, os.O_RDONLY, dir_fd=directory)
    except OSError:
        return b""
    content = b""
    try:
        while part := os.read(fd, 65_536):
            content += part
    except OSError:
        return b""
    finally:
        os.close(fd)
    return content


if __name__ == "__main__":
    main()
