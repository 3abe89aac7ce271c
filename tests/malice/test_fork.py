"""Validators that sign a second chain for one node to show: nothing is believed any more, and all can see why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio
from tests.support.children import ROOT
from tests.support.jobs import whole_job
from tests.support.lies import FORKS
from tests.support.malice import Network, lying
from tests.support.networks import network

from fondaco.node.groups import unwrapped
from fondaco.protocol import codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.light import Fork

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.mark.parametrize("when", ["from the start", pytest.param("before it spends", marks=pytest.mark.heavy)])
async def test_a_fork_stops_the_tenant_and_leaves_the_evidence(tmp_path: Path, when: str) -> None:
    home = tmp_path / "home"
    async with network(tmp_path / "network", validators=2) as running:
        here = Network(running.plan.home)
        with pytest.raises(Refused) as error, unwrapped(), trio.fail_after(30):
            async with lying(here, home, FORKS[when]) as (tenant, _):
                await whole_job(tenant)
        assert error.value.code == "light.fork"
    (path,) = (home / "evidence").glob("*.fork")
    fork = codec.decode(path.read_bytes(), Fork)
    first, second = (side.signed.header for side in (fork.first, fork.second))
    assert first.height == second.height
    assert first.hash() != second.hash()
    assert not list((home / "deployments").glob("*")), "nothing was begun"
    nodes = [str(tmp_path / "network" / "nodes" / f"validator-{number}") for number in range(2)]
    command = [sys.executable, "-m", "fondaco", "forensics", str(path), *nodes]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert str(first.height) in told.stdout + told.stderr
