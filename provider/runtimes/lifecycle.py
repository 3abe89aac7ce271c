"""A workload's directory: laid out, its shim started, its state read, itself ended and removed.

See `embedded` for what lies where and `shim` for the process that writes `state.json` and `exit.json`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import Millis
from fondaco.provider.runtimes import cgroups, logs, network, processes
from fondaco.provider.runtimes.cgroups import Cgroups
from fondaco.provider.runtimes.disk import Ceiling
from fondaco.provider.runtimes.launch import Backend, Launch
from fondaco.provider.runtimes.port import KILLED, Reason, State, VolumeKind, Workload, WorkloadId
from fondaco.provider.runtimes.processes import Process
from fondaco.provider.runtimes.shim import boot_id
from fondaco.provider.runtimes.unpack import remove_tree

SHIM = Path(__file__).with_name("shim.py")
IMAGE = "image.json"
READY_BYTES = 4_096
KILL_TIMEOUT_SECONDS = 10
SETTLE_SECONDS = 0.01
GATE_SECONDS = 0.002
UNLINKED, HELD = "unlinked.json", "held.json"


async def launch_workload(
    launch: Launch,
    backend: Backend,
    groups: Cgroups | None,
    link: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
) -> Workload:
    """Make the workload's directories and control groups, start its shim, and return once it runs.

    `link` is called when its namespaces are there, and before its program runs, where there is something to link.
    """
    lock = await trio.to_thread.run_sync(_lay_out, launch, backend, groups)
    try:
        async with trio.open_nursery() as nursery:
            if network.gate(launch.run_dir):
                nursery.start_soon(_link_at_gate, launch.run_dir, link)
            report = await _start_shim(launch.run_dir, lock)
            if "error" in report:
                nursery.cancel_scope.cancel()
    finally:
        os.close(lock)
    refused = read_json(launch.run_dir / UNLINKED)
    if refused is not None:
        await end(launch.run_dir, 0)
        await trio.to_thread.run_sync(remove, launch.run_dir)
        raise Refused(refused["code"], f"{launch.spec.id}: {refused['message']}")
    if "error" in report:
        await trio.to_thread.run_sync(remove, launch.run_dir)
        raise Refused("runtime.start", f"{launch.spec.id}: {report['error']}")
    return read_workload(launch.run_dir, launch.spec.id)


async def _link_at_gate(run_dir: Path, link: Callable[[], Awaitable[None]]) -> None:
    """What cannot be linked does not run."""
    while read_json(run_dir / "state.json") is None and not _held_back(run_dir):
        await trio.sleep(GATE_SECONDS)
    try:
        await link()
    except Refused as error:
        state = read_json(run_dir / "state.json") or read_json(run_dir / HELD)
        first = recorded(state, "pid") if state is not None else None
        if first is not None:
            _write(run_dir / UNLINKED, {"code": error.code, "message": error.message})
            first.send(signal.SIGKILL)
    finally:
        network.open_gate(run_dir)


def _held_back(run_dir: Path) -> bool:
    """Whether crun's hook has told of a container that waits at its gate; it is written down for the linker."""
    try:
        pid = int(json.loads((run_dir / "scratch" / network.HELD).read_bytes())["pid"])
    except (FileNotFoundError, ValueError):
        return False  # not yet, or not yet all of it
    first = processes.process(pid)
    if first is None:
        return False
    write_json(run_dir / HELD, {"pid": pid, "pid_ticks": first.ticks, "boot": boot_id()})
    return True


