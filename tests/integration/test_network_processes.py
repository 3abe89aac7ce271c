"""Peers in processes of their own, killed and frozen as only a process can be."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import trio
from tests.support.network import PATIENCE_S, seed, until

from fondaco.node.network.host import open_host
from fondaco.node.network.peers import Address

PROGRAM = """
import trio
from fondaco.node.network.host import open_host

async def main():
    async with open_host(bytes([7]) * 32) as host:
        print(host.addresses()[0], flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@contextlib.asynccontextmanager
async def peer_process() -> AsyncIterator[tuple[trio.Process, Address]]:
    """A process with a host; its address is its first line."""
    process = await trio.lowlevel.open_process([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = b""
        with trio.fail_after(PATIENCE_S):
            while not line.endswith(b"\n"):
                line += await process.stdout.receive_some()
        yield process, Address(line.decode().strip())
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


@pytest.mark.parametrize(
    ("sent", "within_s"), [(signal.SIGKILL, 1.0), (signal.SIGSTOP, 3.0)], ids=["killed", "frozen"]
)
async def test_a_peer_that_is_gone_is_noticed(sent: signal.Signals, within_s: float) -> None:
    async with (
        peer_process() as (process, address),
        open_host(seed(1), keepalive_interval_ms=200, keepalive_timeout_ms=500) as host,
    ):
        await host.connect(address)
        await until(host.peers)
        process.send_signal(sent)
        began = trio.current_time()
        await until(lambda: not host.peers())
        assert trio.current_time() - began < within_s
