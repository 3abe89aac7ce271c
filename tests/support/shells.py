"""Commands against a running network: in this process, or as one of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from click.testing import CliRunner, Result
from tests.support.children import ROOT

from fondaco.node import demo
from fondaco.node.cli import cli

HELLO = str(demo.HELLO)


class Shell:
    """Commands on one home."""

    def __init__(self, home: str) -> None:
        self.home = home

    def run(self, *arguments: object, **options: Any) -> Result:
        command = [*map(str, arguments), "--home", self.home]
        return CliRunner().invoke(cli, command, **options)

    def text(self, *arguments: object) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    def json(self, *arguments: object) -> Any:
        return json.loads(self.text(*arguments, "--json"))


def piped(shell: Shell, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A command with pipes and no terminal."""
    name, *rest = arguments
    return subprocess.run(
        [sys.executable, "-m", "fondaco", name, "--home", shell.home, *rest],
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
