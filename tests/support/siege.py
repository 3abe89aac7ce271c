"""A network of processes that does its job while others try to keep it from that.

    async with besieged(home) as siege:
        told = await siege.under("mute_sockets", target="validator-0")
        await siege.recovered()

The attackers are processes of their own (`tests.support.attackers`) with addresses of their own in 127.0.0.0/8, so
every limit of the nodes is as it ships. What the siege cost is logged.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import psutil
import trio
from tests.support.children import ROOT

from fondaco.consensus.ledger.genesis import GenesisAccount
from fondaco.consensus.ledger.params import CREDIT
from fondaco.node import demo, image, testnet
from fondaco.node.bench.offering import Offer, offer
from fondaco.node.bench.offering import rich as payers
from fondaco.node.tenant.client import Tenant
from fondaco.node.testnet import Testnet
from fondaco.protocol.scalars import ChainId, MicroCredits, MicroStake
from fondaco.protocol.signing import Signer

log = logging.getLogger("siege")
HELLO = demo.HELLO.read_bytes()
GROWTH = 1.2
"""Of resident memory, once all is over."""
WORK: Any = {"rate": 600, "seconds": 20, "settle_s": 0}
"""Honest transfers before memory is looked at: as many as fill the caches of the ledger and its database."""
PATIENCE_S = 60.0
FORGET_S = 180.0
"""Until memory is looked at for the last time: what was seen is remembered for two minutes (`limits.SEEN_MS`)."""
SAMPLES = 5
Measures = dict[str, Any]


def rich(number: int) -> Signer:
    """An attacker that has money: the flooding tenants, and who pays their fees."""
    return Signer(b"rich" + number.to_bytes(28, "big"))


def rich_accounts() -> list[GenesisAccount]:
    amount = 100_000 * CREDIT
    evil = (
        GenesisAccount(owner=rich(number).public_key, credits=MicroCredits(amount), stake=MicroStake(0))
        for number in range(4)
    )
    return [*payers(), *evil]


@dataclass
class Siege:
    """See the module."""

    net: Testnet
    tenant: Tenant
    memory: dict[str, int] = field(default_factory=dict)
    """Resident bytes of each node at work, before the first attack."""
    finality_ms: float = 0.0
    """The median before the first attack."""
    jobs: int = 0
    """Done since the start."""

    async def settle(self) -> None:
        """Work for a while as on any day, do the job twice, and note what is usual.

        Caches of a node that has just started are empty: against that, honest work alone is growth by a third.
        """
        plan = self.net.plan
        work = Offer(chain=ChainId(plan.chain), addresses=tuple(member.address for member in plan.members), **WORK)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as load:
            offered = await trio.to_thread.run_sync(lambda: load.submit(offer, work).result())
        assert offered.published == WORK["rate"] * WORK["seconds"]
        await self.tenant.wallet.ask_faucet()
        for _ in range(2):
            await self.job()
        self.finality_ms = await self.finality()
        self.memory = self.resident()
        log.info("usual: finality %d ms, memory %s", self.finality_ms, _megabytes(self.memory))

    async def job(self) -> None:
        """Order, choose a bid, deploy, wait until it runs, ask it, read its log, close the lease."""
        deployment = await self.tenant.accept(await self.tenant.plan(HELLO), name=f"job-{self.jobs}")
        lease = deployment.leases[0]
        status, _ = await lease.request("/")
        assert status == 200
        async with lease.logs(tail=5) as lines:
            assert [line async for line in lines]
        settled = await lease.close()
        assert settled.paid >= 0
        self.jobs += 1

    async def under(self, attack: str, **told: Any) -> dict[str, Any]:
        """Do jobs while `attack` goes on, at least one from beginning to end; what the attackers saw."""
        seen: dict[str, Any] = {}
        over = trio.Event()
        times: list[float] = []

        async def attackers() -> None:
            seen.update(await run_attack(self.net.plan.home, attack, told))
            over.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(attackers)
            while True:
                began = trio.current_time()
                with trio.fail_after(PATIENCE_S):
                    await self.job()
                times.append(round(trio.current_time() - began, 1))
                if over.is_set():
                    break
        log.info("%s: jobs took %s s; %s; memory %s", attack, times, seen, _megabytes(self.resident()))
        return seen

    async def recovered(self) -> dict[str, Measures]:
        """Wait until all is as it was; what each node counted."""
        began = trio.current_time()
        await self.until(self._is_quick, "blocks are decided as fast as before")
        await self.until(self._is_small, f"memory is below {GROWTH} of what it was", within_s=FORGET_S)
        counted = await self.measures()
        for name, measures in counted.items():
            assert measures["host"]["handler_errors"] == 0, f"{name}: {self.words(name, 'Traceback')}"
            assert not self.words(name, "Traceback"), name
            assert self.net.nodes[name].process.poll() is None, name
        log.info("recovered after %.1f s: %s", trio.current_time() - began, _megabytes(self.resident()))
        return counted

    async def _is_quick(self) -> object:
        now = await self.finality()
        log.debug("finality %d ms", now)
        return now <= 2 * self.finality_ms + 200

    async def _is_small(self) -> object:
        now = self.resident()
        return all(now[name] <= GROWTH * before for name, before in self.memory.items())

    async def until(
        self, holds: Callable[[], Awaitable[object]], what: str, *, within_s: float = PATIENCE_S
    ) -> None:
        """Wait until something holds; the test fails if it does not come true."""
        with trio.move_on_after(within_s):
            while not await holds():
                await trio.sleep(0.5)
            return
        raise AssertionError(f"not within {within_s} s: {what}; memory {_megabytes(self.resident())}")

    async def finality(self) -> float:
        """Milliseconds from a transfer to the proof of it, the median of a few."""
        return sorted(await demo.measure_finality(self.tenant, SAMPLES))[SAMPLES // 2]

    def resident(self) -> dict[str, int]:
        return {name: psutil.Process(self.net.pid(name)).memory_info().rss for name in self.net.nodes}

    async def measures(self) -> dict[str, Measures]:
        """What each node counted since its start."""
        return {member.name: await self.get(member.name, "/measures") for member in self.net.plan.members}

    async def get(self, name: str, path: str) -> Measures:
        (api,) = (member.api for member in self.net.plan.members if member.name == name)
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            answer: Measures = (await client.get(f"{api}{path}")).json()
        return answer

    def words(self, name: str, wanted: str) -> list[str]:
        """Lines of a node's log with `wanted` in them, and a few after each."""
        lines = (self.net.plan.home / "nodes" / name / "node.log").read_text(errors="replace").splitlines()
        return [" / ".join(lines[at : at + 40]) for at, line in enumerate(lines) if wanted in line][:3]


@contextlib.asynccontextmanager
async def besieged(home: Path) -> AsyncIterator[Siege]:
    """Three validators, all of whom must take part for a block, and a provider, settled and ready."""
    image.build_demo_image(home / "images")
    plan = testnet.create(home, validators=3, providers=1, every_api=True, accounts=rich_accounts())
    async with testnet.running(plan) as net, Tenant.connect(home) as tenant:
        siege = Siege(net, tenant)
        await siege.settle()
        yield siege


async def run_attack(home: Path, attack: str, told: dict[str, Any]) -> dict[str, Any]:
    """Run attackers as a process; what they say at the end."""
    command = [sys.executable, "-m", "tests.support.attackers", attack, str(home), json.dumps(told)]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()[-4_000:]
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def _megabytes(memory: dict[str, int]) -> str:
    return ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in memory.items())
