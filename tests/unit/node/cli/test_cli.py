"""The `fondaco` command without a network: help, errors in one line, exit codes, and what it does not load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from tests.support.children import ROOT

from fondaco.node import bench, demo, testnet
from fondaco.node.cli import COMMANDS, cli
from fondaco.node.cli.output import credits, default_home
from fondaco.node.reference.commands import commands

HELLO = str(demo.HELLO)
EVERY = dict(commands())


def fondaco(*arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments], **options)


def error(result: Result) -> str:
    """The one line of an error, which stands alone on standard error."""
    first, *rest = result.stderr.splitlines()
    assert result.stdout == ""
    assert all(line.startswith("  try: ") for line in rest)
    return first


# Help


@pytest.mark.parametrize("name", EVERY)
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    command = EVERY[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"
    result = fondaco(*name.split()[1:], "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: cli {' '.join(name.split()[1:])}")


@pytest.mark.parametrize("name", EVERY)
def test_every_command_is_on_the_page(name: str) -> None:
    assert f"\n## {name}\n" in (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")


def test_help_lists_all_commands_and_the_version_is_told() -> None:
    result = fondaco("--help")
    assert all(f"  {name} " in result.output for name in COMMANDS)
    assert fondaco("--version").output.startswith("fondaco, version ")


@pytest.mark.parametrize("arguments", [["--help"], ["deploy", "--help"], ["node", "run", "-h"], ["testnet", "-h"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from fondaco.node.cli import cli\n"
        f"cli({arguments!r}, standalone_mode=False)\n"
        "heavy = ('libp2p', 'fastapi', 'hypercorn', 'sqlite3', 'sqlite_utils', 'trio', 'httpx', 'nacl', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    # A child whose coverage is measured loads SQLite for that.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# Errors and exit codes


def test_a_refusal_is_one_line_with_its_code_and_a_hint(tmp_path: Path) -> None:
    result = fondaco("wallet", "--home", tmp_path)
    assert result.exit_code == 1
    assert error(result) == f"fondaco: there is no genesis file at {tmp_path / 'genesis.json'} [genesis.missing]"
    assert "try: start a network here with `fondaco testnet up`" in result.stderr
    result = fondaco("testnet", "reset", "--yes", "--home", tmp_path)
    assert result.exit_code == 1
    assert error(result).endswith("[testnet.missing]")
    assert "try: start one with `fondaco testnet up`" in result.stderr


def test_a_misspelt_command_is_told_which_one_was_meant() -> None:
    result = fondaco("depoly", HELLO)
    assert result.exit_code == 2
    assert "No such command 'depoly'. Did you mean 'deploy'?" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["deploy"],
        ["deploy", "no-such-file.yaml"],
        ["deploy", HELLO, "--deposit", "0"],
        ["logs", "lease", "--tail", "-1"],
        ["request", "lease", "/", "--port", "70000"],
        ["bench", "nothing"],
        ["node", "run"],
        ["testnet", "up", "--validators", "0"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    result = fondaco(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["wallet"],
        ["status"],
        ["status", "web"],
        ["logs", "web"],
        ["request", "web"],
        ["forward", "web"],
        ["close", "web"],
        ["deploy", HELLO],
    ],
)
def test_a_network_that_does_not_answer_is_3(tmp_path: Path, arguments: list[str]) -> None:
    testnet.create(tmp_path, validators=1, providers=0)
    result = fondaco(*arguments, "--home", tmp_path)
    assert result.exit_code == 3
    assert error(result) == "fondaco: none of the network's nodes answers [light.no_nodes]"


def test_a_node_says_why_it_cannot_be_asked(tmp_path: Path) -> None:
    plan = testnet.create(tmp_path, validators=2, providers=0)
    with_api, without = (plan.home / "nodes" / f"validator-{number}" for number in (0, 1))
    result = fondaco("node", "status", "--home", with_api)
    assert result.exit_code == 3
    assert error(result).startswith("fondaco: validator-0 does not answer: ")
    result = fondaco("node", "status", "--home", without)
    assert result.exit_code == 1
    assert error(result).endswith("[node.no_api]")
    result = fondaco("node", "run", "--home", tmp_path)
    assert error(result).endswith("[config.missing]")


# Test networks


def test_a_network_is_deleted_when_asked_twice_or_told_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    testnet.create(home, validators=1, providers=0)
    assert fondaco("testnet", "reset", "--home", home, input="n\n").exit_code == 1
    assert home.exists()
    result = fondaco("testnet", "reset", "--home", home, "--yes")
    assert result.output == f"deleted {home}\n"
    assert not home.exists()


# Output


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 credits"), (1, "0.000001 credits"), (1_500_000, "1.5 credits"), (10**7, "10 credits")],
)
def test_micro_credits_are_shown_as_credits(amount: int, text: str) -> None:
    assert credits(amount) == text


def test_the_home_is_the_environments_or_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FONDACO_HOME", "/somewhere")
    assert default_home() == Path("/somewhere")
    monkeypatch.delenv("FONDACO_HOME")
    assert default_home() == Path.home() / ".fondaco" / "testnet"


# Benchmarks


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fondaco.node.bench.crypto.ROUNDS", 1)
    monkeypatch.setattr("fondaco.node.bench.crypto.SECONDS_A_ROUND", 0.01)
    monkeypatch.setattr(bench, "BENCHES", {"crypto": bench.BENCHES["crypto"]})


@pytest.mark.usefixtures("_quick")
def test_figures_come_as_one_object_with_their_units_and_limits(tmp_path: Path) -> None:
    table = tmp_path / "benchmarks.md"
    result = fondaco("bench", "crypto", "--json", "--table", table)
    figures = json.loads(result.stdout)
    assert set(figures) == {"bench", "parameters", "figures", "limit"}
    assert figures["figures"]["verify_per_s"]["unit"] == "1/s"
    assert figures["figures"]["verify_per_s"]["value"] > 0
    assert figures["limit"]["pynacl_verify_per_s"]["value"] > 0
    page = table.read_text(encoding="utf-8")
    assert "| verify_per_s |" in page
    assert "| limit: pynacl_verify_per_s |" in page
    every = json.loads(fondaco("bench", "all", "--json").stdout)
    assert [one["bench"] for one in every["benches"]] == ["crypto"]
    assert "pynacl_verify_per_s" in fondaco("bench", "crypto").stdout
