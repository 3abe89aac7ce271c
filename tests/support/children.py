"""Child processes that a test feeds a script, listens to, and kills."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Where children start, so that they too can import `tests.support`."""


def run(script: str, *arguments: object) -> str:
    """Run a script to its end and return what it printed."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=ROOT).stdout


@contextmanager
def running(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A child whose lines can be read; killed at the end if it still runs."""
    command = [sys.executable, "-u", "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        try:
            yield child
        finally:
            child.kill()


def kill_after(script: str, *arguments: object, lines: int) -> list[str]:
    """Let a child print `lines` lines, kill -9 it at once, and return every line it got out."""
    with running(script, *arguments) as child:
        assert child.stdout is not None
        head = [child.stdout.readline().strip() for _ in range(lines)]
        child.kill()
        rest = [line.strip() for line in child.stdout if line.endswith("\n")]
    assert all(head), "the child ended by itself"
    return head + rest
