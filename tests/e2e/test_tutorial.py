"""The tutorials work as they are written: what is in them is run, and says what the page says it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorials" / "first-deployment.md"
PYTHON = TUTORIAL.with_name("python.md")


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """Each `$ command` of the page's console blocks, with the lines that must show in what it prints."""
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *expected = part.strip().splitlines()
            yield command, expected


def environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "FONDACO_HOME": str(home), "PATH": path}


@contextmanager
def running(start: str, ready: str, environ: dict[str, str]) -> Iterator[None]:
    """The network that a page begins with, until it is done."""
    network = subprocess.Popen(
        start.split(), env=environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert network.stdout is not None
        for line in network.stdout:
            if ready in line:
                break
        else:
            pytest.fail("the network did not start")
        yield
    finally:
        network.send_signal(signal.SIGINT)
        network.communicate(timeout=30)
    assert network.returncode == 0


def test_every_command_of_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    steps = list(commands(TUTORIAL.read_text(encoding="utf-8")))
    assert len(steps) >= 10
    (start, ready), *rest = steps
    environ = environment(tmp_path / "home")
    with running(start, ready[0], environ):
        for command, expected in rest:
            done = subprocess.run(
                command.split(), env=environ, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
            )
            assert done.returncode == 0, f"{command}: {done.stderr}"
            for words in expected:
                assert words in done.stdout, f"{command} prints {done.stdout!r}"


def test_the_python_tutorial_is_one_program_that_prints_what_the_page_says(
    tmp_path: Path,
) -> None:
    page = PYTHON.read_text(encoding="utf-8")
    ((start, ready),) = commands(page)
    frame, *pieces = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(pieces) >= 4
    here = "        ...  # what follows goes here\n"
    assert here in frame
    program = frame.replace(here, textwrap.indent("".join(pieces), " " * 8))
    environ = environment(tmp_path / "home")
    with running(start, ready[0], environ):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    place = 0
    for words in "".join(re.findall(r"```text\n(.*?)```", page, re.DOTALL)).splitlines():
        found = done.stdout.find(words, place)
        assert found >= 0, f"{words!r} does not come, or not in this order, in {done.stdout!r}"
        place = found
