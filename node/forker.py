"""A process that has loaded what a node needs, and forks nodes off itself; `node.forked` starts it and asks it.

It reads requests from the socket whose number is its argument: a line of JSON each, with the descriptors that
become the standard files of the new process, and a pipe on which its id is told and, once it is gone, its exit
code. It ends when the socket does; what it has forked lives on. It holds no key, and has no other thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import setproctitle

NUMBER = struct.Struct("!i")
DESCRIPTORS = 4
"""Standard input, output and error, and where the id and the exit code are told."""
READ_BYTES = 65_536

Request = dict[str, Any]


def serve(asked: socket.socket) -> Callable[[], None]:
    """Fork for each request until there are no more. What to do then: nothing, or to be what was asked for."""
    told: dict[int, int] = {}
    woken, waker = _wake_when_children_end()
    with selectors.DefaultSelector() as selector:
        selector.register(asked, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, READ_BYTES)
                _tell_of_the_gone(told)
            if asked not in ready:
                continue
            request, descriptors = _receive(asked)
            if request is None:
                return lambda: None
            *files, status = descriptors
            pid = os.fork()
            if pid == 0:
                _close(woken, waker, status, *told.values())
                return partial(_become, request, files)
            _close(*files)
            told[pid] = status
            _tell(status, pid)


def _wake_when_children_end() -> tuple[int, int]:
    """A pipe that can be read once a child has ended."""
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # what nobody handles wakes nobody
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    return woken, waker


def _receive(asked: socket.socket) -> tuple[Request | None, list[int]]:
    line, descriptors, _, _ = socket.recv_fds(asked, READ_BYTES, DESCRIPTORS)
    while line and not line.endswith(b"\n"):
        line += asked.recv(READ_BYTES)
    return (json.loads(line) if line else None), descriptors


def _tell_of_the_gone(told: dict[int, int]) -> None:
    while told:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        descriptor = told.pop(pid)
        _tell(descriptor, os.waitstatus_to_exitcode(status))
        _close(descriptor)


def _tell(descriptor: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # who asked is gone
        os.write(descriptor, NUMBER.pack(number))


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _become(request: Request, files: list[int]) -> None:
    """Be as if started with these arguments, environment and files, in a session of our own."""
    from fondaco.node.cli import main

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.argv = ["fondaco", *request["arguments"]]
    setproctitle.setproctitle(" ".join([sys.executable, "-m", *sys.argv]))
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, descriptor in enumerate(files):
        os.dup2(descriptor, number)
        os.close(descriptor)
    main()


if __name__ == "__main__":
    import fondaco.node.loaded  # noqa: F401 - before anybody asks

    with socket.socket(fileno=int(sys.argv[1])) as asking:
        go_on = serve(asking)
    go_on()
