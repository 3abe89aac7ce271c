"""Proofs of a running network, by the commands as they are typed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import trio
from tests.support.children import ROOT
from tests.support.networks import network

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def test_a_proof_taken_from_a_running_network_holds_when_it_is_gone(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "supply.proof"
    async with network(home, validators=4):
        at = await fondaco("trust", "--home", home)
        made = json.loads(
            await fondaco("proof", "param", "heartbeat_ms", "-o", file, "--from", "1", "--home", home, "--json")
        )
        assert made["begins_at"] == 1
        assert int(at.partition(":")[0]) <= made["height"]
        again = json.loads(await fondaco("trust", f"{made['height']}:{made['hash']}", "--home", home, "--json"))
        assert again["height"] >= made["height"]
    for trusted in (home / "genesis.json", f"{made['height']}:{made['hash']}"):
        found = json.loads(await fondaco("verify", "--trusted", trusted, file, "--json"))
        assert found["valid"]
        assert found["hash"] == made["hash"]


async def fondaco(*arguments: object) -> str:
    """What one command prints, run as a process of its own."""
    command = [sys.executable, "-m", "fondaco", *map(str, arguments)]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return bytes(done.stdout).decode()
