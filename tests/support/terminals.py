"""Programs on a terminal of their own, as a person would use them."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.children import ROOT

TAKE_IT = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Makes standard input the child's controlling terminal, so that it hears of keys and sizes."""


class Terminal:
    """One child on a new terminal."""

    def __init__(self, command: list[str], *, columns: int, rows: int, env: dict[str, str]) -> None:
        self.master, self._slave = pty.openpty()
        self.resize(columns, rows)
        self.before = self.settings()
        self.child = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            cwd=ROOT,
            env={**os.environ, **env},
            start_new_session=True,
        )
        self.seen = b""

    def settings(self) -> list[object]:
        """How the terminal is set: raw, echoing, and the rest."""
        return termios.tcgetattr(self._slave)

    def resize(self, columns: int, rows: int) -> None:
        """The kernel tells whoever is in the foreground."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def await_text(self, wanted: bytes, *, seconds: float = 30) -> bytes:
        """What came up to `wanted`, that included."""
        deadline = time.monotonic() + seconds
        while wanted not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"never saw {wanted!r} but {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65_536)
        before, _, self.seen = self.seen.partition(wanted)
        return before + wanted

    def await_exit(self, *, seconds: float = 30) -> int:
        deadline = time.monotonic() + seconds
        while (code := self.child.poll()) is None:
            assert time.monotonic() < deadline, f"it did not end; it said {self.seen!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65_536)
        return code

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        os.close(self._slave)
        os.close(self.master)


@contextmanager
def on_terminal(
    *arguments: str, columns: int = 90, rows: int = 20, env: dict[str, str] | None = None
) -> Iterator[Terminal]:
    """`fondaco` with these arguments, on a terminal; killed at the end if it still runs."""
    command = [sys.executable, "-c", TAKE_IT, "-m", "fondaco", *arguments]
    terminal = Terminal(command, columns=columns, rows=rows, env=env or {})
    try:
        yield terminal
    finally:
        terminal.close()
