"""Retiring through a light client, on the real ledger; and what a provider's home remembers of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from tests.support.chains import Town
from tests.support.light import Full, asking

from fondaco.node import clock
from fondaco.node.registration import RegistrationMark
from fondaco.node.tenant.providing import Offering, registered, retire
from fondaco.node.tenant.wallet import Wallet
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import ChainId, Millis

HOUR = 3_600_000
MANY = limits.RETIREMENT_LEASES + 2


@asynccontextmanager
async def paul_with_leases(path: Path, *, window_ms: int) -> AsyncIterator[Wallet]:
    """The wallet of a provider with more leases than one message ends, while blocks are made of what comes."""
    town = Town("alice", "paul")
    chain = town.open(path / "chain.db")
    alice, paul = town.actors("alice", "paul")
    town.grow(chain, paul.registers(), at=clock.now() - 3_000)
    drafts = [
        alice.leases((paul, 3_600), deposit=1_000, reclamation_window_ms=Millis(window_ms)) for _ in range(MANY)
    ]
    town.grow(chain, *drafts, at=clock.now() - 2_000)
    full = Full(chain)

    async def mine() -> None:
        while True:
            if raws := list(full.mempool.candidates()):
                town.grow(chain, *raws, at=max(clock.now(), chain.head.time + 1))
            await trio.sleep(0.005)

    async with asking(chain, full.methods()) as asked, trio.open_nursery() as nursery:
        nursery.start_soon(mine)
        yield Wallet(asked.client, paul.signer)
        nursery.cancel_scope.cancel()
    chain.close()


async def test_it_is_said_again_until_every_lease_has_ended_and_the_provider_is_gone(tmp_path: Path) -> None:
    told: list[Offering] = []
    async with paul_with_leases(tmp_path, window_ms=0) as wallet:
        assert len((await registered(wallet.light, wallet.signer.public_key)).leases) == MANY
        found = await retire(wallet, wait=False, report=told.append)
        assert [len(one.leases) for one in told] == [2, 0]
        assert told[0].retiring_since is not None
        assert (found.record, found.leases) == (None, ())
        with pytest.raises(Refused) as refusal:
            await retire(wallet, wait=False, report=told.append)
        assert refusal.value.code == "provider.unknown"


async def test_it_ends_where_only_windows_are_left_to_wait_for(tmp_path: Path) -> None:
    told: list[Offering] = []
    async with paul_with_leases(tmp_path, window_ms=HOUR) as wallet:
        found = await retire(wallet, wait=False, report=told.append)
        assert [len(one.unannounced) for one in told] == [2, 0]
        assert (len(found.leases), found.record is None) == (MANY, False)
        assert found.last_end is not None
        assert found.last_end > clock.now()


def test_a_home_remembers_on_which_chain_its_provider_was_registered(tmp_path: Path) -> None:
    mark, one = RegistrationMark(tmp_path / "provider"), ChainId("one")
    assert not mark.is_set(one)
    mark.set(one)
    assert mark.is_set(one)
    assert not mark.is_set(ChainId("another"))
    mark.clear()
    assert not mark.is_set(one)
