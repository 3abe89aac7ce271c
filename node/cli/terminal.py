"""This process's own terminal and standard streams, joined to a command inside a workload."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from fondaco.node.tenant.executing import RunningCommand
from fondaco.protocol.channel_exec import CHUNK_BYTES, WindowSize

STDIN, STREAMS = 0, {"out": 1, "err": 2}
DEADLY = (signal.SIGHUP, signal.SIGTERM)
"""What ends this process; what it waits for is ended first, and the terminal put right."""
BROKEN_PIPE = 128 + signal.SIGPIPE


def size() -> WindowSize | None:
    """Of the terminal that standard input is; None if it is none."""
    try:
        columns, rows = os.get_terminal_size(STDIN)
    except OSError:
        return None
    return WindowSize(columns=columns or 80, rows=rows or 24)  # a new one may not have been told its size


@contextmanager
def raw() -> Iterator[None]:
    """Every key goes to the command, Ctrl-C too; as it was before on every way out but `kill -9`."""
    before = termios.tcgetattr(STDIN)
    tty.setraw(STDIN, termios.TCSADRAIN)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # the window was closed
            termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


async def attach(command: RunningCommand) -> int:
    """Carry the standard streams, sizes and signals until the command has ended; its exit code.

    Ctrl-C is passed on to it, and ends the call when it comes again before anything else. Where this process is
    told to end, or nobody reads its output any more, the answer is 128 plus that signal.
    """
    ended_by = 0

    def leave(code: int) -> None:
        nonlocal ended_by
        ended_by = code
        over.cancel()

    async def pass_signals() -> None:
        interrupted = False
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGWINCH, *DEADLY) as signals:
            await follow_size()  # it may have changed while the call was opened
            async for number in signals:
                if number in DEADLY or (number == signal.SIGINT and interrupted):
                    leave(128 + number)
                elif number == signal.SIGINT:
                    interrupted = True
                    await command.signal(number)
                else:
                    await follow_size()

    async def follow_size() -> None:
        if command.on_terminal and (now := size()) is not None:
            await command.resize(now)

    async def write_output() -> None:
        async for output in command:
            try:
                await trio.to_thread.run_sync(write, STREAMS[output.stream], output.data, abandon_on_cancel=True)
            except BrokenPipeError:
                leave(BROKEN_PIPE)
        over.cancel()

    with trio.CancelScope() as over:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_signals)
            nursery.start_soon(_pass_input, command)
            nursery.start_soon(write_output)
    return ended_by if command.exit_code is None else command.exit_code


async def _pass_input(command: RunningCommand) -> None:
    while data := await _read():
        await command.send(data)
    await command.end_input()


async def _read() -> bytes:
    """What comes next on standard input. It stays as blocking as it was: others, like a shell, share it."""
    while True:
        try:
            await trio.lowlevel.wait_readable(STDIN)
        except PermissionError:
            await trio.lowlevel.checkpoint()  # a file can always be read
        except OSError:
            return b""  # there is none
        try:
            return os.read(STDIN, CHUNK_BYTES)
        except BlockingIOError:
            continue
        except OSError:
            return b""  # its terminal is gone


def write(fd: int, data: bytes) -> None:
    """All of it; in a thread, since whoever reads may take their time."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
