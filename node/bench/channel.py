"""A forward into a workload, beside a bare stream over Noise: `fondaco bench channel`.

A network of one validator and one provider, each a process; a workload in its sandbox sends, takes or echoes. The
tenant is this process. The bare stream leads from here to a third process, with the same commands, over the same
host, encryption and multiplexer: what the channel and the sandbox cost is what the two differ by. They take turns,
and each figure is the median of its rounds.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import trio
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # which libp2p encrypts by

from fondaco.node import image, testnet
from fondaco.node.bench import Figure, Result
from fondaco.node.bench.e2e import round_trip_us
from fondaco.node.bench.raw_peer import CHUNK_BYTES, ECHO, RAW, SEND, TAKE
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import LeaseHandle
from fondaco.protocol.signing import sha256

ROUNDS = 3
SECONDS = 2.0
"""Of each direction, each round."""
ECHOES = 200
MAX_PLAINTEXT_BYTES = 65_519
"""Of one Noise message."""
WORKLOAD = """
import socket, threading
def serve(peer):
    what = peer.recv(1)
    data = bytes({chunk})
    try:
        while what == b"{send}":
            peer.sendall(data)
        while got := peer.recv({chunk}):
            if what == b"{echo}":
                peer.sendall(got)
        peer.sendall(b"!")
    except OSError:
        pass
    peer.close()
with socket.create_server(("0.0.0.0", 8080)) as listener:
    while True:
        peer, _ = listener.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(peer,), daemon=True).start()
"""
SDL = """
version: "2.0"
services:
  web:
    image: fondaco/hello:demo
    command: ["/usr/bin/python3", "-c"]
    args:
      - |
{program}
    expose:
      - port: 8080
        to:
          - global: true
profiles:
  compute:
    web:
      resources: {{cpu: {{units: 2}}, memory: {{size: 128Mi}}, storage: {{size: 64Mi}}}}
  placement:
    anywhere:
      pricing:
        web: {{denom: uact, amount: 100}}
deployment:
  web:
    anywhere: {{profile: web, count: 1}}
"""


class Way(NamedTuple):
    """Whatever carries bytes there and back."""

    send: Callable[[bytes], Awaitable[None]]
    receive: Callable[[], Awaitable[bytes]]
    end: Callable[[], Awaitable[None]]


Open = Callable[[], AbstractAsyncContextManager[Way]]


class Round(NamedTuple):
    """Megabytes a second from the far side, and to it; milliseconds there and back."""

    down: float
    up: float
    rtt: float


def measure() -> Result:
    """Medians over the rounds; the limits are the cipher on one core, and bytes over TCP on loopback."""
    home = Path(tempfile.mkdtemp(prefix="fondaco-bench-"))
    try:
        channel, raw, tcp_us = trio.run(_measure, home)
    finally:
        shutil.rmtree(home)

    def figures(rounds: list[Round], prefix: str) -> dict[str, Figure]:
        down, up, rtt = (statistics.median(column) for column in zip(*rounds, strict=True))
        return {
            f"{prefix}mb_per_s": Figure(value=round(down, 1), unit="MB/s"),
            f"{prefix}up_mb_per_s": Figure(value=round(up, 1), unit="MB/s"),
            f"{prefix}rtt_ms": Figure(value=round(rtt, 3), unit="ms"),
        }

    return Result(
        bench="channel",
        parameters={"rounds": ROUNDS, "seconds": SECONDS, "chunk_bytes": CHUNK_BYTES, "echoes": ECHOES},
        figures={**figures(channel, ""), **figures(raw, "raw_")},
        limit={
            "cipher_mb_per_s": Figure(value=round(_cipher_mb_per_s(), 1), unit="MB/s"),
            "loopback_round_trip_ms": Figure(value=round(tcp_us / 1_000, 3), unit="ms"),
        },
    )


async def _measure(home: Path) -> tuple[list[Round], list[Round], float]:
    image.build_demo_image(home / "images")
    plan = testnet.create(home, validators=1, providers=1)
    file = home / "channel.yaml"
    file.write_text(_sdl(), encoding="utf-8")
    async with testnet.running(plan), Tenant.connect(home) as tenant, _raw_peer() as (host, peer):
        deployment = await tenant.deploy(file)
        (lease,) = deployment.leases
        channel, raw = [], []
        for _ in range(ROUNDS):
            channel.append(await _round(lambda: _forwarded(lease)))
            raw.append(await _round(lambda: _bare(host, peer)))
        await lease.close()
        return channel, raw, await round_trip_us()


def _sdl() -> str:
    program = WORKLOAD.format(chunk=CHUNK_BYTES, send=SEND.decode(), echo=ECHO.decode())
    return SDL.format(program="\n".join(" " * 8 + line for line in program.strip().splitlines()))


async def _round(open_way: Open) -> Round:
    async with open_way() as way:
        down = await _down(way)
    async with open_way() as way:
        up = await _up(way)
    async with open_way() as way:
        rtt = await _rtt(way)
    return Round(down, up, rtt)


async def _down(way: Way) -> float:
    await way.send(SEND)
    size, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < SECONDS:
        size += len(await way.receive())
    return size / took / 1e6


async def _up(way: Way) -> float:
    await way.send(TAKE)
    size, chunk, began = 0, bytes(CHUNK_BYTES), time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        await way.send(chunk)
        size += len(chunk)
    await way.end()
    await way.receive()  # by now all of it was taken
    return size / (time.perf_counter() - began) / 1e6


async def _rtt(way: Way) -> float:
    await way.send(ECHO)
    times = []
    for _ in range(ECHOES):
        began = time.perf_counter()
        await way.send(b"x")
        await way.receive()
        times.append((time.perf_counter() - began) * 1_000)
    return statistics.median(times)


@asynccontextmanager
async def _forwarded(lease: LeaseHandle) -> AsyncIterator[Way]:
    async with lease.forward("web", 8080) as stream:
        yield Way(stream.send_all, stream.receive_some, stream.send_eof)


@asynccontextmanager
async def _bare(host: Host, peer: PeerId) -> AsyncIterator[Way]:
    stream = await host.open_stream(peer, RAW)
    try:
        yield Way(stream.write, stream.read, stream.close)
    finally:
        await stream.reset()


@asynccontextmanager
async def _raw_peer() -> AsyncIterator[tuple[Host, PeerId]]:
    """A host of ours, and the far one that it is connected to."""
    command = [sys.executable, "-m", "fondaco.node.bench.raw_peer"]
    far = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert far.stdin is not None
    assert far.stdout is not None
    try:
        address = (await far.stdout.receive_some()).decode().strip()
        async with open_host(sha256(b"near"), None) as host:
            yield host, await host.connect(Address(address))
    finally:
        with trio.CancelScope(shield=True):
            await far.stdin.aclose()
            await far.wait()


def _cipher_mb_per_s() -> float:
    """Sealing and opening as Noise does it, one after the other on one core: both ends are on this machine."""
    cipher, nonce, data = ChaCha20Poly1305(bytes(32)), bytes(12), bytes(MAX_PLAINTEXT_BYTES)
    size, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < 0.5:
        cipher.decrypt(nonce, cipher.encrypt(nonce, data, None), None)
        size += len(data)
    return size / took / 1e6
