"""Processes that begin with everything loaded: forked from one that has loaded it and does nothing else.

Loading modules takes most of a node's start, and each process of a network on one machine would hold a copy of
them. `node.forker` is the process that is forked: the first `start` starts it, and it ends with us.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

import trio

from fondaco.node.forker import NUMBER

LOST = 255
"""The exit code of what can no more be asked: the process it was forked from is gone."""


class _Forker:
    """The process that forks for us."""

    def __init__(self) -> None:
        self._asking, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fondaco.node.forker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        atexit.register(self.close)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def ask(self, arguments: list[str], files: tuple[int, int, int, int]) -> None:
        request = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
        socket.send_fds(self._asking, [json.dumps(request).encode() + b"\n"], files)

    def close(self) -> None:
        self._asking.close()
        self._process.terminate()  # it may be busy loading still
        self._process.wait()


_forkers: list[_Forker] = []
"""One, once it is needed."""


def _forker() -> _Forker:
    if not _forkers or not _forkers[-1].runs:
        _forkers.append(_Forker())
    return _forkers[-1]


def prepare() -> None:
    """Start the process that is forked already, where it will be needed soon: it loads while we load."""
    _forker()


class Forked:
    """A process that runs one `fondaco` command, in a session of its own; made by `start`."""

    def __init__(self, stdin: int, stdout: int, status: int) -> None:
        self.stdin = trio.lowlevel.FdStream(stdin)
        self.stdout = trio.lowlevel.FdStream(stdout)
        self.pid = 0
        self._status = trio.lowlevel.FdStream(status)
        self._code: int | None = None
        self._asking = trio.Lock()

    @classmethod
    async def start(cls, arguments: list[str], log: Path) -> Self:
        """Run `fondaco` with these arguments; what it logs is appended to `log`. Raises `OSError`."""
        stdin, to_stdin = os.pipe()
        from_stdout, stdout = os.pipe()
        from_status, status = os.pipe()
        forked = cls(to_stdin, from_stdout, from_status)
        try:
            with log.open("ab") as log_file:
                _forker().ask(arguments, (stdin, stdout, log_file.fileno(), status))
        finally:
            for theirs in (stdin, stdout, status):
                os.close(theirs)
        try:
            while (pid := forked._next()) is None:
                await trio.lowlevel.wait_readable(forked._status.fileno())
        except EOFError:
            raise ChildProcessError("the process that was to fork is gone") from None
        forked.pid = pid
        return forked

    def poll(self) -> int | None:
        """Its exit code, once it is gone; that of a signal is negative."""
        if self._code is None:
            try:
                self._code = self._next()
            except EOFError:
                self._code = LOST
        return self._code

    async def wait(self) -> int:
        """Until it is gone; its exit code."""
        async with self._asking:
            while (code := self.poll()) is None:
                await trio.lowlevel.wait_readable(self._status.fileno())
        return code

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    async def aclose(self) -> None:
        """Let go of its standard files; it ends, if it ends with its input."""
        await self.stdin.aclose()
        await self.stdout.aclose()

    def _signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _next(self) -> int | None:
        """What we are told next: first its id, then its exit code; None for nothing yet. Raises `EOFError`."""
        try:
            told = os.read(self._status.fileno(), NUMBER.size)
        except BlockingIOError:
            return None
        if not told:
            raise EOFError
        number: int = NUMBER.unpack(told)[0]
        return number
