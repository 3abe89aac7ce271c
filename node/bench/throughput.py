"""How many transactions a second validators that are processes on loopback take in, end to end.

A process of its own publishes transfers, signed beforehand, at one rate after the other, until the validators do
not keep up. A rate is sustained where nearly all that was offered in the window is in blocks of that window, at
a median finality of a second. How many that were is read from the chain's database, afterwards.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import trio

from fondaco.node import testnet
from fondaco.node.bench import Figure, percentile
from fondaco.node.bench.asking import Measures, ask
from fondaco.node.bench.machine import busy, others
from fondaco.node.bench.offering import Offer, Offered, offer, rich
from fondaco.node.storage import ChainStore
from fondaco.node.testnet import Plan, Testnet
from fondaco.protocol.scalars import ChainId, Height, Millis

T = TypeVar("T")
NODES = 4
"""The largest network that is measured: more validators than that need a machine each."""
GENTLE = 100
"""Transactions a second at which a market is at ease; finality is told for it by itself."""
RATES = (100, 400, 700, 1_000, 1_200, 1_400, 1_700, 2_000, 2_500)
SECONDS = 12.0
SETTLE_MS = 2_000
"""Of each rate, before its window begins: queues fill, or they do not."""
SUSTAINED = 0.95
FINALITY_MS = 1_000
STEADY = 300
"""Transactions a second of a long run for memory: about a third of the goal."""
STEADY_STEP_S = 30.0
FIRST_MINUTES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one rate came to."""

    rate: int
    tx_per_s: float
    finality_ms: tuple[int, ...]
    unanswered: int
    cpu_us_per_tx: float
    """Of all validators together."""
    load_cpu_us_per_tx: float
    others_cpu: float
    """Share of the machine's processor time that went to neither validators nor load, nor was idle."""

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.finality_ms) if self.finality_ms else math.inf

    @property
    def is_sustained(self) -> bool:
        return self.tx_per_s >= SUSTAINED * self.rate and self.p50_ms <= FINALITY_MS and not self.unanswered


Note = Callable[[Step], None]


def plan(home: Path, nodes: int) -> Plan:
    """A network whose payers have money."""
    return testnet.create(home, validators=nodes, providers=0, every_api=True, market=False, accounts=rich())


def figures(nodes: int, *, note: Note = lambda _: None) -> dict[str, Figure]:
    """Start a network, raise the load until it is too much, and stop it; `note` hears of each step."""
    return summed_up(_run(nodes, partial(_raise, note=note)))


def steady(nodes: int, minutes: float) -> dict[str, Figure]:
    """Figures of memory over `minutes` of an even load."""
    return _run(nodes, partial(_hold, minutes=minutes))


async def _raise(plan: Plan, network: Testnet, loads: ProcessPoolExecutor, *, note: Note) -> list[Step]:
    """Offer more and more, up to what is not sustained."""
    steps: list[Step] = []
    for rate in RATES:
        steps.append(await _step(plan, loads, rate, SECONDS))
        note(steps[-1])
        if not steps[-1].is_sustained:
            break
    return steps


async def _step(plan: Plan, loads: ProcessPoolExecutor, rate: int, seconds: float) -> Step:
    what = Offer(
        chain=ChainId(plan.chain),
        addresses=tuple(member.address for member in plan.members),
        rate=rate,
        seconds=seconds,
        settle_s=SETTLE_MS / 1_000,
    )
    before, busy_before = await ask(plan), busy()
    offered = await trio.to_thread.run_sync(lambda: loads.submit(offer, what).result())
    after, busy_after = await ask(plan), busy()
    included, in_window = _included(plan, before, offered)
    cpu_ms = sum(now["cpu_ms"] - before[name]["cpu_ms"] for name, now in after.items())
    return Step(
        rate=rate,
        tx_per_s=round(min(rate, in_window), 1),  # the window may hold some that were late for it
        finality_ms=tuple(offered.finality_ms),
        unanswered=offered.unanswered,
        cpu_us_per_tx=round(cpu_ms * 1_000 / max(1, included), 1),
        load_cpu_us_per_tx=offered.cpu_us_per_tx,
        others_cpu=others(busy_before, busy_after, cpu_ms / 1_000 + offered.cpu_s),
    )


