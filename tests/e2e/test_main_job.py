"""The main job, whole: from an order to a closed lease, with crashes on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
from tests.support.fixtures import fixtures_dir
from tests.support.networks import network

from fondaco.node import demo, image
from fondaco.node.tenant import sharing
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import Deployment
from fondaco.node.tenant.progress import Progress
from fondaco.node.tenant.sharing import SharedLease
from fondaco.protocol.errors import FondacoError, Refused
from fondaco.protocol.records import LeaseState

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
HELLO = demo.HELLO.read_bytes()


def test_the_demo_does_the_main_job_and_says_what_it_took(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fondaco", "demo", "--json", "--home", str(tmp_path / "home")],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["http_status"] == 200
    assert (figures["validators"], figures["providers"]) == (4, 2)
    assert figures["bids"] + figures["declines"] >= 2
    assert figures["bids"] >= 1
    assert figures["log_lines"] >= 1
    assert figures["paid_ucredit"] > 0
    assert figures["paid_ucredit"] + figures["refunded_ucredit"] == figures["deposit_ucredit"]
    assert figures["supply_conserved"] is True
    steps = [figures[f"order_to_{step}_ms"] for step in ("first_bid", "lease", "running")]
    assert steps == sorted(steps)
    assert 0 < figures["finality_ms"]["p50"] <= figures["finality_ms"]["p99"]
    assert sandboxes(tmp_path) == []


async def test_the_job_goes_on_though_any_validator_is_killed_in_the_middle(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    async with network(tmp_path, validators=4, providers=1) as net, Tenant.connect(tmp_path) as tenant:
        await net.kill("validator-2")
        deployment = await run_hello(tenant)
        await net.kill("provider-0")
        await net.start("provider-0")
        await net.start("validator-2")
        assert (await answer(deployment))[0] == 200
        settled = await deployment.leases[0].close()
        assert settled.paid >= 0
        await emptied(tmp_path)


async def test_a_lease_survives_kill_9_of_its_provider_and_the_workload_was_never_stopped(tmp_path: Path) -> None:
    """Nor is any token that was revoked before good for anything after."""
    image.build_demo_image(tmp_path / "images")
    async with (
        network(tmp_path, validators=1, providers=1) as net,
        Tenant.connect(tmp_path) as tenant,
        Tenant.connect(tmp_path, key="auditor") as colleague,
    ):
        deployment = await run_hello(tenant)
        lease, holder = deployment.leases[0], colleague.wallet.signer.public_key
        tokens = [sharing.issue(lease, holder, ["status"], life_ms=3_600_000) for _ in range(2)]
        revoked, kept = [await sharing.open_shared(colleague, token) for token in tokens]
        assert (await revoked.status()).phase == "running"
        await sharing.revoke(lease, tokens[:1])
        before = sandboxes(tmp_path)
        assert before
        await net.kill("provider-0")
        assert sandboxes(tmp_path) == before, "workloads do not die with their provider"
        await net.start("provider-0")
        assert (await answer(deployment))[0] == 200
        await phase(kept, "running")
        with pytest.raises(Refused) as refusal:
            await revoked.status()
        assert refusal.value.code == "capability.revoked"
        assert sandboxes(tmp_path) == before
        record = await lease.record()
        assert record is not None
        assert record.state == LeaseState.ACTIVE
        await deployment.leases[0].close()
        await emptied(tmp_path)


async def test_a_workload_that_died_with_the_machine_is_started_again(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    async with network(tmp_path, validators=1, providers=1) as net, Tenant.connect(tmp_path) as tenant:
        deployment = await run_hello(tenant)
        await net.kill("provider-0")
        for pid in sandboxes(tmp_path):
            kill(pid)
        await net.start("provider-0")
        assert (await answer(deployment))[0] == 200
        await deployment.leases[0].close()
        await emptied(tmp_path)


async def test_providers_decline_with_the_numbers_that_failed_and_nothing_is_spent(tmp_path: Path) -> None:
    async with network(tmp_path, validators=1, providers=2) as _, Tenant.connect(tmp_path) as tenant:
        await tenant.wallet.ask_faucet()
        account = await tenant.wallet.account()
        too_big = HELLO.replace(b"units: 0.5", b"units: 300")
        with pytest.raises(Refused) as refusal:
            await tenant.plan(too_big)
        assert refusal.value.code == "bids.none"
        assert "300000" in refusal.value.message
        too_cheap = HELLO.replace(b"amount: 100", b"amount: 0.01")
        with pytest.raises(Refused) as refusal:
            await tenant.plan(too_cheap)
        assert "price" in refusal.value.message
        assert await tenant.wallet.account() == account


async def test_a_deposit_that_the_tenant_cannot_afford_is_refused_before_anything_is_ordered(
    tmp_path: Path,
) -> None:
    async with network(tmp_path, validators=1) as _, Tenant.connect(tmp_path) as tenant:
        with pytest.raises(Refused) as refusal:
            await tenant.plan(HELLO, deposit=10**12)
        assert refusal.value.code == "wallet.funds"


async def test_a_validator_with_everything_loaded_stays_below_its_memory_limit(tmp_path: Path) -> None:
    async with network(tmp_path, validators=2) as net, Tenant.connect(tmp_path) as tenant:
        await tenant.wallet.ask_faucet()
        for name in net.nodes:
            assert psutil.Process(net.pid(name)).memory_info().rss < 150e6, name


async def run_hello(tenant: Tenant) -> Deployment:
    plan = await tenant.plan(HELLO)
    return await tenant.accept(plan, name="hello")


async def answer(deployment: Deployment) -> tuple[int, bytes]:
    """GET / as soon as the provider is back."""
    with trio.fail_after(60):
        while True:
            try:
                return await deployment.leases[0].request("/")
            except FondacoError:
                await trio.sleep(0.2)


async def phase(lease: SharedLease, wanted: str) -> None:
    """Wait for it: what runs may be answered for before the provider that has come back has looked it over."""
    with trio.fail_after(60):
        while (await lease.status()).phase != wanted:
            await trio.sleep(0.1)


def sandboxes(home: Path) -> list[int]:
    """Processes that run something below `home` though they are no node of it."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(home) in line and "node run" not in line and process.pid != os.getpid():
            found.append(process.pid)
    return sorted(found)


