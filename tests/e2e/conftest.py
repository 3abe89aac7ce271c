"""What whole networks share with the tests of runtimes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.runtime.conftest import docker_service, podman_service
from tests.support.shells import HELLO, Shell
from tests.support.testnets import testnet

__all__ = ["docker_service", "podman_service"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One validator and one provider; what the command says of them."""
    with testnet(tmp_path_factory.mktemp("network") / "home", validators=1, providers=1) as told:
        yield told


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