def _included(plan: Plan, before: Measures, offered: Offered) -> tuple[int, float]:
    """Transactions in blocks since `before`, and a second in those blocks that began in the window."""
    first = plan.members[0].name
    store = ChainStore.view(plan.home / "nodes" / first / "data" / "chain.db")
    start, total, times = Millis(offered.began + SETTLE_MS), 0, list[tuple[Millis, int]]()
    with closing(store):
        head = store.head()
        assert head is not None, "a network under load has blocks"
        for height in range(before[first]["height"] + 1, head.height + 1):
            block = store.block(Height(height))
            assert block is not None, "a network under measurement keeps its blocks"
            total += len(block.transactions)
            times.append((block.header.time, len(block.transactions)))
    counted = sum(count for time, count in times if start <= time < offered.ended)
    return total, counted * 1_000 / max(1, offered.ended - start)


async def _hold(plan: Plan, network: Testnet, loads: ProcessPoolExecutor, *, minutes: float) -> dict[str, Figure]:
    """An even load; what each validator holds in memory early, and at the end."""
    began, early, steps = trio.current_time(), math.nan, list[Step]()
    while True:
        steps.append(await _step(plan, loads, STEADY, STEADY_STEP_S))
        spent = (trio.current_time() - began) / 60
        if math.isnan(early) and spent >= min(FIRST_MINUTES, minutes / 2):
            early = _resident_mb(plan, network)
        if spent >= minutes:
            break
    late = _resident_mb(plan, network)
    return {
        "minutes": Figure(value=round(spent, 1), unit="min"),
        "steady_tx_per_s": Figure(value=statistics.median(step.tx_per_s for step in steps), unit="tx/s"),
        "steady_finality_p50_ms": Figure(value=statistics.median(step.p50_ms for step in steps), unit="ms"),
        f"rss_mb_minute_{FIRST_MINUTES}": Figure(value=early, unit="MB"),
        "rss_mb_end": Figure(value=late, unit="MB"),
    }


def _resident_mb(plan: Plan, network: Testnet) -> float:
    """The most that one of the processes holds."""
    pages = [
        int(Path(f"/proc/{network.pid(member.name)}/statm").read_text(encoding="ascii").split()[1])
        for member in plan.members
    ]
    return round(max(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def summed_up(steps: Sequence[Step]) -> dict[str, Figure]:
    """The best rate that was sustained; if none was, the first one."""
    best = ([step for step in steps if step.is_sustained] or [steps[0]])[-1]
    found = {
        "tx_per_s": Figure(value=best.tx_per_s, unit="tx/s"),
        "finality_p50_ms": Figure(value=best.p50_ms, unit="ms"),
        "finality_p99_ms": Figure(value=percentile(best.finality_ms, 99), unit="ms"),
        "cpu_us_per_tx": Figure(value=best.cpu_us_per_tx, unit="us"),
        "load_cpu_us_per_tx": Figure(value=best.load_cpu_us_per_tx, unit="us"),
        "others_cpu": Figure(value=best.others_cpu, unit="of all"),
        "most_tx_per_s": Figure(value=max(step.tx_per_s for step in steps), unit="tx/s"),
    }
    gentle = [step for step in steps if step.rate == GENTLE]
    if gentle:
        found[f"finality_at_{GENTLE}_p50_ms"] = Figure(value=gentle[0].p50_ms, unit="ms")
        found[f"finality_at_{GENTLE}_p99_ms"] = Figure(value=percentile(gentle[0].finality_ms, 99), unit="ms")
    return found


def limit(nodes: int, verify_us: float) -> dict[str, Figure]:
    """What signatures alone allow, as each validator checks each once and all share this machine."""
    cores = len(os.sched_getaffinity(0))
    return {
        "cores": Figure(value=cores, unit="1"),
        "tx_per_s_of_signatures": Figure(value=round(cores * 1e6 / (nodes * verify_us)), unit="tx/s"),
    }


def _run(nodes: int, work: Callable[[Plan, Testnet, ProcessPoolExecutor], Awaitable[T]]) -> T:
    home = Path(tempfile.mkdtemp(prefix="fondaco-bench-"))

    async def main(loads: ProcessPoolExecutor) -> T:
        made = plan(home, nodes)
        async with testnet.running(made) as network:
            return await work(made, network, loads)

    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as loads:
            return trio.run(main, loads)
    finally:
        shutil.rmtree(home)
