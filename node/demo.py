"""The main job once, from nothing to a closed lease: what `make demo` runs.

A network of processes is started in a folder of its own; the tenant's steps are the very commands a person
would type, each in a process of its own. This process watches as a light node: it measures finality with
transfers of its own and checks the supply against what the ledger proves.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from fondaco.node import image, testnet
from fondaco.node.tenant.client import Tenant
from fondaco.node.testnet import Testnet
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.messages import Transfer
from fondaco.protocol.records import SUPPLY, TOTALS, Supply, Totals
from fondaco.protocol.scalars import MicroCredits

HELLO = Path(__file__).with_name("hello.yaml")
FINALITY_SAMPLES = 20
SERVE_S = 2.0
"""How long the workload is left running, so that there is something to pay for."""
STEP_TIMEOUT_S = 120

Say = Callable[[str], None]


class DemoFailed(FondacoError):
    """A step of the demo did not do what it should."""

    def __init__(self, step: str, output: str) -> None:
        super().__init__("demo.failed", f"{step}: {output.strip()}", hint="the logs are kept: --home DIR")


async def run_demo(home: Path, *, validators: int, providers: int, file: Path, say: Say) -> dict[str, Any]:
    """Run the main job in a new network in `home`; the figures, as `fondaco demo --json` prints them."""
    began = time.monotonic()
    say("making the demo image and a network")
    image.build_demo_image(home / "images")
    plan = testnet.create(home, validators=validators, providers=providers)
    say(f"starting {validators} validators and {providers} providers of {plan.chain}")
    async with testnet.running(plan) as network:
        say(f"all {len(network.nodes)} nodes serve after {time.monotonic() - began:.1f} s")
        figures = await _main_job(network, home, file, say)
        say("stopping everything")
        codes = await network.stop_all()
    unclean = {name: code for name, code in codes.items() if code != 0}
    if unclean:
        raise DemoFailed("clean shutdown", f"exit codes {unclean}")
    return figures | {
        "validators": validators,
        "providers": providers,
        "wall_s": round(time.monotonic() - began, 1),
    }


async def _main_job(network: Testnet, home: Path, file: Path, say: Say) -> dict[str, Any]:
    deployed = await _json(home, say, "deploy", str(file), "--yes")
    lease = deployed["leases"][0]
    answer = await _json(home, say, "request", lease, "/")
    say(f"GET / through the channel: {answer['status']}, {len(answer['body'])} bytes")
    lines = (await _run(home, say, "logs", lease, "--tail", "5")).splitlines()
    for line in lines:
        say(f"  log        {line}")
    async with Tenant.connect(home) as observer:
        finality = await measure_finality(observer, FINALITY_SAMPLES)
        await trio.sleep(SERVE_S)
        closed = await _json(home, say, "close", lease)
        say(f"closed: {closed['paid_ucredit']} ucredit paid, {closed['refunded_ucredit']} refunded")
        conserved = await supply_conserved(observer)
    marks = ("order_to_first_bid_ms", "order_to_lease_ms", "order_to_running_ms", "order_to_first_byte_ms")
    return {
        **{mark: deployed[mark] for mark in marks},
        "finality_ms": {"p50": percentile(finality, 50), "p99": percentile(finality, 99)},
        "http_status": answer["status"],
        "log_lines": len(lines),
        "paid_ucredit": closed["paid_ucredit"],
        "refunded_ucredit": closed["refunded_ucredit"],
        "deposit_ucredit": deployed["deposit_ucredit"],
        "supply_conserved": conserved,
        "bids": deployed["bids"],
        "declines": deployed["declines"],
    }


async def measure_finality(tenant: Tenant, samples: int) -> list[int]:
    """Milliseconds from handing in a transfer to a proof of what it did, one after the other."""
    took = []
    own = tenant.wallet.signer.public_key
    for _ in range(samples):
        began = time.monotonic()
        height = await tenant.wallet.transact(Transfer(to=own, amount=MicroCredits(1)))
        await tenant.wallet.account(at_least=height)
        took.append(round((time.monotonic() - began) * 1_000))
    return took


async def supply_conserved(tenant: Tenant) -> bool:
    """Whether accounts, escrows and the pool together hold what was ever made, by proven records."""
    supply = await tenant.light.record(SUPPLY, Supply)
    totals = await tenant.light.record(TOTALS, Totals)
    if supply is None or totals is None:
        return False
    held = totals.account_credits + totals.escrow_credits + totals.pool_credits
    return held == supply.credits and totals.account_stake + totals.bonded_stake == supply.stake


def percentile(values: list[int], percent: int) -> int:
    """The value that `percent` of the others do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


async def _json(home: Path, say: Say, *arguments: str) -> dict[str, Any]:
    output = await _run(home, say, *arguments, "--json")
    try:
        result: dict[str, Any] = json.loads(output)
    except ValueError:
        raise DemoFailed(arguments[0], output) from None
    return result


async def _run(home: Path, say: Say, *arguments: str) -> str:
    """Run one `fondaco` command as its own process, passing on its progress; what it printed."""
    command = [sys.executable, "-m", "fondaco", *arguments, "--home", str(home), "--key", "tenant"]
    say(f"$ fondaco {' '.join(arguments)}")
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, told = bytearray(), bytearray()

    async def read_output() -> None:
        assert process.stdout is not None
        async for chunk in process.stdout:
            printed.extend(chunk)

    async def read_progress() -> None:
        assert process.stderr is not None
        rest = b""
        async for chunk in process.stderr:
            told.extend(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                say(line.decode(errors="replace"))

    try:
        with trio.fail_after(STEP_TIMEOUT_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_output)
                nursery.start_soon(read_progress)
            code = await process.wait()
    except trio.TooSlowError:
        raise DemoFailed(arguments[0], f"no end after {STEP_TIMEOUT_S} s") from None
    finally:
        if process.returncode is None:
            process.kill()
    if code != 0:
        raise DemoFailed(arguments[0], told.decode(errors="replace"))
    return printed.decode(errors="replace")
