"""A real shell completes commands, options and the names of deployments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fondaco.node.cli import cli
from fondaco.node.cli.completion import SHELLS
from fondaco.node.tenant.records import DeploymentFile, save
from fondaco.protocol.scalars import DeploymentId


def completed(words: list[str], home: Path) -> list[str]:
    """As bash asks: the words, and which of them the cursor is in."""
    environment = {
        **os.environ,
        "_FONDACO_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["fondaco", *words]),
        "COMP_CWORD": str(len(words)),
        "FONDACO_HOME": str(home),
    }
    command = [sys.executable, "-c", "from fondaco.node.cli import main; main()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_that_it_can_read(shell: str) -> None:
    script = CliRunner().invoke(cli, ["completion", shell], prog_name="fondaco").output
    assert "_FONDACO_COMPLETE" in script
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed: whether it can read the script is not seen")
    done = subprocess.run([program, "-n"], input=script, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_commands_options_and_deployments_are_completed(tmp_path: Path) -> None:
    assert "deploy" in completed(["de"], tmp_path)
    assert completed(["provider", "reg"], tmp_path) == ["register"]
    assert "--json" in completed(["status", "--"], tmp_path)
    assert completed(["status", "h"], tmp_path) == []
    for number, name in enumerate(("hello", "hallo", "other")):
        record = DeploymentFile(deployment=DeploymentId(bytes([number]) * 32), name=name, leases=())
        save(tmp_path / "deployments", record)
    assert completed(["status", "h"], tmp_path) == ["hallo", "hello"]
    (tmp_path / "deployments" / "broken.json").write_text("{")
    assert completed(["status", "h"], tmp_path) == []


def test_keys_are_completed_wherever_one_is_named(tmp_path: Path) -> None:
    assert completed(["keys", "use", ""], tmp_path) == []
    (tmp_path / "keys").mkdir()
    for name in ("work", "home", "default"):
        (tmp_path / "keys" / (name if name == "default" else f"{name}.key")).write_bytes(b"")
    for words in (["keys", "use", "w"], ["status", "--key", "w"], ["wallet", "send", "--key", "w"]):
        assert completed(words, tmp_path) == ["work"]
