"""A tenant's money, over real nodes: what it has, what it pays, and what is said where it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from tests.support.chains import Town, stranger
from tests.support.light import Full, asking
from tests.support.order_markets import grown, market, miner

from fondaco.node import clock
from fondaco.node.tenant import wallet
from fondaco.node.tenant.wallet import Wallet
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Transfer
from fondaco.protocol.scalars import MicroCredits


async def test_a_wallet_pays_asks_the_faucet_and_says_what_failed(tmp_path: Path) -> None:
    async with market(tmp_path) as here, miner(here):
        poor = Wallet(here.light, stranger(here.town).signer)
        assert await poor.account() == wallet.EMPTY
        assert (await poor.ensure(1)).credits == 50_000_000
        assert (await poor.ensure(1)).credits == 50_000_000, "not asked twice"
        height = await poor.transact(Transfer(to=here.paul.key, amount=MicroCredits(1_000)))
        assert (await poor.account(at_least=height)).credits < 49_999_000
        with pytest.raises(Refused) as refusal:
            await poor.ensure(10**12)
        assert refusal.value.code == "wallet.funds"
        assert refusal.value.hint == "order less"
        with pytest.raises(Refused) as refusal:
            await poor.transact(Transfer(to=here.paul.key, amount=MicroCredits(10**12)))
        assert refusal.value.code == "funds.credits"


async def test_what_is_refused_in_its_block_is_told_with_its_code(tmp_path: Path) -> None:
    """Two transfers that cannot both be paid, in one block: the second stands in it, and did nothing."""
    async with market(tmp_path) as here:
        purse = Wallet(here.light, here.tenant.signer)
        codes: list[str] = []

        async def pay(amount: int) -> None:
            try:
                await purse.transact(Transfer(to=here.paul.key, amount=MicroCredits(amount)))
            except Refused as refusal:
                codes.append(refusal.code)

        node = here.nodes[0]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay, 900_000_000)
            nursery.start_soon(pay, 900_000_001)
            while len(node.mempool) < 2:
                await trio.sleep(0.005)
            here.town.grow(node.chain, *node.mempool.candidates(), at=clock.now())
        assert codes == ["funds.credits"]


async def test_without_a_faucet_one_is_told_where_credits_go(tmp_path: Path) -> None:
    town = Town("tenant", "paul", "petra")
    chain = grown(town, tmp_path / "chain.db")
    async with asking(chain, Full(chain).methods()) as asked:
        poor = Wallet(asked.client, stranger(town).signer)
        with pytest.raises(Refused) as refusal:
            await poor.ask_faucet()
        assert refusal.value.code == "faucet.none"
        with pytest.raises(Refused) as refusal:
            await poor.ensure(1)
        assert "fondaco wallet" in refusal.value.hint
    chain.close()
