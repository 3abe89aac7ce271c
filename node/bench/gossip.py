"""How many orders a second a gossip network of processes on loopback carries to everybody, and at what cost.

Each process is a host with our gossip; it dials two or three others, and the mesh forms itself. All of them
publish signed orders at one rate after the other: it is doubled until it is too much, then the edge is closed in
on. A rate is sustained where every order reached every process, 99 of 100 within a quarter of a second of the
moment at which they were due. What an item costs is the processor time of all processes, all threads, by the items
that were delivered: copies, forwarding, timers and the bench itself included, but for reading the orders and
checking their signatures, which any program must do and which are told apart.

The same is measured of the library's own GossipSub: one message an order, as it ships, and with our batches. Each
figure stands beside the share of the machine's processors that others used in the same seconds.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trio

from fondaco.node.bench import Figure, Result, machine
from fondaco.node.bench.floor import verify_us
from fondaco.node.bench.gossiping import BUCKETS_PER_MS, Step, an_order
from fondaco.node.groups import unwrapped
from fondaco.protocol.errors import Unreachable
from fondaco.protocol.signing import Signer, sha256

COMMAND = [sys.executable, "-m", "fondaco.node.bench.gossiping"]
OWN, SHIPPED, BATCHED = "own", "shipped", "batched"
FIRST_RATE = {OWN: 500.0, SHIPPED: 20.0, BATCHED: 20.0}
"""Orders a second to begin with."""
LEAST_RATE, MOST_RATE = 4.0, 32_000.0
HALVINGS = {OWN: 2, SHIPPED: 1, BATCHED: 1}
"""Rates tried between the last that was sustained and the first that was not."""
SECONDS = 3.0
"""Of each rate."""
PATIENCE_S = 2.0
P99_MS = 250.0
DIALLED = (1, 2, 4)
"""Each process dials those that many places further in the ring."""
ANSWER_S = 120.0
"""Within so long a process must have done what it was asked: sixteen of them start slowly on a busy machine."""
STOP_S = 10.0
REST_S = 0.3
RESTS = 20
"""After a rate that was too much, at most so many pauses until the network is idle again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one rate came to, over all processes."""

    rate: float
    published: int
    wanted: int
    """Deliveries that there should have been."""
    delivered: int
    buckets: Counter[int]
    cpu_us_per_item: float
    decode_us_per_item: float
    verify_us_per_item: float
    copies: float
    """Messages that came, by those that were new."""
    items_per_message: float
    others_cpu: float

    def percentile_ms(self, percent: int) -> float:
        """Of the deliveries; infinite where there were none."""
        left = self.delivered * percent / 100
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left < 0:
                return (bucket + 1) / BUCKETS_PER_MS
        return max(self.buckets, default=math.inf) / BUCKETS_PER_MS

    @property
    def delivery(self) -> float:
        return self.delivered / self.wanted

    @property
    def is_sustained(self) -> bool:
        return self.delivered == self.wanted and self.percentile_ms(99) <= P99_MS


Note = Callable[[str, Outcome], None]


def measure(nodes: int, *, note: Note = lambda _kind, _outcome: None) -> Result:
    """Raise the rate in a network of `nodes` processes, ours and then the library's; `note` hears of each step.

    Raises `Unreachable` `bench.process` if one of them fails.
    """
    found: dict[str, Outcome] = {}
    with unwrapped():
        for kind in (OWN, SHIPPED, BATCHED):
            steps = trio.run(_raise, kind, nodes, note)
            found[kind] = ([step for step in steps if step.is_sustained] or steps[:1])[-1]
    own, shipped, batched = found[OWN], found[SHIPPED], found[BATCHED]
    check_us = verify_us()
    return Result(
        bench="gossip",
        parameters={
            "nodes": nodes,
            "neighbours": neighbours(0, nodes),
            "order_bytes": len(an_order(Signer(sha256(b"bench")), 0, 0, 0)),
            "seconds": SECONDS,
            "p99_within_ms": P99_MS,
        },
        figures={
            **_figures(own),
            "copies": Figure(value=round(own.copies, 2), unit="1"),
            "items_per_message": Figure(value=round(own.items_per_message, 2), unit="1"),
            **{f"baseline_{name}": one for name, one in _figures(shipped).items()},
            **{f"baseline_batched_{name}": one for name, one in _figures(batched).items()},
        },
        limit={
            "cores": Figure(value=machine.cores(), unit="1"),
            "verify_us": Figure(value=round(check_us, 1), unit="us"),
            "orders_per_s_of_signatures": Figure(
                value=round(machine.cores() * 1e6 / (max(1, nodes - 1) * check_us)), unit="1/s"
            ),
        },
    )


def _figures(one: Outcome) -> dict[str, Figure]:
    return {
        "orders_per_s": Figure(value=round(one.rate if one.is_sustained else 0.0, 1), unit="1/s"),
        "p50_ms": Figure(value=round(one.percentile_ms(50), 1), unit="ms"),
        "p99_ms": Figure(value=round(one.percentile_ms(99), 1), unit="ms"),
        "delivery": Figure(value=round(one.delivery, 4), unit="of all"),
        "cpu_us_per_item": Figure(value=round(one.cpu_us_per_item, 1), unit="us"),
        "verify_us_per_item": Figure(value=round(one.verify_us_per_item, 1), unit="us"),
        "decode_us_per_item": Figure(value=round(one.decode_us_per_item, 1), unit="us"),
        "others_cpu": Figure(value=one.others_cpu, unit="of all"),
    }


def dialled(number: int, nodes: int) -> list[int]:
    """Whom this process dials: nobody twice, and none that dials it."""
    offsets = [offset for offset in DIALLED if 2 * offset < nodes or (2 * offset == nodes and number < offset)]
    return [(number + offset) % nodes for offset in offsets]


def neighbours(number: int, nodes: int) -> int:
    """How many connections a process has when all have dialled."""
    return sum(other in dialled(number, nodes) or number in dialled(other, nodes) for other in range(nodes))


async def _raise(kind: str, nodes: int, note: Note) -> list[Outcome]:
    async with network(kind, nodes) as crowd:
        return await search(crowd.measure, FIRST_RATE[kind], HALVINGS[kind], lambda outcome: note(kind, outcome))


async def search(
    measure: Callable[[float], Awaitable[Outcome]],
    first: float,
    halvings: int,
    note: Callable[[Outcome], None] = lambda _outcome: None,
) -> list[Outcome]:
    """Double the rate while it is sustained, or halve it until it is, then close in on the edge.

    What each rate came to, the lowest first.
    """
    found: list[Outcome] = []
    low, high, rate = 0.0, math.inf, first
    while LEAST_RATE <= rate <= MOST_RATE:
        outcome = await measure(rate)
        note(outcome)
        found.append(outcome)
        low, high = (rate, high) if outcome.is_sustained else (low, rate)
        if low and math.isfinite(high):
            if not halvings:
                break
            halvings -= 1
        rate = low * 2 if math.isinf(high) else (low + high) / 2
    return sorted(found, key=lambda one: one.rate)


class Crowd:
    """The processes of one network."""

    def __init__(self, members: Sequence[Process]) -> None:
        self._members = members
        self._steps = 0

    async def mesh(self) -> None:
        """Have everybody dial, and wait until all are heard."""
        addresses = [member.address for member in self._members]
        count = len(addresses)
        await self._ask(
            [
                {
                    "dial": [addresses[other] for other in dialled(number, count)],
                    "neighbours": neighbours(number, count),
                }
                for number in range(count)
            ]
        )

    async def measure(self, rate: float) -> Outcome:
        """One rate, from an idle network to an idle network."""
        count = len(self._members)
        self._steps += 1
        step = Step(number=self._steps, rate=rate, seconds=SECONDS, patience_s=PATIENCE_S)
        await self._ask([{"prepare": asdict(step)}] * count)
        before = machine.busy()
        await self._ask([{"go": time.monotonic() + REST_S}] * count)
        reports = await self._ask([{"report": True}] * count)
        outcome = outcome_of(step, reports, before, machine.busy())
        await self._rest(reports)
        return outcome

    async def _rest(self, reports: list[dict[str, Any]]) -> None:
        """Until what is left of a step is done with."""
        for _ in range(RESTS):
            await trio.sleep(REST_S)
            later = await self._ask([{"report": True}] * len(self._members))
            used = sum(now["cpu_s"] - was["cpu_s"] for now, was in zip(later, reports, strict=True))
            if used < REST_S * len(self._members) / 20:
                return
            reports = later

    async def _ask(self, questions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each process its question, all at once; their answers."""
        answers: list[dict[str, Any]] = [{} for _ in questions]

        async def ask(place: int) -> None:
            answers[place] = await self._members[place].ask(questions[place])

        with unwrapped():
            async with trio.open_nursery() as nursery:
                for place in range(len(questions)):
                    nursery.start_soon(ask, place)
        return answers