async def emptied(home: Path) -> None:
    """Wait until no sandbox is left."""
    with trio.fail_after(30):
        while sandboxes(home):
            await trio.sleep(0.1)


def kill(pid: int) -> None:
    try:
        psutil.Process(pid).kill()
    except psutil.NoSuchProcess:
        return


async def test_real_application_files_are_ordered_and_every_provider_answers_each(tmp_path: Path) -> None:
    corpus = fixtures_dir() / "sdl" / "corpus"
    files = [corpus / name for name in ("mlflow__deploy.yaml", "akave__deploy.yaml", "flame__deploy.yaml")]
    async with network(tmp_path, validators=1, providers=2) as _, Tenant.connect(tmp_path) as tenant:
        for file in files:
            answers: list[Progress] = []
            refused = ""
            try:
                await tenant.plan(file.read_bytes(), report=answers.append)
            except Refused as refusal:
                refused = refusal.code
            assert refused in ("", "bids.none"), "declined by all, for the auditor it asks for"
            assert len([one for one in answers if one.step == "answer"]) == 2, file.name


async def test_every_step_of_a_job_can_be_told_and_the_market_database_made_anew(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    async with network(tmp_path, validators=4, providers=2) as net, Tenant.connect(tmp_path) as tenant:
        deployment = await run_hello(tenant)
        lease = deployment.leases[0].id
        settled = await deployment.leases[0].close()
        with trio.fail_after(30):
            while (story := told("why", lease, "--home", tmp_path))["text"].find("; closed") < 0:
                await trio.sleep(0.2)
        await net.kill("validator-0")
        again = tmp_path / "again.db"
        told("market", "rebuild", "--home", tmp_path, "--out", again)
        await net.start("validator-0")
        await emptied(tmp_path)
    steps = story["steps"]
    assert [step["what"] for step in steps][:2] == ["order", "bid"]
    events = [step["facts"]["event"] for step in steps if step["what"] == "event"]
    assert events[:2] == ["lease_opened", "lease_activated"]
    assert events[-2:] == ["lease_closed", "refunded"]
    assert sum(step["facts"]["amount"] for step in steps if step["facts"].get("event") == "paid") == settled.paid
    assert all(step["facts"]["signature_holds"] for step in steps if "signature" in step["facts"])
    blocks = [step["facts"] for step in steps if step["what"] == "block"]
    assert all(block["certificate_holds"] for block in blocks)
    assert all(3 * block["signed_power"] > 2 * block["total_power"] for block in blocks)
    live = tmp_path / "nodes" / "validator-0" / "data" / "market" / "market.db"
    told("market", "rebuild", "--home", tmp_path, "--out", tmp_path / "stopped.db")
    assert told("market", "compare", live, tmp_path / "stopped.db")["equal"] is True
    (row,) = told("market", "query", "order_times", "--home", tmp_path)["order_times"]
    assert 0 <= row["to_bid_ms"] < row["to_running_ms"]


def told(*arguments: object) -> Any:
    """What a command answers as JSON."""
    command = [sys.executable, "-m", "fondaco", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
