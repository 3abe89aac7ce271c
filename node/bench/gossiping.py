"""One process of `bench gossip`: a node of a gossip network that publishes orders, and times those of the others.

    python -m fondaco.node.bench.gossiping          # reads orders of work from stdin, one JSON object a line

    {"open": {...}} -> {"address": ...}             {"dial": [...], "neighbours": n} -> {}
    {"prepare": {...}} -> {}                        {"go": moment} -> {}, once it has all or gave up
    {"report": true} -> what was counted since `go`

It ends with its stdin, so that no process outlives a benchmark. The clock is the machine's own, `time.monotonic`,
which all processes share. An order is due at a moment that follows from its number, and that is when its time
begins to run: a publisher that falls behind shows it.
"""

from __future__ import annotations

import functools
import gc
import json
import secrets
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import trio

from fondaco.node import clock
from fondaco.node.bench.sdl import NODE
from fondaco.node.gossip import Gossip, Topic, decode_batch
from fondaco.node.network.host import open_host
from fondaco.node.network.peers import Address, PeerId
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.gossip.router import Verdict
from fondaco.protocol.market import Order, SignedOrder, check_order
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import ChainId, MicroCredits, Millis, Salt
from fondaco.protocol.sdl import parse
from fondaco.protocol.signing import Signer, sha256

CHAIN = ChainId("bench-0000000000000000")
TICK_S = 0.01
"""Between two handfuls of orders of one publisher; publishers take turns within it."""
SETTLE_S = 1.5
"""For the mesh, once neighbours are heard: a heartbeat and a half."""
PLACE = struct.Struct("!HHI")
"""Step, publisher and number of an order, in its salt."""
BUCKETS_PER_MS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What all processes do together for a while."""

    number: int
    rate: float
    """Orders a second of all publishers together."""
    seconds: float
    patience_s: float
    """How long to wait for the last ones after that."""

    def each(self, nodes: int) -> int:
        """Orders of one publisher of so many."""
        return max(1, int(self.rate * self.seconds / nodes))


@dataclass(slots=True, kw_only=True)
class Report:
    """What one process counted in one step."""

    published: int = 0
    delivered: int = 0
    """Orders of others, each once."""
    bad: int = 0
    buckets: dict[int, int] = field(default_factory=dict)
    """How many deliveries took so many tenths of a millisecond."""
    cpu_s: float = 0.0
    """Of this process, all threads."""
    decode_s: float = 0.0
    verify_s: float = 0.0
    """Of `cpu_s`: reading the orders, and checking them with their signatures."""
    messages: int = 0
    """Gossip messages that came, with copies; and those that were new."""
    messages_new: int = 0


class Member:
    """What one process is in the middle of."""

    def __init__(self, number: int, nodes: int) -> None:
        self.number = number
        self.nodes = nodes
        self.step = Step(number=0, rate=1.0, seconds=0.0, patience_s=0.0)
        self.items: list[bytes] = []
        self.began = 0.0
        self.report = Report()
        self.latencies: Counter[int] = Counter()
        self._held: set[bytes] = set()
        self._cpu = 0.0
        self._traffic = (0, 0)
        self.traffic: Callable[[], tuple[int, int]] = lambda: (0, 0)

    def due(self, publisher: int, number: int) -> float:
        """When an order is to be published."""
        ticks = int(number * self.nodes / (self.step.rate * TICK_S))
        return self.began + (ticks + publisher / self.nodes) * TICK_S

    def prepare(self, step: Step) -> None:
        """Sign what will be published."""
        self.step = step
        signer = Signer(sha256(b"bench publisher %d" % self.number))
        self.items = [an_order(signer, step.number, self.number, place) for place in range(step.each(self.nodes))]

    def begin(self, moment: float) -> None:
        self.began = moment
        self.report, self.latencies = Report(), Counter()
        self._held = set()
        self._cpu, self._traffic = time.process_time(), self.traffic()

    def judge(self, items: list[bytes]) -> bool:
        """Read, verify and count what came; whether all of it is good."""
        report = self.report
        began = time.thread_time()
        orders = [codec.decode(item, SignedOrder, limit=limits.GOSSIP_ITEM_BYTES) for item in items]
        read = time.thread_time()
        try:
            for signed in orders:
                check_order(CHAIN, signed)
        except FondacoError:
            report.bad += 1
            return False
        report.decode_s += read - began
        report.verify_s += time.thread_time() - read
        now = time.monotonic()
        for signed in orders:
            step, publisher, number = PLACE.unpack_from(signed.order.salt)
            if step == self.step.number and signed.order.salt not in self._held:
                self._held.add(signed.order.salt)
                report.delivered += 1
                self.latencies[int((now - self.due(publisher, number)) * 1_000 * BUCKETS_PER_MS)] += 1
        return True

    async def go(self, publish: Callable[[bytes], Awaitable[None]]) -> None:
        """Publish at the pace, then wait for what the others published, not for ever."""
        for number, item in enumerate(self.items):
            wait = self.due(self.number, number) - time.monotonic()
            if wait > 0:
                await trio.sleep(wait)
            await publish(item)
            self.report.published += 1
        wanted = self.step.each(self.nodes) * (self.nodes - 1)
        end = self.began + self.step.seconds + self.step.patience_s
        while self.report.delivered < wanted and time.monotonic() < end:
            await trio.sleep(TICK_S)

    def told(self) -> dict[str, Any]:
        self.report.cpu_s = time.process_time() - self._cpu
        messages, new = self.traffic()
        self.report.messages, self.report.messages_new = messages - self._traffic[0], new - self._traffic[1]
        self.report.buckets = dict(self.latencies)
        return asdict(self.report)


def an_order(signer: Signer, step: int, publisher: int, number: int) -> bytes:
    """A signed order for the deployment that `fondaco sdl init` writes."""
    groups = _groups()
    order = Order(
        tenant=signer.public_key,
        groups=groups,
        commitments=tuple(sha256(group.name.encode()) for group in groups),
        reclamation_window_ms=Millis(0),
        deposit=MicroCredits(1_000_000),
        reply_peers=(),
        expires_at=Millis(clock.now() + limits.ORDER_LIFE_MS),
        salt=Salt(PLACE.pack(step, publisher, number) + secrets.token_bytes(16 - PLACE.size)),
    )
    return codec.encode(SignedOrder(order=order, signature=signer.sign(CHAIN, order)))


@functools.cache
def _groups() -> tuple[Group, ...]:
    return parse((NODE / "cli/start.yaml").read_text(encoding="utf-8")).groups({})


class Own:
    """Our gossip."""

    def __init__(self, gossip: Gossip, host: Any) -> None:
        self._gossip = gossip
        self._host = host

    def address(self) -> str:
        return str(self._host.addresses()[0])

    async def connect(self, address: str) -> None:
        await self._host.connect(Address(address))

    def neighbours(self) -> int:
        return len(self._gossip.subscribers(Topic.ORDERS))

    async def publish(self, item: bytes) -> None:
        self._gossip.publish(Topic.ORDERS, item)


@asynccontextmanager
async def open_own(member: Member) -> AsyncIterator[Own]:
    async with open_host(secrets.token_bytes(32)) as host, trio.open_nursery() as nursery:
        gossip = Gossip(host, CHAIN)
        counters = gossip.router.counters

        async def handle(items: list[bytes], source: PeerId) -> Verdict:
            return Verdict.ACCEPT if member.judge(items) else Verdict.REJECT

        gossip.subscribe(Topic.ORDERS, handle)
        nursery.start_soon(gossip.run)
        member.traffic = lambda: (counters.received, counters.delivered)
        yield Own(gossip, host)
        nursery.cancel_scope.cancel()


class Batched:
    """Items gathered for as long as our gossip gathers them, and sent by another's."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.address, self.connect, self.neighbours = inner.address, inner.connect, inner.neighbours
        self._waiting: list[bytes] = []

    async def publish(self, item: bytes) -> None:
        self._waiting.append(item)

    async def run(self) -> None:
        while True:
            await trio.sleep(limits.GOSSIP_BATCH_WINDOW_MS / 1000)
            if self._waiting:
                most = limits.GOSSIP_BATCH_ITEMS
                items, self._waiting = self._waiting[:most], self._waiting[most:]
                await self._inner.publish(codec.pack(items))


