"""A whole network, started by the command itself and ended by Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.children import ROOT


@contextmanager
def testnet(home: Path, *, validators: int, providers: int) -> Iterator[dict[str, Any]]:
    """What the command says of the network's members, while it runs."""
    size = ["--validators", str(validators), "--providers", str(providers)]
    command = [sys.executable, "-m", "fondaco", "testnet", "up", "--json", *size, "--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
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
