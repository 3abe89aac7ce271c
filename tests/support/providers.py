"""A provider's world, small: a chain that is a dictionary, a market that is a queue, workloads in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fondaco.node.keys.sealing import SealingPair, seal
from fondaco.node.tenant.channel import ChannelClient
from fondaco.protocol import codec, manifest
from fondaco.protocol.channel_calls import HandOff
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.limits import GIB, MIB
from fondaco.protocol.manifest import Expose, ManifestGroup, Service
from fondaco.protocol.market import (
    Answer,
    Bid,
    Order,
    Receipt,
    SignedOrder,
    SignedReceipt,
    deployment_id,
    lease_id,
    order_id,
)
from fondaco.protocol.messages import Activate, Alive, CloseLease, Message, Reclaim, Withdraw
from fondaco.protocol.offers import SignedOffer
from fondaco.protocol.records import Lease, LeaseState, Provider, Reclamation
from fondaco.protocol.resources import Attribute, Group, Placement, Resources, ResourceUnit
from fondaco.protocol.scalars import (
    BlindingSalt,
    ChainId,
    GroupIndex,
    Height,
    LeaseId,
    MicroCredits,
    Millis,
    OrderId,
    PublicKey,
    Salt,
    TxId,
)
from fondaco.protocol.signing import Signer
from fondaco.provider.agent import Agent
from fondaco.provider.bids import AgentConfig
from fondaco.provider.capacity import Load, Node
from fondaco.provider.gateway import Gateway
from fondaco.provider.pricing import LinearScale
from fondaco.provider.runtimes.port import (
    Capability,
    Channel,
    Command,
    ExecResult,
    Execution,
    Image,
    ImageConfig,
    LogLine,
    Reason,
    Runtime,
    State,
    Stats,
    Workload,
    WorkloadId,
    WorkloadSpec,
)

CHAIN = ChainId("test")
TENANT, PROVIDER, OTHER = (Signer(bytes([number]) * 32) for number in (1, 2, 3))
SEALING = SealingPair.from_seed(b"s" * 32)
SALT = BlindingSalt(b"b" * 32)
START = Millis(1_000_000)


class FakeChain:
    """A ledger of leases only: activation, withdrawal and closing as the real one judges them; a block each."""

    def __init__(self) -> None:
        self.id = CHAIN
        self.height = Height(1)
        self.time = START
        self.leases: dict[LeaseId, Lease] = {}
        self.submitted: list[Message] = []
        self.audits: dict[PublicKey, tuple[Attribute, ...]] = {}
        """What auditors say of the provider, by auditor."""
        self.retires = False
        """Whether the provider's retirement is on the ledger."""
        self.lose = 0
        """So many submissions are answered by `Unreachable`."""
        self._changed = trio.Event()

    def now(self) -> Millis:
        return self.time

    def alive_every_ms(self) -> Millis:
        return Millis(600_000)

    def provider(self, key: PublicKey) -> Provider | None:
        return None

    def retiring(self, provider: PublicKey) -> bool:
        return self.retires and provider == PROVIDER.public_key

    def attested(self, provider: PublicKey) -> Mapping[PublicKey, tuple[Attribute, ...]]:
        return self.audits if provider == PROVIDER.public_key else {}

    def lease(self, lease: LeaseId) -> Lease | None:
        return self.leases.get(lease)

    def leases_of(self, provider: PublicKey) -> Sequence[Lease]:
        return [
            one for one in self.leases.values() if one.provider == provider and one.state is not LeaseState.CLOSED
        ]

    async def wait_above(self, height: Height) -> Height:
        while self.height <= height:
            await self._changed.wait()
        return self.height

    def block(self, *, ms: int = 100) -> None:
        """Commit a block: what was changed before is now seen."""
        self.height, self.time = Height(self.height + 1), Millis(self.time + ms)
        rung, self._changed = self._changed, trio.Event()
        rung.set()

    def put(self, lease: Lease) -> None:
        self.leases[lease.id] = lease
        self.block()

    def close(self, lease: LeaseId) -> None:
        self.put(replace(self.leases[lease], state=LeaseState.CLOSED, closed_at=self.time, reason=0))

    async def submit(self, messages: tuple[Message, ...]) -> TxId:
        await trio.lowlevel.checkpoint()
        if self.lose:
            self.lose -= 1
            raise Unreachable("tx.unseen", "the transaction expired")
        for message in messages:
            self._apply(message)
            self.submitted.append(message)
        self.block()
        return TxId(bytes(32))

    def _apply(self, message: Message) -> None:
        match message:
            case Activate(receipt=signed):
                lease = self.leases[signed.receipt.lease]
                if lease.state is not LeaseState.AWAITING:
                    raise Refused("lease.state", "the lease is not awaiting its hand-off")
                self.leases[lease.id] = replace(lease, state=LeaseState.ACTIVE, activated_at=self.time)
            case CloseLease(lease=identity, reason=reason):
                lease = self.leases[identity]
                self.leases[identity] = replace(lease, state=LeaseState.CLOSED, closed_at=self.time, reason=reason)
            case Reclaim(lease=identity, reason=reason):
                lease = self.leases[identity]
                at = Millis(self.time + lease.reclamation_window_ms)
                self.leases[identity] = replace(lease, reclamation=Reclamation(at=at, reason=reason))
            case Alive():
                pass
            case Withdraw(lease=identity):
                if identity not in self.leases:
                    raise Refused("lease.unknown", "there is no such lease")
            case _:
                raise AssertionError(f"a provider does not send {message}")


