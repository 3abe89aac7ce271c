"""What one decision must cost on this machine: signatures, the disk, and the way there and back.

No program that keeps the promises of `consensus.md` does with less: each validator checks the votes of the
others, signs two of its own, and has on the disk what it says before it says it. Bare libraries and bare files.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import nacl.bindings
import trio

from fondaco.node.bench import Figure
from fondaco.node.bench.e2e import round_trip_us
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import PeerId
from fondaco.protocol.signing import sha256

if TYPE_CHECKING:
    from fondaco.node.network.stream import Stream

RUNS = 200
SYNCS_PER_HEIGHT = 11
"""Journal: a segment's file and name, and before each vote, its sending and the commit; sign state: file and name
for each vote; the block's transaction: at least one."""
SYNCS_IN_TURN = 7
"""Those of them that lie between a proposal's coming and the commit; the rest is the next height's segment."""
DELAYS = 3
"""Messages one after the other: proposal, prevote, precommit."""
MESSAGE_BYTES = 300


def measure(home: Path, nodes: int) -> dict[str, Figure]:
    """The parts and their sums, on the disk under `home`."""
    verify, (_, secret) = verify_us(), nacl.bindings.crypto_sign_seed_keypair(sha256(b"bench"))
    sign = _median_us(lambda: nacl.bindings.crypto_sign(bytes(200), secret))
    sync = _sync_us(home)
    tcp, stream = trio.run(round_trip_us), trio.run(stream_round_trip_us)
    # The others' prevotes and precommits, the proposal and a transaction; two votes of one's own.
    signatures_ms = (2 * (nodes - 1) + 2) * verify / 1_000 + 2 * sign / 1_000
    decision_ms = signatures_ms + SYNCS_IN_TURN * sync / 1_000 + DELAYS * tcp / 2_000
    return {
        "verify_us": Figure(value=round(verify, 1), unit="us"),
        "signatures_ms_per_block": Figure(value=round(signatures_ms, 3), unit="ms"),
        "fsync_us": Figure(value=round(sync, 1), unit="us"),
        "fsync_ms_per_block": Figure(value=round(SYNCS_PER_HEIGHT * sync / 1_000, 2), unit="ms"),
        "loopback_round_trip_us": Figure(value=tcp, unit="us"),
        "stream_round_trip_us": Figure(value=stream, unit="us"),
        "decision_ms": Figure(value=round(decision_ms, 2), unit="ms"),
    }


def verify_us() -> float:
    """Checking one signature over 200 bytes, by the bare library."""
    public, secret = nacl.bindings.crypto_sign_seed_keypair(sha256(b"bench"))
    signed = nacl.bindings.crypto_sign(bytes(200), secret)
    return _median_us(lambda: nacl.bindings.crypto_sign_open(signed, public))


def _median_us(action: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        action()
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)


def _sync_us(home: Path) -> float:
    """Appending a message to a file and forcing it to the disk."""
    descriptor = os.open(home, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:

        def append() -> None:
            os.write(descriptor, bytes(MESSAGE_BYTES))
            os.fdatasync(descriptor)

        return _median_us(append)
    finally:
        os.close(descriptor)


async def stream_round_trip_us() -> float:
    """A message there and back over our streams, both hosts in this process, median."""
    async with open_host(sha256(b"one"), None) as one, open_host(sha256(b"two")) as two:
        two.handle("/bench/echo/1", _echo)
        return await _echoes(one, await one.connect(two.addresses()[0]))


async def _echoes(host: Host, peer: PeerId) -> float:
    stream = await host.open_stream(peer, "/bench/echo/1")
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        await stream.write(bytes(MESSAGE_BYTES))
        await stream.read()
        times.append((time.perf_counter() - began) * 1e6)
    await stream.reset()
    return round(statistics.median(times), 1)


async def _echo(stream: Stream) -> None:
    while data := await stream.read():
        await stream.write(data)
