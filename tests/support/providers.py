"""A provider's machine in this process: workloads, streams, and a chain and a market of its own around it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.support.fake_market import FakeChain, FakeMarket
from tests.support.hand_offs import (
    CHAIN,
    OTHER,
    PROVIDER,
    SALT,
    SEALING,
    START,
    TENANT,
    hand_off,
    make_lease,
    make_order,
    manifest_group,
    resources,
    units_of,
    web,
)

from fondaco.node.tenant.channel import ChannelClient
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.limits import GIB, MIB
from fondaco.protocol.records import Lease
from fondaco.protocol.scalars import LeaseId
from fondaco.protocol.signing import Signer
from fondaco.provider.agent import Agent
from fondaco.provider.bids import AgentConfig
from fondaco.provider.capacity import Load, Node
from fondaco.provider.gateway import Gateway
from fondaco.provider.images.registries import Login
from fondaco.provider.pricing import LinearScale
from fondaco.provider.runtimes.port import (
    AWAY,
    Capability,
    Channel,
    Command,
    ExecResult,
    Execution,
    Image,
    ImageConfig,
    LogLine,
    Reason,
    Report,
    Runtime,
    State,
    Stats,
    Workload,
    WorkloadId,
    WorkloadSpec,
    quiet,
)

__all__ = [
    "CHAIN",
    "OTHER",
    "PROVIDER",
    "SALT",
    "SEALING",
    "START",
    "TENANT",
    "FakeChain",
    "FakeMarket",
    "FakeRuntime",
    "MemoryStream",
    "Site",
    "hand_off",
    "inline_threads",
    "make_lease",
    "make_order",
    "manifest_group",
    "open_site",
    "resources",
    "stream_pair",
    "units_of",
    "web",
]


class MemoryStream:
    """A provider `Stream` over one half of trio's in-memory pair, which is a real stream."""

    def __init__(self, half: trio.abc.Stream, peer: str) -> None:
        self.peer = peer
        self._half = half

    async def read(self, max_bytes: int = 65_536, /) -> bytes:
        try:
            return bytes(await self._half.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Unreachable("stream.reset", "gone") from None

    async def write(self, data: bytes, /) -> None:
        try:
            await self._half.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Unreachable("stream.reset", "gone") from None

    async def close(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._half.send_eof()  # type: ignore[attr-defined]

    async def reset(self) -> None:
        await trio.aclose_forcefully(self._half)


def stream_pair(tenant_peer: str = "tenant", provider_peer: str = "provider") -> tuple[MemoryStream, MemoryStream]:
    """The tenant's end and the provider's end; each knows the other's peer id."""
    left, right = trio.testing.memory_stream_pair()
    return MemoryStream(left, provider_peer), MemoryStream(right, tenant_peer)


class FakeRuntime:
    """Workloads that are tasks of this process: port 80 speaks HTTP, port 7 echoes, others refuse.

    Shared by an agent and its successor, it is the machine that survives a provider's crash.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.workloads: dict[WorkloadId, Workload] = {}
        self.specs: dict[WorkloadId, WorkloadSpec] = {}
        self.lines: dict[WorkloadId, list[LogLine]] = {}
        self.starts = 0
        self.linked: tuple[WorkloadSpec, ...] = ()
        """As they were last."""
        self.images = {"web:1"}
        self.logins: list[Login | None] = []
        """With which images were asked for."""
        self.deaf: set[str] = set()
        """Services that accept no connection."""
        self.broken: set[str] = set()
        """Services that do not start."""
        self.away = False
        """Whether it answers nothing, while its workloads go on."""
        self.released: list[LeaseId] = []
        self._nursery = nursery
        self._ends: dict[WorkloadId, trio.Event] = {}

    async def probe(self) -> Capability:
        raise NotImplementedError

    async def prepare(self, reference: str, *, login: Login | None = None, report: Report = quiet) -> Image:
        await self._answer()
        self.logins.append(login)
        for done in range(101):
            report(done * MIB, 100 * MIB)
        if reference not in self.images:
            raise Refused("image.unknown", f"there is no image {reference}")
        config = ImageConfig(entrypoint=(), cmd=(), env=(), working_dir="")
        return Image(digest="sha256:0", config=config, rootfs="/")

    async def link(self, specs: Sequence[WorkloadSpec]) -> None:
        await self._answer()
        self.linked = tuple(specs)

    async def start(self, spec: WorkloadSpec) -> Workload:
        await self._answer()
        if spec.id in self.workloads:
            raise Refused("workload.exists", "it was not stopped")
        if spec.service in self.broken:
            raise Refused("runtime.start", "the sandbox failed")
        self.starts += 1
        workload = Workload(
            id=spec.id,
            state=State.RUNNING,
            pid=1,
            exit_code=None,
            started_at=START,
            definition=spec.definition,
        )
        self.workloads[spec.id], self.specs[spec.id], self._ends[spec.id] = workload, spec, trio.Event()
        self.say(spec.id, "started")
        return workload

    def say(self, workload: WorkloadId, text: str) -> None:
        line = LogLine(at=START, channel=Channel.OUT, text=text)
        self.lines.setdefault(workload, []).append(line)

    def end(self, workload: WorkloadId, code: int, reason: Reason | None = None) -> None:
        """The workload ends by itself, or is killed for a reason."""
        self.workloads[workload] = replace(
            self.workloads[workload], state=State.EXITED, exit_code=code, pid=None, reason=reason
        )
        self._ends[workload].set()

    def execute(self, workload: WorkloadId, command: Command) -> contextlib.AbstractAsyncContextManager[Execution]:
        raise NotImplementedError

    async def exec(self, workload: WorkloadId, argv: Sequence[str], *, timeout_ms: int = 30_000) -> ExecResult:
        raise NotImplementedError

    async def logs(
        self, workload: WorkloadId, *, tail: int | None = None, follow: bool = False, previous: bool = False
    ) -> AsyncGenerator[LogLine, None]:
        assert not previous, "nothing is kept of earlier runs here"
        lines = self.lines[workload]
        for line in lines[-tail:] if tail else list(lines):
            yield line
        if follow:
            await self._ends[workload].wait()

    async def stats(self, workload: WorkloadId) -> Stats:
        await self._answer()
        found = self.workloads.get(workload)
        if found is None or found.state is not State.RUNNING:
            raise Refused("workload.gone", "it does not run")
        return Stats(cpu_ms=20, memory_bytes=MIB, processes=1, network=(100, 1_000))

    async def dial(self, workload: WorkloadId, port: int) -> trio.SocketStream:
        await self._answer()
        found = self.workloads.get(workload)
        if found is None or found.state is not State.RUNNING or self.specs[workload].service in self.deaf:
            raise Refused("workload.dial", f"nothing listens on {port}")
        if port not in (80, 7):
            raise Refused("workload.dial", f"nothing listens on {port}")
        ours, theirs = trio.socket.socketpair()
        self._nursery.start_soon(_speak_http if port == 80 else _echo, trio.SocketStream(theirs))
        return trio.SocketStream(ours)

    async def wait(self, workload: WorkloadId) -> Workload:
        if workload not in self.workloads:
            raise Refused("workload.unknown", "there is no such workload")
        found = self.workloads[workload]
        await self._ends[workload].wait()
        return self.workloads.get(workload, found)

    async def stop(self, workload: WorkloadId, *, grace_ms: int = 2_000) -> Workload | None:
        await self._answer()
        found = self.workloads.pop(workload, None)
        if found is not None:
            self._ends[workload].set()
        return found

    async def list(self) -> tuple[Workload, ...]:
        await self._answer()
        return tuple(self.workloads.values())

    async def release(self, lease: LeaseId) -> None:
        await self._answer()
        self.released.append(lease)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    async def _answer(self) -> None:
        """Raises `Unreachable` while the control plane is away."""
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unreachable(AWAY, "the control plane does not answer")


async def _speak_http(stream: trio.SocketStream) -> None:
    async with stream:
        with contextlib.suppress(trio.BrokenResourceError):
            asked = b""
            while b"\r\n\r\n" not in asked:
                data = await stream.receive_some()
                if not data:
                    return
                asked += data
            path = asked.split()[1]
            body = b"you asked for " + path
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nX-Served-By: web\r\n\r\n"
            await stream.send_all(head.encode() + body)


async def _echo(stream: trio.SocketStream) -> None:
    """Gives back what came, and ends when its peer has ended: half-close must work for that."""
    async with stream:
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in stream:
                await stream.send_all(data)
            await stream.send_all(b"bye")


def inline_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what goes to threads at once: a clock that jumps when all tasks wait does not wait for threads."""

    async def run_sync(function: Callable[..., Any], *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


@dataclass
class Site:
    """A provider's machine, and the chain and market around it; agents come and go."""

    home: Path
    chain: FakeChain
    market: FakeMarket
    runtime: Runtime
    nursery: trio.Nursery

    def agent(self, **changes: object) -> Agent:
        config = AgentConfig(
            nodes=(Node(name="n1", capacity=Load(cpu_milli=4_000, memory_bytes=4 * GIB)),),
            pricing=LinearScale(per_cpu=1_000_000, per_memory_gib=100_000),
            peer="provider",
            addresses=("/ip4/127.0.0.1/tcp/1/p2p/provider",),
        )
        return Agent(
            replace(config, **changes),  # type: ignore[arg-type]
            PROVIDER,
            chain=self.chain,
            market=self.market,
            runtime=self.runtime,
            sealer=SEALING,
            home=self.home,
        )

    @contextlib.asynccontextmanager
    async def running(self, **changes: object) -> AsyncIterator[Agent]:
        """An agent until the block ends; leaving is a crash as far as the workloads are concerned."""
        agent = self.agent(**changes)
        async with trio.open_nursery() as nursery:
            await nursery.start(agent.run)
            yield agent
            nursery.cancel_scope.cancel()

    def client(
        self,
        gateway: Gateway,
        lease: Lease,
        *,
        signer: Signer = TENANT,
        provider: Signer = PROVIDER,
        peer: str = "tenant",
        seen_as: str | None = None,
    ) -> ChannelClient:
        """A tenant whose streams end at `gateway`; `seen_as` is the peer id the gateway sees instead."""

        async def open_stream() -> MemoryStream:
            ours, theirs = stream_pair(peer if seen_as is None else seen_as)
            self.nursery.start_soon(gateway.serve, theirs)
            await trio.lowlevel.checkpoint()
            return ours

        return ChannelClient(
            open_stream=open_stream,
            signer=signer,
            chain=CHAIN,
            lease=lease.id,
            provider=provider.public_key,
            own_peer=peer,
            provider_peer="provider",
        )


@contextlib.asynccontextmanager
async def open_site(home: Path) -> AsyncIterator[Site]:
    """A site with the fake runtime; everything in it ends with the block."""
    async with trio.open_nursery() as nursery:
        yield Site(home, FakeChain(), FakeMarket(), FakeRuntime(nursery), nursery)
        nursery.cancel_scope.cancel()
