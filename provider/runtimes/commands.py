"""Commands run inside a workload: the provider's end of `enter`."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from fondaco.protocol.channel_exec import CHUNK_BYTES, WindowSize
from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import bounds, seccomp
from fondaco.provider.runtimes.lifecycle import first_process, payload, read_json
from fondaco.provider.runtimes.port import Channel, Command, ExecResult, Execution, WorkloadId
from fondaco.provider.together import run_all

ENTER = Path(__file__).with_name("enter.py")
ANSWER_BYTES = 4_096
END_OF_FILE = b"\x04"
"""Typed into a terminal whose user has nothing more to say."""
END_SECONDS = 10
"""Time that `enter` has to end everything; it takes milliseconds."""


@asynccontextmanager
async def running_inside(run_dir: Path, command: Command) -> AsyncIterator[EnteredCommand]:
    """Run a command in the namespaces of a workload; leaving the block kills whatever is left of it.

    Raises `Refused` `workload.gone`, or `workload.exec` if it cannot be entered.
    """
    init, target = first_process(run_dir), payload(run_dir)
    if init is None or target is None:
        raise _gone()
    ours, theirs = socket.socketpair()
    pipe = subprocess.DEVNULL if command.terminal is not None else subprocess.PIPE
    control = trio.socket.from_stdlib_socket(ours)
    try:
        with theirs:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-I", "-S", str(ENTER), *map(str, (target.pid, init.pid, theirs.fileno()))],
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                pass_fds=[theirs.fileno()],
                cwd="/",
            )
        entered = EnteredCommand(process, control)
        try:
            await entered.begin(_request(run_dir, command))
            yield entered
        finally:
            await entered.aclose()
    finally:
        control.close()


def _request(run_dir: Path, command: Command) -> bytes:
    """What `enter` is told: the command, and how the workload it goes to is confined."""
    inside = read_json(run_dir / "exec.json")
    if inside is None:
        raise _gone()
    env: dict[str, str] = dict(inside["env"])
    for entry in command.env:
        name, _, value = _text(entry).partition("=")
        env[name] = value
    size = command.terminal
    request: dict[str, Any] = {
        **inside,
        "argv": [_text(word) for word in command.argv],
        "env": env,
        "seccomp": seccomp.program(seccomp.machine()).hex(),
        "terminal": None if size is None else [size.rows, size.columns],
    }
    return json.dumps(request).encode() + b"\n"


def _gone() -> Refused:
    return Refused("workload.gone", "the workload does not run", hint="look at its status")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class EnteredCommand:
    """One command under way.  Implements `port.Execution`."""

    def __init__(self, process: trio.Process, control: trio.socket.SocketType) -> None:
        self._process = process
        self._control = control
        self._terminal: trio.lowlevel.FdStream | None = None

    @property
    def pid(self) -> int:
        """Of the process beside the command, which is its only child."""
        return self._process.pid

    async def begin(self, request: bytes) -> None:
        """Ask for the command and return once it runs."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it says why, or ended
            await trio.SocketStream(self._control).send_all(request)
        answer, ancillary, _, _ = await self._control.recvmsg(ANSWER_BYTES, socket.CMSG_SPACE(4))
        if ancillary:
            self._terminal = trio.lowlevel.FdStream(int.from_bytes(ancillary[0][2][:4], sys.byteorder))
        if answer != b"ok":
            raise Refused("workload.exec", answer.decode("utf-8", "replace") or "the workload cannot be entered")

    # --- Input

    async def send(self, data: bytes) -> None:
        """To its standard input, at its pace; what it does not want any more is dropped."""
        stream = self._terminal or self._process.stdin
        assert stream is not None, "there is a terminal or a pipe"
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.send_all(data)

    async def end_input(self) -> None:
        if self._terminal is not None:
            await self.send(END_OF_FILE)
        elif self._process.stdin is not None:
            await self._process.stdin.aclose()

    async def signal(self, number: int) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._control.send(b"signal %d\n" % number)

    def resize(self, size: WindowSize) -> None:
        assert self._terminal is not None, "only a terminal has a size"
        with contextlib.suppress(OSError):  # nobody is left who could look at it
            packed = struct.pack("HHHH", size.rows, size.columns, 0, 0)
            fcntl.ioctl(self._terminal.fileno(), termios.TIOCSWINSZ, packed)

    # --- Output

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Those that output comes on: one if there is a terminal."""
        return (Channel.OUT,) if self._terminal is not None else (Channel.OUT, Channel.ERR)

    async def receive(self, channel: Channel) -> bytes:
        """The next output; empty once the command has ended, though something it left behind may hold the pipe."""
        await trio.lowlevel.checkpoint()
        stream = self._terminal
        if stream is None:
            pipe = self._process.stdout if channel is Channel.OUT else self._process.stderr
            assert isinstance(pipe, trio.lowlevel.FdStream), "they are pipes"
            stream = pipe
        while True:
            # Asked before reading: what is written before the end is then always read.
            over = self._process.poll() is not None
            try:
                return os.read(stream.fileno(), CHUNK_BYTES)
            except BlockingIOError:
                if over:
                    return b""
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                return b""  # nobody holds the terminal any more
            await self._readable_or_over(stream.fileno())

    async def _readable_or_over(self, fd: int) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._over, nursery.cancel_scope)
            await trio.lowlevel.wait_readable(fd)
            nursery.cancel_scope.cancel()

    async def _over(self, scope: trio.CancelScope) -> None:
        await self._process.wait()
        scope.cancel()

    async def wait(self) -> int:
        """Return once it has ended and nothing of it is left; its exit code, 128 plus the signal if killed."""
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    async def aclose(self) -> None:
        """Kill what is left of it, and return when it is gone."""
        with trio.CancelScope(shield=True):
            self._control.close()
            with trio.move_on_after(END_SECONDS):
                await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            for stream in (self._terminal, self._process.stdout, self._process.stderr, self._process.stdin):
                if stream is not None:
                    await stream.aclose()


async def to_end(
    execute: Callable[[WorkloadId, Command], AbstractAsyncContextManager[Execution]],
    workload: WorkloadId,
    argv: Sequence[str],
    timeout_ms: int,
) -> ExecResult:
    """What `Runtime.exec` does, by the runtime's `execute`."""
    if not argv:
        raise Refused("workload.exec", "no command was given")
    command = Command(argv=tuple(word.encode("utf-8", "surrogateescape") for word in argv))
    with trio.move_on_after(timeout_ms / 1000):
        async with execute(workload, command) as execution:
            return await collect(execution)
    raise Refused("workload.timeout", f"{argv[0]!r} did not end within {timeout_ms} ms")


async def collect(execution: Execution, *, limit: int = bounds.WORKLOAD_EXEC_OUTPUT_BYTES) -> ExecResult:
    """Let it run to its end without input; of each stream's output the first `limit` bytes are kept."""
    kept: dict[Channel, bytearray] = {channel: bytearray() for channel in Channel}
    truncated = False

    async def keep(channel: Channel) -> None:
        nonlocal truncated
        while data := await execution.receive(channel):
            room = limit - len(kept[channel])
            kept[channel] += data[:room]
            truncated = truncated or len(data) > room

    await execution.end_input()
    await run_all(partial(keep, channel) for channel in execution.channels)
    code = await execution.wait()
    return ExecResult(
        exit_code=code, out=bytes(kept[Channel.OUT]), err=bytes(kept[Channel.ERR]), truncated=truncated
    )