@asynccontextmanager
async def open_shipped(member: Member, batched: bool) -> AsyncIterator[Any]:
    """The library's gossip, one message an order; or `batched`, as ours is."""
    from fondaco.node.network.shipped_pubsub import open_shipped_pubsub

    def judge(data: bytes) -> bool:
        return member.judge(decode_batch(data) if batched else [data])

    async with open_shipped_pubsub("orders", judge) as shipped, trio.open_nursery() as nursery:
        if batched:
            batcher = Batched(shipped)
            nursery.start_soon(batcher.run)
            yield batcher
        else:
            yield shipped
        nursery.cancel_scope.cancel()


async def serve(lines: AsyncIterator[bytes], say: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Do what the lines ask for until they end."""
    opening = json.loads(await anext(lines))["open"]
    member = Member(opening["number"], opening["nodes"])
    kind = opening["kind"]
    opened = open_own(member) if kind == "own" else open_shipped(member, kind == "batched")
    async with opened as node:
        gc.collect()
        gc.freeze()  # as a node does, once it has loaded what it needs
        await say({"address": node.address()})
        async for line in lines:
            match json.loads(line):
                case {"dial": addresses, "neighbours": count}:
                    for address in addresses:
                        await node.connect(address)
                    while node.neighbours() < count:
                        await trio.sleep(TICK_S)
                    await trio.sleep(SETTLE_S)
                    await say({})
                case {"prepare": step}:
                    member.prepare(Step(**step))
                    await say({})
                case {"go": moment}:
                    member.begin(moment)
                    await member.go(node.publish)
                    await say({})
                case {"report": _}:
                    await say(member.told())


async def _lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[bytes]:
    held = b""
    async for chunk in stream:
        *whole, held = (held + chunk).split(b"\n")
        for line in whole:
            yield line


async def _main() -> None:
    source, sink = trio.lowlevel.FdStream(0), trio.lowlevel.FdStream(1)

    async def say(what: dict[str, Any]) -> None:
        await sink.send_all(json.dumps(what).encode() + b"\n")

    await serve(_lines(source), say)


if __name__ == "__main__":
    from fondaco.node import logs

    logs.configure_quiet()
    try:
        trio.run(_main)
    except* FondacoError as failed:
        sys.exit(str(failed.exceptions[0]))
