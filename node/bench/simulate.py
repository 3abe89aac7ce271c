"""How fast the simulator is: the real engine, ledger and codec of four validators, signatures by a keyed hash.

The load is always the same: one transaction a second of the simulated market, blocks at least five seconds
apart, a healthy network; every invariant is checked all the while. One process, so one core.
"""

from __future__ import annotations

import statistics
import time

from fondaco.consensus.config import EngineConfig
from fondaco.node.bench import Figure, Result
from fondaco.node.simulation.world import World
from fondaco.protocol import codec
from fondaco.protocol.signing import sha256

RUNS = 5
VALIDATORS = 4
TRANSACTION_EVERY_MS = 1_000
INTERVAL_MS = 5_000
SIMULATED_MS = 300_000
"""Sixty heights, as many as a seed runs by default; the state grows, so that later heights take longer."""
HOUR_MS = 3_600_000


def measure() -> Result:
    """Medians over runs of one seed; by the clock on the wall, and by the processor time it took."""
    wall, cpu, heights = [], [], 0
    for _ in range(RUNS):
        world = World(
            seed=1,
            powers=(1,) * VALIDATORS,
            transaction_every_ms=TRANSACTION_EVERY_MS,
            config=EngineConfig(min_block_interval_ms=INTERVAL_MS),
        )
        began, cpu_began = time.perf_counter(), time.process_time()
        world.advance(SIMULATED_MS)
        world.recount()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - cpu_began)
        heights = world.report().heights
    hours = SIMULATED_MS / HOUR_MS
    wall_s, cpu_s = statistics.median(wall), statistics.median(cpu)
    return Result(
        bench="simulate",
        parameters={
            "validators": VALIDATORS,
            "transactions_per_s": 1_000 // TRANSACTION_EVERY_MS,
            "block_interval_s": INTERVAL_MS // 1_000,
            "simulated_s": SIMULATED_MS // 1_000,
            "heights": heights,
            "runs": RUNS,
        },
        figures={
            "simulated_hours_per_s": Figure(value=round(hours / wall_s, 4), unit="h/s"),
            "heights_per_s": Figure(value=round(heights / wall_s, 1), unit="1/s"),
            "simulated_hours_per_cpu_s": Figure(value=round(hours / cpu_s, 4), unit="h/s"),
            "heights_per_cpu_s": Figure(value=round(heights / cpu_s, 1), unit="1/s"),
        },
        limit={"codec_and_hash_us": Figure(value=_codec_and_hash_us(), unit="us")},
    )


def _codec_and_hash_us() -> float:
    """What packing and hashing a small record takes here: compare it before comparing the rest."""
    record = (bytes(32), bytes(32), 1_000_000, "text", (1, 2, 3))
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        for _ in range(1_000):
            sha256(codec.encode(record))
        times.append((time.perf_counter() - began) * 1_000)
    return round(statistics.median(times), 2)
