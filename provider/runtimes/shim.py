"""The process that owns one workload: started by the provider, outlives it.

    provider -> shim (own session) -> bwrap or crun -> the workload's first process

The shim holds the workload's output pipes and writes the log, holds the lock that says "alive", waits for the end
and records the exit code. So a provider that is killed and started again finds its workloads running, with no log
lost; and if the shim itself is killed, bwrap takes the workload down with it. Like conmon, and as small as that.

Run by path with `python -I -S`, standard library only, so that it starts in milliseconds and costs little memory:

    shim.py RUN_DIR LOCK_FD READY_FD

`RUN_DIR/recipe.json` says what to run. One line of JSON on READY_FD: `{"pid": ...}` or `{"error": ...}`. Left in
RUN_DIR: `state.json` once started, `exit.json` at the end, both put in place by rename.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import selectors
import signal
import sys
import time
from typing import NoReturn, TypedDict

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 0x4000, 0x40000
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
NS_GET_USERNS = 0xB701
PR_SET_PDEATHSIG = 1
READ_BYTES = 65_536
KEEP_ERROR_BYTES = 2_048
HYBRID = "/sys/fs/cgroup/unified"


class Recipe(TypedDict):
    """What the provider asks the shim to run."""

    executable: str
    argv: list[str]
    options: list[str]
    """bwrap only: given through a descriptor, so that no secret shows in a process list."""
    seccomp: str
    """Path of the BPF program; "" if the runner has another way."""
    pid_file: str
    """Where crun writes the workload's pid; "" for bwrap, which reports it through a descriptor."""
    uid: int | None
    """Whom to become before the runner starts; None stays."""
    stage: list[list[str]]
    """`[source, target]` below `stage_folder`, for a runner that could not walk to the source. Only with `uid`."""
    stage_folder: str
    limits: dict[str, int]
    """Of the runner and all below: names without RLIMIT_."""
    pids: int
    cgroups: list[str]
    """`cgroup.procs` files to enter."""
    log_dir: str
    log_file_bytes: int
    log_files: int
    log_line_bytes: int
    timeout_ms: int
    gate: str
    """A named pipe, or "": to wait, before the program runs, until somebody opens it for writing and closes it."""


class Log:
    """Lines with a time and a channel, in files that rotate: `<ms> <o|e> <F|P> <text>`; P: goes on in the next."""

    def __init__(self, recipe: Recipe) -> None:
        self._path = os.path.join(recipe["log_dir"], "log")
        self._limit = recipe["log_file_bytes"]
        self._files = recipe["log_files"]
        self._line = recipe["log_line_bytes"]
        self._rest = {"o": b"", "e": b""}
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def feed(self, channel: str, data: bytes) -> None:
        lines = (self._rest[channel] + data).split(b"\n")
        rest = lines.pop()
        records = [record for line in lines for record in self._cut(line)]
        while len(rest) > self._line:
            records.append((b"P", rest[: self._line]))
            rest = rest[self._line :]
        self._rest[channel] = rest
        self._write(channel, records)

    def close(self) -> None:
        for channel, rest in self._rest.items():
            if rest:
                self._write(channel, [(b"P", rest)])
        os.close(self._fd)

    def _cut(self, line: bytes) -> list[tuple[bytes, bytes]]:
        parts = [line[at : at + self._line] for at in range(0, len(line), self._line)] or [b""]
        return [(b"P", part) for part in parts[:-1]] + [(b"F", parts[-1])]

    def _write(self, channel: str, records: list[tuple[bytes, bytes]]) -> None:
        stamp = f"{time.time_ns() // 1_000_000} {channel} ".encode()
        for kind, text in records:
            record = stamp + kind + b" " + text + b"\n"
            if self._size and self._size + len(record) > self._limit:
                self._rotate()
            try:
                self._size += os.write(self._fd, record)
            except OSError:
                return  # a full disk costs log lines, not the workload

    def _rotate(self) -> None:
        os.close(self._fd)
        for number in range(self._files - 2, -1, -1):
            name = f"{self._path}.{number}" if number else self._path
            if os.path.exists(name):
                os.replace(name, f"{self._path}.{number + 1}")
        self._open()


