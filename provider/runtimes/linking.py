"""The provider's side of `links.linker`: started, told to look, watched, ended.

`links/<lease>/` below the home of a runtime holds lock, state and socket of the lease's linker, and is there as
long as that is wanted: while a workload of the lease that was started and not stopped may reach something. A
linker that ends while it is wanted is started again, and so is one that a killed provider left behind dead.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import trio

import fondaco
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import bounds, lifecycle, network
from fondaco.provider.runtimes.network import NO_EGRESS, Egress
from fondaco.provider.runtimes.port import WorkloadSpec, parse_workload_id
from fondaco.provider.runtimes.processes import Process
from fondaco.provider.runtimes.shim import boot_id
from fondaco.provider.runtimes.unpack import remove_tree

log = logging.getLogger(__name__)

CODE = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from fondaco.provider.runtimes.links.linker import main; main()"
)
PROGRAM = (sys.executable, "-I", "-S", "-c", CODE)
"""Nothing of the environment is read, and nothing but the standard library is there."""
SOURCES = Path(fondaco.__file__).parent.parent
WATCH_S = 1.0
END_S = 5.0
ANSWER_BYTES = 65_536


class Linking:
    """The linkers of all leases at one home."""

    def __init__(self, home: Path, egress: Egress = NO_EGRESS) -> None:
        self._home = home
        self.egress = egress
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    async def link(self, specs: Sequence[WorkloadSpec]) -> None:
        """See `port.Runtime.link`.  Raises `Refused` `runtime.links`."""
        for spec in specs:
            run_dir = self._home / "run" / spec.id
            if (run_dir / network.LINKS).is_file():
                network.rewrite(run_dir, spec, self.egress)
        for lease in {spec.lease for spec in specs}:
            await self.refresh(lease)
        for spec in specs:  # whoever started them may have been killed before it let them go on
            network.open_gate(self._home / "run" / spec.id)

    async def refresh(self, lease: LeaseId, of: str = "") -> None:
        """Have the linker as the folders say: there and up to date, or gone.

        Raises `Refused` `runtime.links` with what could not be linked: of `service.replica`, or of any.
        """
        name = lease.hex()
        lock = self._locks.get(name) or self._locks.setdefault(name, trio.Lock())
        with trio.CancelScope(shield=True):
            async with lock:
                if self._wanted(name):
                    problems = await self._ask(name, b"look\n")
                    if problems is None:
                        problems = await self._start(name)
                    problems = [one for one in problems if not of or one.startswith(f"{of}: ")]
                    if problems:
                        raise Refused("runtime.links", "; ".join(problems)[:500])
                elif self._folder(name).is_dir():
                    await self._end(name)

    def _wanted(self, lease: str) -> bool:
        """Whether a workload of the lease that was started may reach something."""
        told = [
            lifecycle.read_json(path) or {} for path in (self._home / "run").glob(f"{lease}.*/{network.LINKS}")
        ]
        return any(one.get("links") or one.get("outward") for one in told)

    def _folder(self, lease: str) -> Path:
        return self._home / "links" / lease

    async def _start(self, lease: str) -> list[str]:
        """Start it in a session of its own; what it could not link."""
        folder = self._folder(lease)
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        reading, writing = os.pipe()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            async with trio.lowlevel.FdStream(reading) as ready:
                try:
                    with (folder / "complaints").open("wb") as complaints:
                        await trio.run_process(
                            [*PROGRAM, str(SOURCES), str(self._home), lease, str(lock), str(writing)],
                            stderr=complaints,
                            check=False,
                            pass_fds=[lock, writing],
                            start_new_session=True,
                            cwd="/",
                        )
                finally:
                    os.close(writing)
                answer = b""
                with trio.move_on_after(bounds.WORKLOAD_START_TIMEOUT_MS / 1000):
                    while chunk := await ready.receive_some(ANSWER_BYTES):
                        answer += chunk
        except BlockingIOError:
            os.close(reading)
            os.close(writing)
            raise Refused("runtime.links", "the linker of the lease does not answer", hint="try again") from None
        finally:
            os.close(lock)
        if not answer:
            said = (folder / "complaints").read_text("utf-8", "replace")[-500:]
            raise Refused(
                "runtime.links", f"the linker does not start: {' '.join(said.split()) or 'it says nothing'}"
            )
        problems: list[str] = json.loads(answer)["problems"]
        return problems

    async def _ask(self, lease: str, question: bytes) -> list[str] | None:
        """What it could not do, or None if it does not run."""
        folder = self._folder(lease)
        if not folder.is_dir():
            return None
        directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with trio.move_on_after(bounds.WORKLOAD_START_TIMEOUT_MS / 1000):
                with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
                    await asking.connect(f"/proc/self/fd/{directory}/control")
                    await asking.send(question)
                    answer = b""
                    while chunk := await asking.recv(ANSWER_BYTES):
                        answer += chunk
                    problems: list[str] = json.loads(answer)["problems"]
                    return problems
        except (OSError, ValueError):
            return None
        finally:
            os.close(directory)
        return None

    async def _end(self, lease: str) -> None:
        """Tell it to end, make it, and remove its folder."""
        folder = self._folder(lease)
        process = self._process(lease)
        if process is not None:
            await self._ask(lease, b"end\n")
            with trio.move_on_after(END_S):
                await lifecycle.gone(process)
            process.send(signal.SIGKILL)
            await lifecycle.gone(process)
        await trio.to_thread.run_sync(remove_tree, folder)

    def _process(self, lease: str) -> Process | None:
        """The linker of the lease, if it runs."""
        state: dict[str, Any] | None = lifecycle.read_json(self._folder(lease) / "state.json")
        if state is None:
            return None
        found = Process(pid=state["pid"], ticks=state["ticks"])
        return found if state["boot"] == boot_id() and found.alive() else None

    async def watch(self) -> None:
        """Start again what ends though it is wanted, and end what is not; returns only when cancelled."""
        while True:
            for folder in self._there():
                lease = LeaseId(bytes.fromhex(folder.name))
                wanted = self._wanted(folder.name)
                if wanted and (self._process(folder.name) is not None or not self._alive(folder.name)):
                    continue
                try:
                    await self.refresh(lease)
                except Refused as error:
                    log.warning(
                        "services of a lease are not linked", extra={"lease": folder.name, "code": error.code}
                    )
                    continue
                if wanted:
                    log.warning(
                        "the linker of a lease had ended, and was started again", extra={"lease": folder.name}
                    )
            await trio.sleep(WATCH_S)

    def _there(self) -> list[Path]:
        top = self._home / "links"
        return sorted(path for path in top.iterdir() if len(path.name) == 64) if top.is_dir() else []

    def _alive(self, lease: str) -> bool:
        """Whether any workload of the lease runs: without one a linker may end by itself."""
        folders = (self._home / "run").glob(f"{lease}.*")
        return any(lifecycle.first_process(path) is not None for path in folders if parse_workload_id(path.name))
