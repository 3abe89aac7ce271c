"""What was earned is taken on time, and what is not needed here is moved away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from tests.support.fake_market import FakeChain
from tests.support.hand_offs import OTHER, PROVIDER, START, make_lease, make_order

from fondaco.protocol.messages import Transfer, Withdraw
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.scalars import MicroCredits, Millis
from fondaco.provider.earnings import Earnings, Sweep

EVERY_MS = Millis(60_000)
COLD = OTHER.public_key


def active(number: int = 0) -> Lease:
    lease = make_lease(make_order(salt=number), state=LeaseState.ACTIVE)
    return replace(lease, activated_at=START, accrued_to=START)


def taken(chain: FakeChain) -> list[bytes]:
    return [message.lease for message in chain.submitted if isinstance(message, Withdraw)]


@asynccontextmanager
async def earning(chain: FakeChain, sweep: Sweep | None = None) -> AsyncIterator[Earnings]:
    earnings = Earnings(chain, PROVIDER.public_key, every_ms=EVERY_MS, sweep=sweep)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(earnings.run)
        yield earnings
        nursery.cancel_scope.cancel()


async def test_earnings_of_active_leases_are_withdrawn_by_the_batch() -> None:
    chain, leases = FakeChain(), [active(number) for number in range(18)]
    for lease in leases:
        chain.put(lease)
    chain.put(make_lease(make_order(salt=99)))
    earnings = Earnings(chain, PROVIDER.public_key, every_ms=EVERY_MS)
    await earnings.withdraw()
    assert sorted(taken(chain)) == sorted(lease.id for lease in leases)
    assert earnings.withdrawals == len(leases)


async def test_withdrawal_is_scheduled_and_survives_a_failure(autojump_clock: object) -> None:
    chain = FakeChain()
    chain.put(active())
    chain.lose = 1
    async with earning(chain) as earnings:
        await trio.sleep(2.5 * EVERY_MS / 1_000)
    assert len(taken(chain)) == 1
    assert (earnings.withdrawals, earnings.failures) == (1, 1)


@pytest.mark.parametrize(("down_ms", "soon"), [(EVERY_MS + 10_000, True), (20_000, False)])
async def test_a_restart_neither_hurries_nor_delays_it(down_ms: int, soon: bool, autojump_clock: object) -> None:
    chain = FakeChain()
    chain.put(active())
    chain.block(ms=down_ms)
    async with earning(chain):
        await trio.sleep(1)
        assert len(taken(chain)) == soon
        await trio.sleep((EVERY_MS - down_ms) / 1_000 if not soon else 0)
        assert len(taken(chain)) == 1


async def test_what_is_above_what_stays_is_moved_when_it_is_worth_it(autojump_clock: object) -> None:
    chain = FakeChain()
    sweep = Sweep(to=COLD, keep=MicroCredits(1_000), least=MicroCredits(500))
    chain.accounts[PROVIDER.public_key] = 1_499
    async with earning(chain, sweep) as earnings:
        await trio.sleep(EVERY_MS / 1_000 + 1)
        assert chain.accounts[COLD] == 0, "one short"
        chain.accounts[PROVIDER.public_key] += 1
        await trio.sleep(EVERY_MS / 1_000)
        assert (chain.accounts[COLD], chain.accounts[PROVIDER.public_key]) == (500, 1_000)
        assert earnings.swept == 500


async def test_what_could_not_be_moved_is_moved_the_next_time(autojump_clock: object) -> None:
    chain = FakeChain()
    chain.accounts[PROVIDER.public_key] = 10
    async with earning(chain, Sweep(to=COLD, keep=MicroCredits(0), least=MicroCredits(0))) as earnings:
        chain.lose = 1
        await trio.sleep(2 * EVERY_MS / 1_000 + 1)
    assert (earnings.failures, earnings.swept, chain.accounts[COLD]) == (1, 10, 10)
    assert sum(isinstance(message, Transfer) for message in chain.submitted) == 1, "nothing is moved when empty"
