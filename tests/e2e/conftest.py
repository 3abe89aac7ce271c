"""What whole networks share with the tests of runtimes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.runtime.conftest import docker_service, podman_service
from tests.support.children import ROOT
from tests.support.shells import HELLO, Shell

__all__ = ["docker_service", "podman_service"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One validator and one provider, started by the command itself; what that says of them."""
    home = tmp_path_factory.mktemp("network") / "home"
    command = [sys.executable, "-m", "fondaco", "testnet", "up", "--json", "--validators", "1", "--providers", "1"]
    process = subprocess.Popen([*command, "--home", str(home)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line == "}\n":
            break
    yield json.loads(text)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    process.stdout.close()


@pytest.fixture(scope="module")
def shell(network: dict[str, Any]) -> Shell:
    return Shell(network["home"])


@pytest.fixture(scope="module")
def lease(shell: Shell) -> str:
    """The whole id of a lease that runs."""
    deployed = shell.json(
        "deploy", HELLO, "--name", "web", "--yes", "--select", "balanced", "--where", "price < 1000"
    )
    assert deployed["name"] == "web"
    assert deployed["bids"] == 1
    assert deployed["order_to_first_bid_ms"] <= deployed["order_to_lease_ms"] <= deployed["order_to_running_ms"]
    (identity,) = deployed["leases"]
    return str(identity)
