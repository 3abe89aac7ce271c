"""What CometBFT's end-to-end tests do to running nodes (test/e2e/runner/perturb.go), done to ours."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trio
from tests.support.wires import Wires, wired

from fondaco.node import testnet
from fondaco.node.storage import ChainStore
from fondaco.node.tenant.client import Tenant
from fondaco.node.testnet import Plan, Testnet
from fondaco.protocol.messages import Transfer
from fondaco.protocol.records import Account, key_account
from fondaco.protocol.scalars import Height, MicroCredits, PublicKey

PERTURBATION_S = 10
RECOVERY_S = 20
"""What the end-to-end tests of CometBFT allow."""
SOMEBODY = PublicKey(bytes(range(32)))


@dataclass
class Perturbed:
    """A running network with cables, and a client that pays `SOMEBODY` one micro-credit a second."""

    net: Testnet
    wires: Wires
    tenant: Tenant
    paid_at: list[int] = field(default_factory=list)
    """Heights that the client was told its payments are in."""

    @property
    def plan(self) -> Plan:
        return self.net.plan

    def height_of(self, name: str) -> int:
        """By the node's own database."""
        with self._store(name) as store:
            head = store.head()
        return 0 if head is None else head.height

    def height_without(self, name: str) -> int:
        """The highest of the others."""
        return max(self.height_of(member.name) for member in self.plan.members if member.name != name)

    async def perturb(self, name: str, how: str, *, for_s: int = PERTURBATION_S) -> float:
        """Do `disconnect`, `pause`, `kill` or `restart` to a node; the seconds it then took to recover.

        It has recovered when it holds a block that was not yet decided when the trouble ended.
        """
        match how:
            case "disconnect":
                self.wires.pull(name)
                try:
                    await self._others_go_on(name, for_s)
                finally:
                    self.wires.plug_in(name)
            case "pause":
                pid = self.net.pid(name)
                os.kill(pid, signal.SIGSTOP)
                try:
                    await self._others_go_on(name, for_s)
                finally:
                    os.kill(pid, signal.SIGCONT)
            case "kill":
                await self.net.kill(name)
            case "restart":
                await self._terminate(name)
            case _:
                raise ValueError(f"no way to {how} a node")
        wanted, ended = self.height_without(name) + 1, trio.current_time()
        with trio.fail_after(RECOVERY_S):
            if name not in self.net.nodes:
                await self.net.start(name)
            while self.height_of(name) < wanted:
                await trio.sleep(0.05)
        return trio.current_time() - ended

    async def _others_go_on(self, name: str, seconds: int) -> None:
        """Three of four decide meanwhile; the one in trouble, which may have one block in hand, does not."""
        before, others = self.height_of(name), self.height_without(name)
        await trio.sleep(seconds)
        with trio.fail_after(RECOVERY_S):  # it may have been its turn to propose
            while self.height_without(name) < others + seconds // 5 + 1:
                await trio.sleep(0.05)
        assert self.height_of(name) <= before + 1, f"{name} was not cut off"

    async def _terminate(self, name: str) -> None:
        process = self.net.nodes.pop(name).process
        process.terminate()
        assert await process.wait() == 0, f"{name} did not stop cleanly"

    async def pay_every_second(self, stop: trio.Event) -> None:
        """Until `stop`, and then until every payment has its block."""

        async def pay() -> None:
            height = await self.tenant.wallet.transact(Transfer(to=SOMEBODY, amount=MicroCredits(1)))
            self.paid_at.append(height)

        async with trio.open_nursery() as nursery:
            while not stop.is_set():
                nursery.start_soon(pay)
                with trio.move_on_after(1):
                    await stop.wait()

    async def check_nothing_is_lost(self) -> None:
        """Every payment that was answered is in the account's proven balance."""
        account = await self.tenant.light.record(key_account(SOMEBODY), Account, at_least=max(self.paid_at))
        assert account is not None
        assert account.credits == len(self.paid_at)

    def check_no_fork(self) -> int:
        """Every node holds the same header at every height; how many heights."""
        with contextlib.ExitStack() as stores:
            opened = [stores.enter_context(self._store(member.name)) for member in self.plan.members]
            heads = [head.height for store in opened if (head := store.head()) is not None]
            assert len(heads) == len(opened)
            for height in range(1, min(heads) + 1):
                headers = [store.signed_header(Height(height)) for store in opened]
                assert len({found.header.hash() for found in headers if found is not None}) == 1, height
                assert None not in headers, f"somebody lost block {height}"
        assert min(heads) >= max(self.paid_at), "somebody lacks a committed payment"
        return min(heads)

    @contextlib.contextmanager
    def _store(self, name: str) -> Iterator[ChainStore]:
        store = ChainStore.open(self.plan.home / "nodes" / name / "data" / "chain.db")
        try:
            yield store
        finally:
            store.close()


@contextlib.asynccontextmanager
async def perturbed(home: Path) -> AsyncIterator[Perturbed]:
    """Four validators and a full node with a client at work; checks at the end what all of this is for."""
    plan = testnet.create(home, validators=4, providers=0, full_nodes=1)
    async with wired(plan) as wires, testnet.running(plan) as net, Tenant.connect(home) as tenant:
        await tenant.wallet.ask_faucet()
        here, stop = Perturbed(net, wires, tenant), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.pay_every_second, stop)
            yield here
            stop.set()
        with trio.fail_after(RECOVERY_S):
            while min(here.height_of(member.name) for member in plan.members) < max(here.paid_at):
                await trio.sleep(0.1)
        await here.check_nothing_is_lost()
        here.check_no_fork()