class FakeMarket:
    """Orders go in by `place`, answers come out in `answers`."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[tuple[OrderId, SignedOrder]](100)
        self._bid, self._bids = trio.open_memory_channel[Bid](100)
        self.answers, self._answered = [], trio.Event()  # type: list[Answer], trio.Event
        self.down = False
        self.offers: list[SignedOffer] = []
        self.quicker: list[Bid] = []
        """Of others, that are there before ours."""

    async def bids(self) -> AsyncGenerator[Bid, None]:
        while True:
            yield await self._bids.receive()

    def hear(self, bid: Bid) -> None:
        """Another provider's."""
        self._bid.send_nowait(bid)

    async def publish_offer(self, offer: SignedOffer) -> None:
        await trio.lowlevel.checkpoint()
        self.offers.append(offer)

    def bids_on(self, order: OrderId) -> Sequence[Bid]:
        return self.quicker

    async def orders(self) -> AsyncGenerator[tuple[OrderId, SignedOrder], None]:
        while True:
            yield await self._receive.receive()

    def place(self, order: Order) -> OrderId:
        identity = order_id(CHAIN, order)
        self._send.send_nowait((identity, SignedOrder(order=order, signature=TENANT.sign(CHAIN, order))))
        return identity

    async def publish(self, answer: Answer) -> None:
        await trio.lowlevel.checkpoint()
        if self.down:
            raise Unreachable("gossip.down", "no peers")
        self.answers.append(answer)
        rung, self._answered = self._answered, trio.Event()
        rung.set()

    async def wait_answers(self, count: int) -> list[Answer]:
        while len(self.answers) < count:
            await self._answered.wait()
        return self.answers


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
        self.images = {"web:1"}
        self.deaf: set[str] = set()
        """Services that accept no connection."""
        self.broken: set[str] = set()
        """Services that do not start."""
        self._nursery = nursery
        self._ends: dict[WorkloadId, trio.Event] = {}

    async def probe(self) -> Capability:
        raise NotImplementedError

    async def prepare(self, reference: str) -> Image:
        await trio.lowlevel.checkpoint()
        if reference not in self.images:
            raise Refused("image.unknown", f"there is no image {reference}")
        config = ImageConfig(entrypoint=(), cmd=(), env=(), working_dir="")
        return Image(digest="sha256:0", config=config, rootfs="/")

    async def start(self, spec: WorkloadSpec) -> Workload:
        await trio.lowlevel.checkpoint()
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
        await trio.lowlevel.checkpoint()
        found = self.workloads.get(workload)
        if found is None or found.state is not State.RUNNING:
            raise Refused("workload.gone", "it does not run")
        return Stats(cpu_ms=20, memory_bytes=MIB, processes=1, network=(100, 1_000))

    async def dial(self, workload: WorkloadId, port: int) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
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
        await trio.lowlevel.checkpoint()
        found = self.workloads.pop(workload, None)
        if found is not None:
            self._ends[workload].set()
        return found

    async def list(self) -> tuple[Workload, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(self.workloads.values())

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


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


# --- Orders, leases and hand-offs


def resources() -> Resources:
    return Resources(
        cpu_milli=100,
        cpu_attributes=(),
        memory_bytes=64 * MIB,
        memory_attributes=(),
        gpu_units=0,
        gpu_attributes=(),
        volumes=(),
        endpoints=Expose(port=80, is_global=True).endpoints,
    )


def web(*, image: str = "web:1", count: int = 1, name: str = "web", port: int = 80) -> Service:
    return Service(
        name=name,
        image=image,
        command=None,
        args=None,
        env=("GREETING=hello",),
        resource_id=1,
        resources=resources(),
        count=count,
        expose=(Expose(port=port, external_port=80, is_global=True),),
        params=None,
        credentials=None,
    )


def manifest_group(*services: Service) -> ManifestGroup:
    return ManifestGroup(name="west", services=services or (web(),))


def units_of(group: ManifestGroup) -> tuple[ResourceUnit, ...]:
    return tuple(
        ResourceUnit(id=service.resource_id, resources=service.resources, count=service.count)
        for service in group.services
    )


def make_order(
    group: ManifestGroup | None = None, *, price: int = 5_000_000, life_ms: int = 600_000, salt: int = 0
) -> Order:
    group = manifest_group() if group is None else group
    return Order(
        tenant=TENANT.public_key,
        groups=(
            Group(
                name=group.name,
                units=units_of(group),
                placement=Placement(attributes=(), all_of=(), any_of=()),
                max_price_per_hour=MicroCredits(price),
            ),
        ),
        commitments=(manifest.commitment(SALT, group),),
        reclamation_window_ms=Millis(0),
        deposit=MicroCredits(1_000_000),
        reply_peers=(),
        expires_at=Millis(START + life_ms),
        salt=Salt(bytes([salt]) * 16),
    )


def make_lease(
    order: Order,
    group: ManifestGroup | None = None,
    *,
    provider: Signer = PROVIDER,
    state: LeaseState = LeaseState.AWAITING,
) -> Lease:
    group = manifest_group() if group is None else group
    deployment = deployment_id(order_id(CHAIN, order))
    return Lease(
        id=lease_id(deployment, GroupIndex(0)),
        deployment=deployment,
        group=GroupIndex(0),
        tenant=TENANT.public_key,
        provider=provider.public_key,
        price_per_hour=MicroCredits(1_000),
        units=units_of(group),
        commitment=manifest.commitment(SALT, group),
        version=1,
        reclamation_window_ms=Millis(0),
        state=state,
        opened_at=START,
        activated_at=None,
        active_ms=Millis(0),
        accrued_to=START,
        reading=Millis(0),
        paid=MicroCredits(0),
        debt=MicroCredits(0),
        reclamation=None,
        closed_at=None,
        reason=None,
    )


def hand_off(
    lease: Lease, group: ManifestGroup | None = None, *, signer: Signer = TENANT, salt: BlindingSalt = SALT
) -> tuple[bytes, SignedReceipt]:
    """What a tenant hands over: the sealed box and the signed receipt."""
    group = manifest_group() if group is None else group
    box = seal(codec.encode(HandOff(salt=salt, manifest=manifest.group_to_json(group))), SEALING.key)
    receipt = Receipt(lease=lease.id, version=lease.version, commitment=lease.commitment)
    return box, SignedReceipt(receipt=receipt, signature=signer.sign(CHAIN, receipt))


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
