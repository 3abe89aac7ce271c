"""The market beside a node: it follows what is committed and heard, and loses nothing when the process dies."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import trio
from tests.support import children
from tests.support.chains import Town, order_by, town_chain
from tests.support.markets import marketplace
from tests.support.network import until

from fondaco.node.book import Book
from fondaco.node.chain import Chain
from fondaco.node.market.dump import difference
from fondaco.node.market.index import rebuild
from fondaco.node.market.log import EventLog, RawHeard
from fondaco.node.market.service import Market
from fondaco.protocol import limits
from fondaco.protocol.scalars import Height, Millis

FOLLOWS = """
import sys
from pathlib import Path
import trio
from tests.support.chains import Town, order_by
from fondaco.node.book import Book
from fondaco.node.market.service import Market
from fondaco.protocol import limits
limits.MARKET_EVENTS_KEPT = 8

async def main(home):
    town = Town("alice")
    chain = town.open(home / "chain.db")
    (home / "genesis").write_text("\\n".join([str(town.genesis.time)]))
    book = Book(chain)
    market = Market(chain, book, home / "market", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(market.run)
        while True:
            book.add_order(order_by(town.actors("alice")[0])[1])
            town.grow(chain)
            print(chain.head.height, market.height)
            while market.height is None or chain.head.height > market.height + 5:
                await trio.sleep(0.001)

trio.run(main, Path(sys.argv[1]))
"""


async def run_until_caught_up(market: Market, chain: Chain) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(market.run)
        await until(lambda: market.height == chain.head.height)
        nursery.cancel_scope.cancel()


def rebuilt(market: Market, town: Chain, folder: Path) -> Path:
    log = EventLog.open(market.folder / "log.db", town.id)
    try:
        rebuild(log, folder / "again.db")
    finally:
        log.close()
    return folder / "again.db"


async def test_it_follows_the_chain_and_hears_the_book(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice") as (town, chain):
        book = Book(chain)
        market = Market(chain, book, tmp_path / "market", 0)
        assert market.needs == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(market.run)
            for _ in range(3):
                town.grow(chain)
                book.add_order(order_by(town.actors("alice")[0])[1])
                await until(lambda: market.height == chain.head.height)
            await until(lambda: len(heard(market)) == 3)
            nursery.cancel_scope.cancel()
        assert market.needs == 4
        assert [height for height, _ in heard(market)] == [1, 2, 3]
        assert difference(market.database, rebuilt(market, chain, tmp_path)) == ""


def heard(market: Market) -> list[tuple[int, int]]:
    with sqlite3.connect(market.database) as connection:
        found = connection.execute("SELECT seen_height, seen_at FROM orders ORDER BY seen_at, seen_height")
        rows: list[tuple[int, int]] = found.fetchall()
    connection.close()
    return rows


async def test_it_catches_up_with_what_came_while_it_did_not_run(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice") as (town, chain):
        market = Market(chain, Book(chain), tmp_path / "market", 0)
        for _ in range(limits.MARKET_STEP_BLOCKS * 2 + 3):
            town.grow(chain)
        await run_until_caught_up(market, chain)
        town.grow(chain)
        again = Market(chain, Book(chain), tmp_path / "market", 0)
        await run_until_caught_up(again, chain)
        assert difference(market.database, rebuilt(market, chain, tmp_path)) == ""


async def test_more_than_may_wait_is_shed_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MARKET_HEARD", 2)
    with town_chain(tmp_path, "alice") as (town, chain):
        book = Book(chain)
        market = Market(chain, book, tmp_path / "market", 0)
        for _ in range(3):
            book.add_order(order_by(town.actors("alice")[0])[1])
        assert market.shed == 1


async def test_a_disk_that_refuses_stops_the_market_and_not_the_chain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with town_chain(tmp_path, "alice") as (town, chain):
        (tmp_path / "market").write_text("a file where the folder should be")
        market = Market(chain, Book(chain), tmp_path / "market", 0)
        await market.run()
        assert "the market stands still" in caplog.text
        town.grow(chain)
        assert chain.store.events(Height(1)) is not None, "kept until it can be logged"


async def test_after_kill_9_the_log_goes_on_whole_and_events_were_forgotten_meanwhile(tmp_path: Path) -> None:
    for round_ in range(3):
        children.kill_after(FOLLOWS_AGAIN if round_ else FOLLOWS, tmp_path, lines=40 + 7 * round_)
        town = reopened(tmp_path)
        chain = town.open(tmp_path / "chain.db")
        market = Market(chain, Book(chain), tmp_path / "market", 0)
        await run_until_caught_up(market, chain)
        log = EventLog.view(tmp_path / "market" / "log.db")
        assert log.heights() == (1, chain.head.height), "no block is missing"
        numbers = [entry.number for entry in log.read()]
        assert numbers == list(range(1, len(numbers) + 1)), "and nothing is there twice"
        log.close()
        assert chain.store.events(Height(1)) is None
        assert difference(market.database, rebuilt(market, chain, tmp_path)) == ""
        chain.close()


FOLLOWS_AGAIN = FOLLOWS.replace('town = Town("alice")', "town = reopened(home)").replace(
    "from fondaco.node.book", "from tests.unit.node.market.test_service import reopened\nfrom fondaco.node.book"
)


def reopened(home: Path) -> Town:
    """The town whose chain lies in `home`: its genesis began at another moment than a new one's would."""
    from dataclasses import replace

    from fondaco.protocol.scalars import Millis

    town = Town("alice")
    time = Millis(int((home / "genesis").read_text()))
    return town.reborn(replace(town.genesis, time=time))


def test_what_an_older_program_heard_in_another_form_is_passed_over(tmp_path: Path) -> None:
    with marketplace(tmp_path, "tina") as market:
        _, order = order_by(market.town.actors("tina")[0])
        market.log.append([RawHeard(height=Height(0), time=Millis(1), raw=b"\x92\x06\x90")] * 40)
        market.hear(order)
        market.step()
        assert market.index.number == market.log.last() == 41
        assert market.row("SELECT count(*) AS many FROM orders") == {"many": 1}
