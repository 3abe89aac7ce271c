"""The whole job of a tenant, by the public SDK, and whether it was done right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio
from tests.support.malice import Network

from fondaco.node import demo
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import Settled
from fondaco.node.tenant.progress import Progress
from fondaco.protocol.records import LeaseState
from fondaco.protocol.scalars import PublicKey, TxId

HELLO = demo.HELLO.read_bytes()
FAUCET = 100_000_000
TOP_UP = 5_000_000
JOB_S = 30.0
"""Bounded by what hangs, one after the other; without a liar it takes a second or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    provider: PublicKey
    deposit: int
    settled: Settled
    fees: int
    """Of every transaction, proven."""
    left: int
    """In the account, proven."""
    took_s: float
    told: list[Progress]


async def whole_job(tenant: Tenant) -> Done:
    """Faucet, order, bids, lease, hand-over, request, status, top-up, close."""
    began, told, fees = trio.current_time(), list[Progress](), counting_fees(tenant)
    await tenant.wallet.ask_faucet()
    plan = await tenant.plan(HELLO, report=told.append)
    deployment = await tenant.accept(plan, name="hello", report=told.append)
    (lease,) = deployment.leases
    status, _ = await lease.request("/")
    assert status == 200
    assert (await lease.status()).phase == "running"
    record = await lease.record()
    assert record is not None
    assert (record.state, record.price_per_hour) == (LeaseState.ACTIVE, plan.price_per_hour)
    await deployment.top_up(TOP_UP)
    settled = await lease.close()
    account = await tenant.wallet.account()
    return Done(
        provider=record.provider,
        deposit=plan.draft.signed.order.deposit,
        settled=settled,
        fees=sum(fees),
        left=account.credits,
        took_s=trio.current_time() - began,
        told=told,
    )


def counting_fees(tenant: Tenant) -> list[int]:
    """What is paid for each transaction from now on, by the proof of what became of it."""
    fees: list[int] = []
    asked = tenant.light.outcome

    async def outcome(identity: TxId) -> Any:
        told = await asked(identity)
        fees.append(told.fee)
        return told

    tenant.light.outcome = outcome  # type: ignore[method-assign]
    return fees


def check_right(network: Network, done: Done) -> None:
    """The cheaper provider was taken, and every ucredit is where it belongs."""
    assert done.provider == network.provider(0)
    assert done.settled.paid + done.settled.refunded == done.deposit + TOP_UP
    assert done.left == FAUCET - done.fees - done.settled.paid
    assert done.took_s < JOB_S