def _lay_out(launch: Launch, backend: Backend, groups: Cgroups | None) -> int:
    """Write all the shim needs; the descriptor returned holds the workload's lock."""
    claim(launch)
    made: tuple[str, ...] = ()
    try:
        if groups is not None:
            made = groups.make(launch.spec)
            launch = replace(
                launch,
                cgroups=made,
                hard_memory="memory" in groups.controllers,
                hard_pids="pids" in groups.controllers,
            )
        describe(launch)
        _write(launch.run_dir / "recipe.json", backend.recipe(launch))
        lock = os.open(launch.run_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except BaseException:
        cgroups.remove(made)
        remove_tree(launch.run_dir)
        raise
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def claim(launch: Launch) -> None:
    """Make the workload's directory.  Raises `Refused` `workload.exists` if it was not stopped."""
    try:
        launch.run_dir.mkdir(mode=0o700)
    except FileExistsError:
        raise Refused("workload.exists", f"workload {launch.spec.id} exists", hint="stop it first") from None


def describe(launch: Launch) -> None:
    """Make its other directories, and write down what outlives the provider."""
    launch.log_dir.mkdir(mode=0o700, exist_ok=True)
    logs.begin_run(launch.log_dir)
    launch.scratch.mkdir(mode=0o700)
    owned = [launch.scratch]
    for volume in launch.spec.volumes:
        path = launch.volume_path(volume.name)
        if volume.kind is VolumeKind.DISK and not path.is_dir():
            path.mkdir(mode=0o700)
            owned.append(path)
    if launch.uid is not None:
        for path in owned:
            shutil.chown(path, launch.uid, launch.uid)
    enterable(launch, launch.cgroups)
    network.describe(launch.run_dir, launch.spec, launch.egress)
    _write(launch.run_dir / "definition.json", {"definition": launch.spec.definition})
    _write(launch.run_dir / IMAGE, {"key": Path(launch.image.rootfs).name})
    if network.gate(launch.run_dir):
        os.mkfifo(launch.scratch / network.GATE, 0o644)
        (launch.scratch / network.GATE).chmod(0o644)
    limit_disk(launch.run_dir, launch.ceilings)
    persistent = [{"name": volume.name} for volume in launch.spec.volumes if volume.persistent]
    _write(launch.run_dir / "volumes.json", {"persistent": persistent})


def limit_disk(run_dir: Path, most: Sequence[tuple[Path, int]]) -> None:
    """Write down how many bytes may lie below each folder."""
    write_json(run_dir / "ceilings.json", {"ceilings": [[str(folder), size] for folder, size in most]})


def enterable(launch: Launch, groups: Sequence[str]) -> None:
    """Write down how commands are to run inside."""
    limits = launch.rlimits if launch.nproc is None else {**launch.rlimits, "NPROC": launch.nproc}
    inside = {"env": dict(launch.env), "cwd": launch.working_dir, "limits": limits, "cgroups": list(groups)}
    _write(launch.run_dir / "exec.json", inside)


async def _start_shim(run_dir: Path, lock: int) -> dict[str, Any]:
    """Start the shim in a session of its own; it forks away and reports on a pipe.

    The lock goes with it: held by us until it holds it too, it is never free while the workload may live.
    """
    reading, writing = os.pipe()
    async with trio.lowlevel.FdStream(reading) as reports:
        try:
            with (run_dir / "shim.err").open("wb") as complaints, trio.CancelScope(shield=True):
                await trio.run_process(
                    [sys.executable, "-I", "-S", str(SHIM), str(run_dir), str(lock), str(writing)],
                    stderr=complaints,
                    check=False,
                    pass_fds=[lock, writing],
                    start_new_session=True,
                    cwd="/",
                )
        finally:
            os.close(writing)
        report = b""
        with trio.CancelScope(shield=True):  # the shim answers within its own time limit
            while chunk := await reports.receive_some(READY_BYTES):
                report += chunk
    if not report:
        return {"error": (run_dir / "shim.err").read_text("utf-8", "replace")[-500:] or "the shim died"}
    answer: dict[str, Any] = json.loads(report)
    return answer


def read_workload(run_dir: Path, workload: WorkloadId, *, alive: bool | None = None) -> Workload:
    """What the files a shim leaves say of its workload; `alive` where there is no shim to hold the lock.

    The lock is asked first: a shim that ends between two questions has left its exit code before it let go.
    """
    held = _held(run_dir / "lock") if alive is None else alive
    state, ended = read_json(run_dir / "state.json"), read_json(run_dir / "exit.json")
    started_at = Millis(state["started_at"]) if state is not None else None
    if ended is not None:
        kind, pid, code = State.EXITED, None, ended["code"]
    elif not held:
        kind, pid, code = State.LOST, None, None
    elif state is None:
        kind, pid, code = State.STARTING, None, None
    else:
        kind, pid, code = State.RUNNING, state["pid"], None
    return Workload(
        id=workload,
        state=kind,
        pid=pid,
        exit_code=code,
        started_at=started_at,
        definition=(read_json(run_dir / "definition.json") or {}).get("definition", ""),
        reason=_reason(run_dir, code),
    )


def images_of(run: Path) -> frozenset[str]:
    """Names of the unpacked images that workloads below `run` are of, be they ended, until they are stopped."""
    keys = set()
    for path in run.glob(f"*/{IMAGE}"):
        # One that is just being written belongs to a start, which holds its image.
        with contextlib.suppress(ValueError):
            keys.add((read_json(path) or {}).get("key", ""))
    return frozenset(keys)


def _reason(run_dir: Path, code: int | None) -> Reason | None:
    if code is None:
        return None
    told = (read_json(run_dir / "reason.json") or {}).get("reason")
    if told is not None:
        return Reason(told)
    return Reason.MEMORY if code == KILLED and cgroups.ran_out(groups_of(run_dir)) else None


def groups_of(run_dir: Path) -> tuple[str, ...]:
    """The control groups made for the workload."""
    return tuple((read_json(run_dir / "exec.json") or {}).get("cgroups", ()))


def remove(run_dir: Path) -> None:
    """Remove what a workload that has ended leaves here and in the kernel."""
    cgroups.remove(groups_of(run_dir))
    remove_tree(run_dir)


def _held(lock: Path) -> bool:
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def recorded(state: dict[str, Any], which: str) -> Process:
    """The process recorded as `pid` or `shim`; one of an earlier boot is never alive."""
    ticks = state[f"{which}_ticks"] if state["boot"] == boot_id() else -1
    return Process(pid=state[which], ticks=ticks)


async def gone(process: Process) -> None:
    """Return once `process` no longer runs."""
    fd = process.open()
    if fd is None:
        return
    try:
        await trio.lowlevel.wait_readable(fd)
    finally:
        os.close(fd)


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return content


def write_json(path: Path, content: object) -> None:
    """Whole or not at all, for readers that come meanwhile."""
    fresh = path.with_name(path.name + ".new")
    _write(fresh, content)
    fresh.replace(path)


def _write(path: Path, content: object) -> None:
    path.touch(mode=0o600)
    path.write_text(json.dumps(content), encoding="utf-8")


def first_process(run_dir: Path) -> Process | None:
    """The workload's first process, or None if it does not run."""
    state = read_json(run_dir / "state.json")
    first = recorded(state, "pid") if state is not None else None
    return first if first is not None and first.alive() else None


def payload(run_dir: Path) -> Process | None:
    """What the tenant's command became: bwrap keeps a reaper of its own as the first process."""
    first = first_process(run_dir)
    recipe = read_json(run_dir / "recipe.json")
    if first is None or recipe is None or recipe.get("pid_file"):
        return first
    inner = processes.children(first.pid)
    return (processes.process(inner[0]) if inner else None) or first


async def _settled(run_dir: Path) -> dict[str, Any] | None:
    """What the shim wrote when it had started the workload; None if it never did.

    A provider that was killed in the middle of a start leaves a shim that is still at it, within a time limit.
    """
    while (state := read_json(run_dir / "state.json")) is None and _held(run_dir / "lock"):
        await trio.sleep(SETTLE_SECONDS)
    return state if state is not None else read_json(run_dir / "state.json")


def ceilings(run_dir: Path) -> tuple[Ceiling, ...]:
    """What the workload may take of the disk."""
    told = (read_json(run_dir / "ceilings.json") or {}).get("ceilings", [])
    return tuple(Ceiling(folder=Path(folder), bytes=size) for folder, size in told)


def kill(run_dir: Path, reason: Reason) -> None:
    """End the workload at once, and write down why."""
    first = first_process(run_dir)
    if first is not None:
        _write(run_dir / "reason.json", {"reason": reason})
        first.send(signal.SIGKILL)


async def ended(run_dir: Path) -> None:
    """Return once the workload no longer runs and its exit code is written down."""
    state = await _settled(run_dir)
    if state is not None:
        await gone(recorded(state, "shim"))


async def ask(run_dir: Path, grace_ms: int) -> None:
    """Ask the workload to end, and return once it has, or `grace_ms` later."""
    first, asked = first_process(run_dir), payload(run_dir)
    if first is not None and asked is not None and grace_ms:
        asked.send(signal.SIGTERM)
        with trio.move_on_after(grace_ms / 1000):
            await gone(first)


async def end(run_dir: Path, grace_ms: int) -> None:
    """Ask the workload to end, then make it; its shim ends with it."""
    state = await _settled(run_dir)
    if state is None:
        return
    first, shim = recorded(state, "pid"), recorded(state, "shim")
    await ask(run_dir, grace_ms)
    first.send(signal.SIGKILL)
    # The shim still drains the output and writes down how it ended.
    with trio.move_on_after(KILL_TIMEOUT_SECONDS):
        await gone(shim)
    shim.send(signal.SIGKILL)
    await gone(first)