def outcome_of(step: Step, reports: list[dict[str, Any]], before: machine.Busy, after: machine.Busy) -> Outcome:
    """What the processes counted, taken together."""

    def total(name: str) -> float:
        return float(sum(report[name] for report in reports))

    buckets = Counter[int]()
    for report in reports:
        buckets.update({int(bucket): count for bucket, count in report["buckets"].items()})
    delivered = int(total("delivered"))
    per_item_us = 1e6 / max(1, delivered)
    judged = total("decode_s") + total("verify_s")
    return Outcome(
        rate=step.rate,
        published=int(total("published")),
        wanted=step.each(len(reports)) * len(reports) * (len(reports) - 1),
        delivered=delivered,
        buckets=buckets,
        cpu_us_per_item=(total("cpu_s") - judged) * per_item_us,
        decode_us_per_item=total("decode_s") * per_item_us,
        verify_us_per_item=total("verify_s") * per_item_us,
        copies=total("messages") / max(1.0, total("messages_new")),
        items_per_message=delivered / max(1.0, total("messages_new")),
        others_cpu=machine.others(before, after, total("cpu_s")),
    )


class Process:
    """One of them: it is asked, and answers."""

    def __init__(self, process: trio.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._held = b""
        self.address = ""

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Raises `Unreachable` `bench.process` with its last words."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with trio.move_on_after(ANSWER_S):
            try:
                await process.stdin.send_all(json.dumps(question).encode() + b"\n")
                while b"\n" not in self._held:
                    chunk = await process.stdout.receive_some()
                    if not chunk:
                        break
                    self._held += chunk
            except trio.BrokenResourceError:
                pass
        line, end, self._held = self._held.partition(b"\n")
        if not end:
            words = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            asked = next(iter(question))
            raise Unreachable(
                "bench.process", f"a process did not answer `{asked}`: {' '.join(words) or 'no word'}"
            )
        found: dict[str, Any] = json.loads(line)
        return found

    async def stop(self) -> None:
        """It ends with its stdin, and is killed if it does not."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        with trio.move_on_after(STOP_S):
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def network(kind: str, nodes: int) -> AsyncIterator[Crowd]:
    """Start the processes and connect them; end them all, whatever happens."""
    members: list[Process] = []
    with tempfile.TemporaryDirectory(prefix="fondaco-bench-") as home:
        try:
            for number in range(nodes):
                log = Path(home) / f"{number}.log"
                with log.open("wb") as errors:
                    process = await trio.lowlevel.open_process(
                        COMMAND,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=errors,
                        start_new_session=True,
                    )
                members.append(Process(process, log))
            await _open(kind, members)
            crowd = Crowd(members)
            await crowd.mesh()
            yield crowd
        finally:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    for member in members:
                        nursery.start_soon(member.stop)


async def _open(kind: str, members: Sequence[Process]) -> None:
    async def open_one(number: int) -> None:
        opening = {"kind": kind, "number": number, "nodes": len(members)}
        members[number].address = (await members[number].ask({"open": opening}))["address"]

    with unwrapped():
        async with trio.open_nursery() as nursery:
            for number in range(len(members)):
                nursery.start_soon(open_one, number)
