"""What a machine lacks is said before anything is installed: run by path, in crafted environments."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fondaco.node import preflight

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "node" / "preflight.py"


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """With nothing else to be found on the PATH than what lies in `path`."""
    environment = {**os.environ, "PATH": str(path)}
    command = [sys.executable, "-I", str(SCRIPT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


def program(path: Path, name: str, code: int) -> None:
    file = path / name
    file.write_text(f"#!/bin/sh\nexit {code}\n", encoding="utf-8")
    file.chmod(0o755)


def test_setting_up_needs_no_sandbox(tmp_path: Path) -> None:
    done = run(tmp_path, "--setup")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_machine_without_the_means_for_namespaces_is_told_what_to_install(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("fondaco: unshare is missing: sudo apt install util-linux")


def test_blocked_namespaces_are_found_by_trying(tmp_path: Path) -> None:
    program(tmp_path, "unshare", 1)
    done = run(tmp_path)
    assert done.returncode == 1
    assert "sudo apt install crun" in done.stderr


@pytest.mark.parametrize("tool", ["unshare", "crun"])
def test_what_works_is_not_complained_about(tmp_path: Path, tool: str) -> None:
    program(tmp_path, tool, 0)
    assert run(tmp_path).returncode == 0


def test_an_unshare_that_hangs_counts_as_blocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "unshare", 0)
    monkeypatch.setenv("PATH", str(tmp_path))

    def hang(command: Sequence[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    assert len(preflight.sandbox_problems()) == 1


def test_an_old_python_a_missing_venv_and_another_system_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    old, venv, system = preflight.setup_problems()
    assert "Python 3.10.4 is too old" in old
    assert "sudo apt install python3-venv" in venv
    assert "darwin" in system


def test_problems_are_told_one_a_line_and_the_exit_code_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["preflight.py"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert preflight.main() == 1
    assert capsys.readouterr().err.count("fondaco: ") == 1
    monkeypatch.setattr(sys, "argv", ["preflight.py", "--setup"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 0


def test_it_speaks_the_python_of_machines_that_are_too_old() -> None:
    """It is the one file that an older Python reads: nothing but the standard library, nothing newer than 3.8."""
    text = SCRIPT.read_text(encoding="utf-8")
    compile(text, str(SCRIPT), "exec", dont_inherit=True)
    assert "match " not in text
    assert "fondaco." not in text.replace("fondaco: ", "")
