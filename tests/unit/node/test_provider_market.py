"""The bid engine's view of a node's order book."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
from tests.support.chains import decline_by, order_by, town_chain
from tests.support.streets import Street

from fondaco.node.provider_host import ProviderMarket
from fondaco.protocol.scalars import MicroCredits


async def test_bids_are_told_as_they_are_admitted_and_no_more_once_nobody_listens(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice", "bob", "paul", "petra") as (town, chain):
        street = Street(town, chain)
        node: Any = SimpleNamespace(book=street.book)
        market = ProviderMarket(node)
        identity, order = order_by(street.alice)
        street.book.add_order(order)
        first = street.paul.bid(order, 900)
        street.book.add_answer(first)
        listeners = len(street.book.listeners)
        heard = []
        with trio.fail_after(5):
            async with aclosing(market.bids()) as bids, trio.open_nursery() as nursery:

                async def listen() -> None:
                    heard.append(await anext(bids))

                nursery.start_soon(listen)
                await trio.testing.wait_all_tasks_blocked()
                street.book.add_answer(decline_by(street.petra, identity))
                street.book.add_answer(street.petra.bid(order, 800))
        assert [bid.price_per_hour for bid in heard] == [800]
        assert sorted(bid.price_per_hour for bid in market.bids_on(identity)) == [800, 900]
        assert replace(first.bid, price_per_hour=MicroCredits(900)) in market.bids_on(identity)
        assert len(street.book.listeners) == listeners