def main() -> None:
    run_dir, lock_fd, ready_fd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for fd in (lock_fd, ready_fd):
        os.set_inheritable(fd, False)
    if os.fork():
        os._exit(0)  # the workload belongs to nobody's children: the provider need not reap it
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with open(os.path.join(run_dir, "recipe.json"), "rb") as file:
        recipe: Recipe = json.load(file)
    try:
        run = Run(recipe, run_dir)
        report: dict[str, object] = {"pid": run.start()}
    except OSError as error:
        report = {"error": str(error)}
    os.write(ready_fd, json.dumps(report).encode() + b"\n")
    os.close(ready_fd)
    if "error" in report:
        sys.exit(1)
    run.attend()


class Run:
    """One workload from its start to its end."""

    def __init__(self, recipe: Recipe, run_dir: str) -> None:
        self._recipe = recipe
        self._dir = run_dir
        self._log = Log(recipe)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._status_text = b""

    def start(self) -> int:
        """Start the runner and return the pid of the workload's first process.  Raises `OSError`."""
        self._out, out = os.pipe()
        self._err, err = os.pipe()
        self._status, status = os.pipe()
        block, self._release = os.pipe()
        self._runner = os.fork()
        if not self._runner:
            self._become_runner(out, err, status, block)
        for fd in (out, err, status, block):
            os.close(fd)
        try:
            return self._see_it_start()
        except OSError:
            os.kill(self._runner, signal.SIGKILL)
            os.waitpid(self._runner, 0)
            raise

    def _see_it_start(self) -> int:
        pid = self._await_pid()
        if not self._recipe["pid_file"]:
            self._last_touches(pid)
        started = {
            "shim": os.getpid(),
            "shim_ticks": start_ticks(os.getpid()),
            "pid": pid,
            "pid_ticks": self._ticks(pid),
            "runner": self._runner,
            "boot": boot_id(),
            "started_at": time.time_ns() // 1_000_000,
        }
        self._leave("state.json", started)
        if not self._recipe["pid_file"]:
            if self._recipe["gate"]:
                self._wait_at(self._recipe["gate"])
            with contextlib.suppress(BrokenPipeError):  # it failed, and is asked why below
                os.write(self._release, b"x")
            self._confirm(pid)
        os.close(self._release)
        return pid

    def _wait_at(self, gate: str) -> None:
        """Not for ever: a provider that was killed meanwhile links what it finds running."""
        waiting = select.poll()
        fd = os.open(gate, os.O_RDONLY | os.O_NONBLOCK)
        waiting.register(fd, select.POLLHUP)
        waiting.poll(self._recipe["timeout_ms"])
        os.close(fd)

    def _ticks(self, pid: int) -> int:
        """As `start_ticks`; -1, which no process has, if it has come and gone already."""
        try:
            return start_ticks(pid)
        except (FileNotFoundError, ProcessLookupError):
            return -1

    def attend(self) -> None:
        """Pump output into the log until the workload ends; leave its exit code behind."""
        selector = selectors.DefaultSelector()
        ended = os.pidfd_open(self._runner)
        for fd, what in ((self._out, "o"), (self._err, "e"), (self._status, "s"), (ended, "end")):
            os.set_blocking(fd, False)
            selector.register(fd, selectors.EVENT_READ, what)
        over = False
        while not over:
            for key, _ in selector.select():
                if key.data == "end":
                    over = True
                elif not self._take(key.fd, key.data):
                    selector.unregister(key.fd)
        for fd, what in ((self._out, "o"), (self._err, "e"), (self._status, "s")):
            while self._take(fd, what):
                pass
        self._log.close()
        _, status = os.waitpid(self._runner, 0)
        code = os.waitstatus_to_exitcode(status)
        self._leave("exit.json", {"code": 128 - code if code < 0 else code, "at": time.time_ns() // 1_000_000})

    def _take(self, fd: int, what: str) -> bool:
        """Read once; False at the end, or when nothing is there."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        if what != "s":
            self._log.feed(what, data)
        return bool(data)

    def _become_runner(self, out: int, err: int, status: int, block: int) -> NoReturn:
        """In the child: set everything up and become bwrap or crun."""
        try:
            recipe = self._recipe
            executable = os.open(recipe["executable"], os.O_RDONLY)
            argv = recipe["argv"]
            if not recipe["pid_file"]:
                argv = with_descriptors(recipe, status, block)
            for path in recipe["cgroups"]:
                put(path, b"0")
            if recipe["uid"] is not None:
                self._stage(recipe["stage_folder"], recipe["stage"])
            limit_resources(recipe["limits"])
            os.chdir("/")
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            if recipe["uid"] is not None:
                become(recipe["uid"])
            self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)  # Python ignores some, and that would be inherited
            os.set_inheritable(executable, True)
            # No PATH: crun would find newuidmap, which only complains, into the workload's log.
            environment = {"PATH": "/nonexistent", "XDG_RUNTIME_DIR": "/nonexistent"}
            # By descriptor: the path may lie where the user this now is cannot walk.
            os.execve(f"/proc/self/fd/{executable}", argv, environment)
        except OSError as error:
            os.write(err, f"cannot start the runner: {error}\n".encode())
        finally:
            os._exit(126)  # whatever happens: never two of the shim

    def _stage(self, folder: str, stage: list[list[str]]) -> None:
        """In a mount namespace of the runner's own, put what it needs into a folder that anybody can walk to."""
        self._check(self._libc.unshare(CLONE_NEWNS))
        self._check(self._libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
        sources = [(os.open(source, os.O_PATH), target) for source, target in stage]
        self._check(
            self._libc.mount(b"tmpfs", folder.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=755,size=64k")
        )
        for fd, target in sources:
            os.mkdir(target)
            self._check(self._libc.mount(f"/proc/self/fd/{fd}".encode(), target.encode(), None, MS_BIND, None))
            os.close(fd)
        if self._recipe["pid_file"] and os.path.isdir(HYBRID):
            # crun refuses a hybrid of both cgroup versions even where it is to leave them alone: hide it.
            self._check(self._libc.mount(b"tmpfs", b"/sys/fs/cgroup", b"tmpfs", MS_NOSUID | MS_NODEV, b"size=4k"))

    def _await_pid(self) -> int:
        deadline = time.monotonic() + self._recipe["timeout_ms"] / 1000
        while time.monotonic() < deadline:
            if self._recipe["pid_file"]:
                pid = read_pid(self._recipe["pid_file"])
                time.sleep(0 if pid else 0.002)  # crun offers no event to wait for
            else:
                pid = self._pid_from_status(deadline)
            if pid:
                return pid
            if os.waitid(os.P_PID, self._runner, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                pid = read_pid(self._recipe["pid_file"]) if self._recipe["pid_file"] else 0
                if pid:
                    return pid
                break
        raise OSError(f"the sandbox did not start: {self._complaint()}")

    def _pid_from_status(self, deadline: float) -> int:
        with selectors.DefaultSelector() as selector:
            selector.register(self._status, selectors.EVENT_READ)
            if not selector.select(max(0, deadline - time.monotonic())):
                return 0
        data = os.read(self._status, READ_BYTES)
        self._status_text += data
        line, newline, _ = self._status_text.partition(b"\n")
        if newline:
            return int(json.loads(line)["child-pid"])
        if not data:
            os.waitid(os.P_PID, self._runner, os.WEXITED | os.WNOWAIT)
        return 0

    def _last_touches(self, pid: int) -> None:
        """While bwrap still holds the workload back: limit its processes, let it listen on low ports.

        By a child that becomes the workload's user: a limit on processes that were set earlier would count
        everything that user runs outside, and low ports are a setting of the network namespace.
        """
        told, complaints = os.pipe()
        child = os.fork()
        if not child:
            try:
                network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
                owner = fcntl.ioctl(network, NS_GET_USERNS)
                if self._recipe["uid"] is not None:
                    become(self._recipe["uid"])
                resource.prlimit(pid, resource.RLIMIT_NPROC, (self._recipe["pids"], self._recipe["pids"]))
                self._check(self._libc.setns(owner, CLONE_NEWUSER))
                self._check(self._libc.setns(network, CLONE_NEWNET))
                put("/proc/sys/net/ipv4/ip_unprivileged_port_start", b"0")
                os._exit(0)
            except (OSError, ValueError) as error:  # `resource` turns EPERM into ValueError
                os.write(complaints, str(error).encode())
            finally:
                os._exit(1)  # whatever happens: never two of the shim
        os.close(complaints)
        complaint = os.read(told, KEEP_ERROR_BYTES).decode()
        os.close(told)
        _, status = os.waitpid(child, 0)
        if status:
            raise OSError(f"the sandbox did not start: {self._complaint()}; {complaint}")

    def _confirm(self, pid: int) -> None:
        """bwrap reports a pid before it has built anything: wait until the program itself runs, or it failed."""
        deadline = time.monotonic() + self._recipe["timeout_ms"] / 1000
        children = f"/proc/{pid}/task/{pid}/children"
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, self._runner, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if b"exit-code" in self._status_text + os.read(self._status, READ_BYTES):
                    return  # it has already run and ended
                break
            try:
                with open(children, encoding="ascii") as file:
                    inner = file.read().split()
                if inner and os.readlink(f"/proc/{inner[0]}/exe") != os.readlink(f"/proc/{pid}/exe"):
                    return
            except FileNotFoundError:
                pass
            time.sleep(0.001)
        raise OSError(f"the sandbox did not start: {self._complaint()}")

    def _complaint(self) -> str:
        """What the runner said on its way out."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._err, selectors.EVENT_READ)
            text = os.read(self._err, KEEP_ERROR_BYTES) if selector.select(1) else b""
        return " ".join(text.decode("utf-8", "replace").split()) or "no reason given"

    def _leave(self, name: str, content: dict[str, object]) -> None:
        path = os.path.join(self._dir, name)
        with open(path + ".new", "w", encoding="ascii") as file:
            json.dump(content, file)
        os.replace(path + ".new", path)

    def _check(self, result: int) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def limit_resources(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def with_descriptors(recipe: Recipe, status: int, block: int) -> list[str]:
    """bwrap's arguments: all options but one in a memory file, with the descriptors it is to use."""
    filters = os.open(recipe["seccomp"], os.O_RDONLY)
    extra = ["--seccomp", str(filters), "--json-status-fd", str(status), "--block-fd", str(block)]
    options = os.memfd_create("options")
    os.pwrite(options, b"".join(os.fsencode(word) + b"\0" for word in (*recipe["options"], *extra)), 0)
    for fd in (filters, status, block, options):
        os.set_inheritable(fd, True)
    return [recipe["argv"][0], "--args", str(options), "--", *recipe["argv"][1:]]


def put(path: str, data: bytes) -> None:
    """Write without a codec: one that is not loaded yet cannot be loaded by a user who cannot walk to it."""
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, data)
    os.close(fd)


def read_pid(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read() or "0")
    except FileNotFoundError:
        return 0


def start_ticks(pid: int) -> int:
    """When process `pid` started, in clock ticks since boot: tells it from a later one of the same pid."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rsplit(")", 1)[1].split()[19])


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


if __name__ == "__main__":
    main()
