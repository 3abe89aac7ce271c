"""The main job several times: the figures of `fondaco demo --json`, as medians over fresh networks."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

from fondaco.node import image, testnet
from fondaco.node.bench import Figure, Result
from fondaco.node.demo import HELLO, run_demo
from fondaco.node.tenant.client import Tenant

RUNS = 3
DEPLOYMENTS = 10
"""With the image already there."""
FIGURES = (
    "order_to_first_bid_ms",
    "order_to_lease_ms",
    "order_to_running_ms",
    "order_to_first_byte_ms",
    "wall_s",
)


def measure() -> Result:
    """Medians of whole demos; the limit is three message delays on loopback, measured as one round trip."""
    runs = []
    for _ in range(RUNS):
        home = Path(tempfile.mkdtemp(prefix="fondaco-bench-"))
        try:
            runs.append(trio.run(_demo, home))
        finally:
            shutil.rmtree(home)
    figures = {
        name: Figure(value=statistics.median(run[name] for run in runs), unit=name.rpartition("_")[2])
        for name in FIGURES
    }
    for name in ("p50", "p99"):
        value = statistics.median(run["finality_ms"][name] for run in runs)
        figures[f"finality_{name}_ms"] = Figure(value=value, unit="ms")
    with tempfile.TemporaryDirectory(prefix="fondaco-bench-") as folder:
        again = trio.run(_again, Path(folder))
    figures["order_to_running_cached_ms"] = Figure(value=statistics.median(again), unit="ms")
    return Result(
        bench="e2e",
        parameters={"runs": RUNS, "deployments": DEPLOYMENTS, "validators": 4, "providers": 2},
        figures=figures,
        limit={"loopback_round_trip_us": Figure(value=trio.run(round_trip_us), unit="us")},
    )


async def _demo(home: Path) -> dict[str, Any]:
    return await run_demo(home, validators=4, providers=2, file=HELLO, say=lambda _: None)


async def _again(home: Path) -> list[int]:
    """From order to running at a provider that has the image already, one deployment after the other."""
    image.build_demo_image(home / "images")
    took = []
    async with (
        testnet.running(testnet.create(home, validators=4, providers=1)),
        Tenant.connect(home) as tenant,
    ):
        for _ in range(1 + DEPLOYMENTS):
            deployment = await tenant.deploy(HELLO)
            took.append(tenant.timeline.marks["running"])
            await deployment.leases[0].close()
    return took[1:]


async def round_trip_us() -> float:
    """One byte there and back over TCP on loopback, median."""

    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        stream = await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1])
        times = []
        async with stream:
            for _ in range(500):
                began = time.perf_counter()
                await stream.send_all(b"x")
                await stream.receive_some(1)
                times.append((time.perf_counter() - began) * 1e6)
        nursery.cancel_scope.cancel()
    return round(statistics.median(times), 1)
