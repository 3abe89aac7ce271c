"""Room in the mempool: how much an account may take, whose turn it is, and who gives way when all is full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.chains import town_chain
from tests.support.ledger import RICH
from tests.support.pools import Pool, codes, open_pool

from fondaco.protocol import limits


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with open_pool(tmp_path) as pool:
        yield pool


# Fairness


@pytest.mark.parametrize("limit", ["MEMPOOL_ACCOUNT_TRANSACTIONS", "MEMPOOL_ACCOUNT_BYTES"])
async def test_one_account_may_have_so_many_waiting_and_no_more(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    first, second, third = (pool.pays(pool.alice) for _ in range(3))
    monkeypatch.setattr(limits, limit, 2 if limit.endswith("TRANSACTIONS") else 2 * len(first))
    assert codes(await pool.hears(first, second, third)) == ["in", "in", "mempool.quota"]
    assert pool.refuses(third) == "mempool.quota"
    pool.mempool.add(pool.pays(pool.bob))
    pool.block(first)
    pool.mempool.add(third)


def test_fees_are_owed_for_all_that_waits(pool: Pool) -> None:
    """Or an account that can pay for one transaction could fill the place of many."""
    pool.mempool.add(pool.pays(pool.alice, tip=RICH // 2))
    assert pool.refuses(pool.pays(pool.alice, tip=RICH // 2)) == "tx.fee"
    pool.mempool.add(pool.pays(pool.alice, tip=RICH // 4))


def test_accounts_take_turns_and_each_keeps_its_order(pool: Pool) -> None:
    of_alice = [pool.pays(pool.alice) for _ in range(3)]
    of_bob, of_carol = [pool.pays(pool.bob) for _ in range(2)], [pool.pays(pool.carol)]
    for raw in (*of_alice, *of_bob, *of_carol):
        pool.mempool.add(raw)
    firsts, seconds = [of_alice[0], of_bob[0], of_carol[0]], [of_alice[1], of_bob[1]]
    assert pool.offered() == [*firsts, *seconds, of_alice[2]]


def test_among_equals_the_higher_tip_comes_first_and_what_is_free_last(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice", "bob", "carol", "dave", faucet_credits=1) as (town, chain):
        pool = Pool(town, chain)
        free = pool.sign(pool.dave.asks_faucet(1))
        plain, tipped, second = pool.pays(pool.alice), pool.pays(pool.bob, tip=500), pool.pays(pool.bob, tip=900)
        for raw in (free, plain, tipped, second):
            pool.mempool.add(raw)
        assert pool.offered() == [tipped, plain, free, second]


def test_what_leaves_while_candidates_are_looked_through_is_passed_over(pool: Pool) -> None:
    raws = [pool.pays(pool.alice), pool.pays(pool.bob)]
    for raw in raws:
        pool.mempool.add(raw)
    candidates = pool.mempool.candidates()
    assert next(candidates) == raws[0]
    pool.block(raws[1])
    assert list(candidates) == []


# When it is full


@pytest.fixture
def full(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A mempool with room for three, and three in it: two that are cheap and one that tips."""
    raws = [pool.pays(pool.alice), pool.pays(pool.bob), pool.pays(pool.carol, tip=500)]
    for raw in raws:
        pool.mempool.add(raw)
    monkeypatch.setattr(limits, "MEMPOOL_TRANSACTIONS", 3)
    return raws


def test_who_pays_more_puts_out_the_cheapest_and_oldest(pool: Pool, full: list[bytes]) -> None:
    better = pool.pays(pool.dave, tip=1_000)
    pool.mempool.add(better)
    assert pool.offered() == [better, full[2], full[1]]
    assert pool.mempool.evicted == 1
    best = [pool.pays(pool.dave, tip=2_000) for _ in range(2)]
    for raw in best:
        pool.mempool.add(raw)
    assert set(pool.offered()) == {better, *best}


def test_who_pays_no_more_finds_it_full(pool: Pool, full: list[bytes]) -> None:
    assert pool.refuses(pool.pays(pool.dave)) == "mempool.full"
    pool.mempool.add(full[0])
    pool.block(full[0])
    pool.mempool.add(pool.pays(pool.dave))


def test_to_find_it_full_costs_no_signature(pool: Pool, full: list[bytes]) -> None:
    before = pool.verifier.asked
    pool.refuses(pool.pays(pool.dave))
    assert pool.verifier.asked == before


def test_bytes_are_bounded_too_and_nobody_is_put_out_in_vain(
    pool: Pool, full: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MEMPOOL_BYTES", sum(map(len, full)))
    three = pool.alice.pays(pool.bob, 1) & pool.alice.pays(pool.bob, 2) & pool.alice.pays(pool.bob, 3)
    huge = three & three & three & three
    assert pool.refuses(pool.sign(replace(huge, tip=1_000))) == "mempool.full"
    larger = pool.sign(replace(three, tip=1_000))
    assert len(full[0]) < len(larger) <= len(full[0]) + len(full[1])
    pool.mempool.add(larger)
    assert set(pool.offered()) == {larger, full[2]}
