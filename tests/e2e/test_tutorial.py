"""The tutorial works as it is written: every command in it is run, and says what the page says it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorials" / "first-deployment.md"


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """Each `$ command` of the page's console blocks, with the lines that must show in what it prints."""
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *expected = part.strip().splitlines()
            yield command, expected


def environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "FONDACO_HOME": str(home), "PATH": path}


def test_every_command_of_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    steps = list(commands(TUTORIAL.read_text(encoding="utf-8")))
    assert len(steps) >= 10
    (start, ready), *rest = steps
    environ = environment(tmp_path / "home")
    network = subprocess.Popen(
        start.split(), env=environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert network.stdout is not None
        for line in network.stdout:
            if ready[0] in line:
                break
        else:
            pytest.fail("the network did not start")
        for command, expected in rest:
            done = subprocess.run(
                command.split(), env=environ, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
            )
            assert done.returncode == 0, f"{command}: {done.stderr}"
            for words in expected:
                assert words in done.stdout, f"{command} prints {done.stdout!r}"
    finally:
        network.send_signal(signal.SIGINT)
        network.communicate(timeout=30)
    assert network.returncode == 0
