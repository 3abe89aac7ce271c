"""One network for all lies that leave it as it was."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.support import lies
from tests.support.children import ROOT
from tests.support.malice import Network


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A validator and two providers, as processes: each is a whole node."""
    home = tmp_path_factory.mktemp("network") / "home"
    command = [sys.executable, "-m", "fondaco", "testnet", "up", "--json", "--validators", "1", "--providers", "2"]
    process = subprocess.Popen([*command, "--home", str(home)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line == "}\n":
            break
    lies.CHAIN[0] = json.loads(text)["chain"]
    yield Network(home)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    process.stdout.close()
