"""One decision of validators that are processes on loopback: how long, and at what cost to each.

A decision lasts from the moment its proposer begins (the header's time) to the commit on a node, stored and
synced: every node says so of each of its heights. Blocks are made one after the other, the minimum interval is
zero, and each holds one small transfer, which is handed to a node that follows: so a validator's share is
agreement, not service. Processor time is what the processes say of themselves, all threads, from block to block,
less what they use when idle.

A small network is also asked for transactions, see `throughput`, and what one costs is told part by part.

Several windows are measured in one network. The machine is shared, often: processor time is the median of the
windows, latency that of the window with the least median, and both stand beside what the same run measured of
the machine itself.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from fondaco.node import testnet
from fondaco.node.bench import Figure, Result, floor, percentile, throughput, transaction_cost
from fondaco.node.bench.asking import Measures, ask
from fondaco.node.bench.load import Load, open_load
from fondaco.node.config import read_passphrase
from fondaco.node.keys.keystore import Keystore
from fondaco.node.network.peers import Address
from fondaco.node.tenant.client import Tenant
from fondaco.node.testnet import Plan
from fondaco.protocol.scalars import ChainId

HEIGHTS = 60
WINDOWS = 3
WARM_UP = 10
"""Blocks before the first window: code paths, caches and streams as they are later."""
IDLE_S = 5.0
PAUSE_S = 0.05
"""Between a block and the next transfer: the slowest node has committed by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Figures of some heights, over all validators."""

    heights: int
    decision_ms: tuple[int, ...]
    cpu_ms_per_block: float
    messages_per_block: float
    bytes_per_block: float
    gossip_messages_per_block: float


def measure(nodes: int, minutes: float = 0) -> Result:
    """Start a network of `nodes` validators, measure, and stop it; then others, for transactions, if it is small.

    `minutes` of an even load tell how memory grows; none are spent on it unless asked for.
    """
    home = Path(tempfile.mkdtemp(prefix="fondaco-bench-"))
    try:
        windows, idle = trio.run(_measure, home, nodes)
        limit = floor.measure(home / "floor", nodes)
        costs = transaction_cost.measure(home / "costs") if nodes <= throughput.NODES else {}
    finally:
        shutil.rmtree(home)
    transactions = throughput.figures(nodes) if nodes <= throughput.NODES else {}
    memory = throughput.steady(nodes, minutes) if minutes else {}
    best = min(windows, key=lambda window: statistics.median(window.decision_ms))

    def middle(name: str) -> float:
        return round(statistics.median(float(getattr(window, name)) for window in windows), 2)

    return Result(
        bench="consensus",
        parameters={"nodes": nodes, "heights": HEIGHTS, "windows": WINDOWS, "min_block_interval_ms": 0},
        figures={
            "nodes": Figure(value=nodes, unit="validators"),
            "decision_p50_ms": Figure(value=statistics.median(best.decision_ms), unit="ms"),
            "decision_p99_ms": Figure(value=percentile(best.decision_ms, 99), unit="ms"),
            "cpu_ms_per_block": Figure(value=middle("cpu_ms_per_block"), unit="ms"),
            "messages_per_block": Figure(value=middle("messages_per_block"), unit="1"),
            "bytes_per_block": Figure(value=middle("bytes_per_block"), unit="B"),
            "gossip_messages_per_block": Figure(value=middle("gossip_messages_per_block"), unit="1"),
            "idle_cpu_ms_per_s": Figure(value=round(idle, 2), unit="ms/s"),
            **transactions,
            **costs,
            **memory,
        },
        limit=limit | throughput.limit(nodes, limit["verify_us"].value),
    )


async def _measure(home: Path, nodes: int) -> tuple[list[Window], float]:
    """The windows, and what a validator costs when idle, in ms a second."""
    plan = testnet.create(home, validators=nodes, providers=0, full_nodes=1, every_api=True, market=False)
    follower = plan.members[-1]
    async with testnet.running(plan):
        async with Tenant.connect(home) as tenant:
            await tenant.wallet.ask_faucet()
        signer = Keystore(home / "keys").load("tenant", read_passphrase(home)).signer()
        async with open_load(ChainId(plan.chain), Address(follower.address), signer) as load:
            await _blocks(load, WARM_UP)
            idle = await _idle_cost(plan)
            return [await _window(plan, load, idle) for _ in range(WINDOWS)], idle


async def _blocks(load: Load, count: int) -> None:
    for _ in range(count):
        await load.pay()
        await trio.sleep(PAUSE_S)


async def _idle_cost(plan: Plan) -> float:
    """Median over the validators, in ms a second, while no block is made."""
    before = await ask(plan)
    began = trio.current_time()
    await trio.sleep(IDLE_S)
    after = await ask(plan)
    seconds = trio.current_time() - began
    return statistics.median(
        float(after[name]["cpu_ms"] - was["cpu_ms"]) / seconds for name, was in before.items()
    )


async def _window(plan: Plan, load: Load, idle: float) -> Window:
    before = await ask(plan)
    began = trio.current_time()
    await _blocks(load, HEIGHTS)
    seconds = trio.current_time() - began
    after = await ask(plan)
    return window_of(before, after, idle_ms=idle * seconds)


def window_of(before: Measures, after: Measures, *, idle_ms: float) -> Window:
    """What happened between two answers of every validator, as means a block and a validator."""
    decisions: list[int] = []
    for name, now in after.items():
        fresh = now["decided"] - before[name]["decided"]
        decisions += now["decision_ms"][len(now["decision_ms"]) - fresh :]
    heights = max(now["height"] for now in after.values()) - max(was["height"] for was in before.values())
    each = heights * len(after)

    def grown(*path: str) -> float:
        return float(sum(_at(after[name], path) - _at(before[name], path) for name in after))

    return Window(
        heights=heights,
        decision_ms=tuple(decisions),
        cpu_ms_per_block=(grown("cpu_ms") - idle_ms * len(after)) / each,
        messages_per_block=grown("consensus", "messages_out") / each,
        bytes_per_block=grown("consensus", "bytes_out") / each,
        gossip_messages_per_block=grown("gossip", "messages_out") / each,
    )


def _at(measures: dict[str, Any], path: Sequence[str]) -> Any:
    found: Any = measures
    for name in path:
        found = found[name]
    return found
