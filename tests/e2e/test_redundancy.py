"""Three replicas behind a router while their providers are killed: nobody who asks notices, and money lasts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from tests.e2e.test_main_job import HELLO, emptied
from tests.e2e.test_staking import fondaco, told
from tests.support.networks import network

from fondaco.node import image, testnet
from fondaco.node.tenant import records, services
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.routing import Router, RouteSettings
from fondaco.node.tenant.supervising import Event, Supervisor
from fondaco.node.tenant.supervision import Settings
from fondaco.node.tenant.upstreams import follow
from fondaco.protocol.records import Lease, LeaseState, key_lease
from fondaco.protocol.scalars import LeaseId, MicroCredits, Millis

pytestmark = [pytest.mark.e2e, pytest.mark.heavy, pytest.mark.timeout(240)]
AWAY_MS = 2_000
CLIENTS = 4
PATIENCE_S = 100
"""Who bid on an order that came to nothing holds what it offered for a minute."""


@dataclass
class Hammer:
    """Clients that ask without end; what they saw."""

    statuses: Counter[object] = field(default_factory=Counter)
    slowest_ms: float = 0.0

    async def run(self, port: int) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as http:
            while True:
                began = trio.current_time()
                try:
                    answer = await http.get("/health")
                    self.statuses[answer.status_code] += 1
                except httpx.HTTPError as error:
                    self.statuses[repr(error)] += 1
                self.slowest_ms = max(self.slowest_ms, 1_000 * (trio.current_time() - began))
                await trio.sleep(0.02)


@dataclass
class Service:
    """`app`, routed and supervised by this process."""

    net: testnet.Testnet
    tenant: Tenant
    router: Router
    port: int
    events: list[Event]
    hammer: Hammer = field(default_factory=Hammer)

    def provider_of(self, name: str) -> str:
        """The node that serves a replica."""
        peer = self.tenant.find(name).file.peer
        return next(one.name for one in self.net.plan.members if one.address.endswith(peer))

    async def event(self, kind: str, replica: str) -> Event:
        with trio.move_on_after(30):
            while True:
                for one in self.events:
                    if (one.kind, one.replica) == (kind, replica):
                        self.events.remove(one)
                        return one
                await trio.sleep(0.02)
        raise AssertionError(f"no {kind} of {replica}: {self.events}")


@asynccontextmanager
async def served(net: testnet.Testnet, tenant: Tenant, settings: Settings) -> AsyncIterator[Service]:
    events = list[Event]()
    router = Router(RouteSettings(health_path="/health"))
    async with (
        Supervisor(tenant, "app", settings, every_s=1.0, path="/health", report=events.append) as supervisor,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(follow, tenant, "app", router.update)
        port = await nursery.start(router.serve, "127.0.0.1", 0)
        nursery.start_soon(supervisor.run)
        here = Service(net, tenant, router, port, events)
        for _ in range(CLIENTS):
            nursery.start_soon(here.hammer.run, port)
        yield here
        nursery.cancel_scope.cancel()


async def test_a_killed_provider_costs_no_request_and_its_replica_runs_elsewhere_within_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image.build_demo_image(tmp_path / "images")
    (tmp_path / "app.yaml").write_bytes(HELLO)
    async with network(tmp_path, validators=1, providers=4) as net, Tenant.connect(tmp_path) as tenant:
        done = await told(
            "deploy", tmp_path / "app.yaml", "--replicas", 3, "--spread", "region", "--home", tmp_path
        )
        assert [one["name"] for one in done["replicas"]] == ["app.0", "app.1", "app.2"]
        before = await told("status", "app", "--home", tmp_path)
        assert len({one["region"] for one in before["replicas"]}) == 3
        async with served(net, tenant, Settings(away_ms=AWAY_MS)) as here:
            while sum(here.hammer.statuses.values()) < 50:
                await trio.sleep(0.05)
            first = tenant.find("app.1").file
            dead = here.provider_of("app.1")
            await net.kill(dead)
            killed = trio.current_time()
            down = await here.event("down", "app.1")
            replacing = await here.event("replacing", "app.1")
            replaced = await here.event("replaced", "app.1")
            recovered = await here.event("recovered", "app.1")
            asked = sum(here.hammer.statuses.values())
            while sum(here.hammer.statuses.values()) < asked + 100:
                await trio.sleep(0.05)
            figures: dict[str, Any] = {
                "requests": dict(here.hammer.statuses),
                "slowest_request_ms": round(here.hammer.slowest_ms),
                "retried": here.router.counts.retried,
                "detected_to_running_ms": replaced.at - replacing.at,
                "replacement_ms": replaced.figures["took_ms"],
                "measured_downtime_ms": recovered.figures["downtime_ms"],
                "killed_to_recovered_ms": round(1_000 * (trio.current_time() - killed)),
            }
            with capsys.disabled():
                sys.stderr.write(f"\n{json.dumps(figures)}\n")
            assert set(here.hammer.statuses) == {200}, here.hammer.statuses
            assert here.router.counts.failed == 0
            assert replaced.at - replacing.at <= 10_000, "less than 5 s on a machine with nothing else to do"
            assert AWAY_MS <= recovered.figures["downtime_ms"] <= recovered.at - down.at + 5_000
            second = tenant.find("app.1").file
            assert second.provider != first.provider
            assert len({tenant.find(f"app.{number}").file.provider for number in range(3)}) == 3
            assert here.router.upstreams["app.1"].identity == second.lease.hex()
            old = await tenant.light.record(key_lease(LeaseId(first.lease)), Lease)
            assert old is not None
            assert old.state is LeaseState.CLOSED
        await net.start(dead)  # it learns that it serves nobody any more
        await told("close", "app", "--home", tmp_path)
        await emptied(tmp_path)


@dataclass
class Command:
    """A `fondaco` process that goes on, and the objects that it prints."""

    process: trio.Process
    said: list[dict[str, Any]] = field(default_factory=list)
    _rest: bytes = b""

    async def heard(self, event: str) -> dict[str, Any]:
        """The next of this kind."""
        assert self.process.stdout is not None
        with trio.move_on_after(PATIENCE_S):
            while True:
                if found := [one for one in self.said if one["event"] == event]:
                    self.said = self.said[self.said.index(found[0]) + 1 :]
                    return found[0]
                if not (chunk := await self.process.stdout.receive_some()):
                    break
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                self.said += [json.loads(line) for line in lines]
        raise AssertionError(f"no {event}: {self.said}")

    async def killed(self, event: str) -> dict[str, Any] | None:
        """By kill -9; what it had said of this kind and nobody heard."""
        self.process.kill()
        try:
            return await self.heard(event)
        except AssertionError:
            return None


@asynccontextmanager
async def command(*words: object) -> AsyncIterator[Command]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "fondaco", *map(str, words), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def on_its_way(tenant: Tenant, name: str) -> bool:
    """Whether the file of a deployment holds both ends of a replacement."""
    return any(one.name == name and len(one.leases) > 1 for one in records.load_all(tenant.folder))


@pytest.mark.parametrize("when", ["it has decided", "it has signed"])
async def test_a_supervisor_killed_while_it_replaces_goes_on_and_replaces_once(tmp_path: Path, when: str) -> None:
    image.build_demo_image(tmp_path / "images")
    (tmp_path / "app.yaml").write_bytes(HELLO)
    async with network(tmp_path, validators=1, providers=3) as net, Tenant.connect(tmp_path) as tenant:
        at_home = ("--home", tmp_path)
        await told("deploy", tmp_path / "app.yaml", "--replicas", 2, *at_home)
        first = tenant.find("app.0").file
        spare = {one.provider for one in (tenant.find("app.1").file, first)}
        words = ("route", "app", "--listen", "127.0.0.1:0", "--supervise", "--away", 1, "--every", 0.5, *at_home)
        async with command(*words) as running:
            listening = await running.heard("listening")
            async with httpx.AsyncClient(trust_env=False) as http:
                assert (await http.get(f"http://127.0.0.1:{listening['port']}/")).status_code == 200
            peer = first.peer
            dead = next(one.name for one in net.plan.members if one.address.endswith(peer))
            await net.kill(dead)
            assert (await running.heard("replacing"))["replica"] == "app.0"
            with trio.fail_after(30):
                while when == "it has signed" and not on_its_way(tenant, "app.0"):
                    await trio.sleep(0.001)
            done = await running.killed("recovered")
        async with command(*words) as running:
            recovered = done or await running.heard("recovered")
            assert recovered["replica"] == "app.0"
            assert recovered["downtime_ms"] > 1_000
            await running.heard("counters")
            running.process.send_signal(signal.SIGINT)
            assert (await running.heard("counters"))["failed"] == 0
            with trio.fail_after(10):
                assert await running.process.wait() == 0
        moved = tenant.find("app.0")
        record = await moved.record()
        assert record is not None
        assert (record.state, record.generation) == (LeaseState.ACTIVE, 1), "once, and no second time"
        assert record.provider not in spare
        assert (await moved.request("/health"))[0] == 200
        lacking = await fondaco("deploy", tmp_path / "app.yaml", "--replicas", 3, "--yes", *at_home)
        assert (lacking.exit_code, "[replicas.lacking]" in lacking.stderr) == (1, True), lacking.stderr
        assert "2 of 3 replicas are there; app.2: bids.none" in lacking.stderr
        shown = await told("status", "app", *at_home)
        assert [one["condition"] for one in shown["replicas"]] == ["well", "well"]
        assert shown["lacking"] == ["app.2"]
        await net.start(dead)  # or what it ran would outlive this test


@asynccontextmanager
async def dear(home: Path, **params: Millis) -> AsyncIterator[Tenant]:
    """A network of one provider, where 40 ucredit last for some three seconds."""
    image.build_demo_image(home / "images")
    (home / "app.yaml").write_bytes(HELLO)
    chosen = replace(
        testnet.testnet_params(),
        min_runway_ms=Millis(1_000),
        min_deposit=MicroCredits(1),
        **params,  # type: ignore[arg-type]
    )
    testnet.create(home, validators=1, providers=1, params=chosen)
    config = home / "nodes" / "provider-0" / "node.toml"
    config.write_text(config.read_text().replace("price_cpu = 10000", "price_cpu = 80000"))
    async with network(home) as _, Tenant.connect(home) as tenant:
        yield tenant


async def test_a_service_whose_escrow_ran_dry_is_topped_up_and_goes_on(tmp_path: Path) -> None:
    async with dear(tmp_path) as tenant:
        plan = await tenant.plan(HELLO, deposit=40)
        lease = (await tenant.accept(plan, name="hello")).leases[0]
        with trio.fail_after(30):
            while (await lease.status()).phase != "paused":
                await trio.sleep(0.1)
        how = ("--every", 0.5, "--runway", "30s..60s", "--budget", 3_000, "--home", tmp_path)
        async with command("supervise", "hello", *how) as running:
            assert (await running.heard("held"))["replica"] == "hello"
            paid = await running.heard("topped_up")
            assert (paid["state"], paid["ucredit"] <= 3_000) == ("open", True)
            assert (await running.heard("recovered"))["lease"] == lease.id
        assert (await lease.request("/"))[0] == 200
        await lease.close()
        await emptied(tmp_path)


async def test_a_replica_whose_deployment_has_ended_is_ordered_anew_on_the_budget(tmp_path: Path) -> None:
    async with dear(tmp_path, grace_ms=Millis(500)) as tenant:
        one = ("app", "--home", tmp_path)
        await told("deploy", tmp_path / "app.yaml", "--replicas", 1, "--deposit", 40, "--home", tmp_path)
        first = tenant.find("app.0")
        with trio.fail_after(30):
            while (record := await first.record()) is not None and record.state is not LeaseState.CLOSED:
                await trio.sleep(0.1)
        async with command("supervise", *one, "--every", 0.5) as running:
            assert (await running.heard("failed"))["code"] == "supervise.budget"
        path = services.folder(tmp_path, "app") / "supervisor.json"
        path.unlink()  # with the pause before the next attempt
        async with command("supervise", *one, "--every", 0.5, "--budget", 3_000) as running:
            assert (await running.heard("ordered"))["replica"] == "app.0"
            assert (await running.heard("recovered"))["lease"] != first.id
            assert json.loads(path.read_text())["spent"]["ucredit"] == 40
        await told("close", *one)
        assert services.names(tmp_path) == []
        await emptied(tmp_path)
