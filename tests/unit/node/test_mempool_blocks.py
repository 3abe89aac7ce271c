"""What a block does to the transactions that wait: some are in it, some are made impossible, some possible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.chains import Town, town_chain
from tests.support.ledger import RICH
from tests.support.pools import Pool, codes, open_pool

from fondaco.node import clock
from fondaco.protocol import limits
from fondaco.protocol.scalars import ChainId, Millis


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with open_pool(tmp_path) as pool:
        yield pool


def test_a_block_takes_out_what_it_holds_and_what_it_made_impossible(pool: Pool) -> None:
    taken, left = pool.sign(pool.alice.pays(pool.bob, 1)), pool.sign(pool.alice.pays(pool.bob, 2))
    too_much = pool.sign(pool.bob.pays(pool.alice, RICH - 1_000))
    for raw in (taken, left, too_much):
        pool.mempool.add(raw)
    pool.block(taken, pool.sign(pool.bob.pays(pool.alice, 10_000)))
    assert pool.offered() == [left]
    assert pool.mempool.refused == 1
    assert pool.refuses(taken) == "tx.used"
    assert pool.refuses(too_much) == "funds.credits"


def test_what_expires_by_block_time_is_dropped(pool: Pool) -> None:
    soon = Millis(clock.now() + 60_000)
    early, later = (pool.sign(pool.alice.pays(pool.bob, 1), expires_at=at) for at in (soon, Millis(soon + 2)))
    for raw in (early, later):
        pool.mempool.add(raw)
    pool.block(at=soon - 1)
    assert pool.offered() == [early, later], "the next block may still be stamped with that moment"
    pool.block(at=soon)
    assert pool.offered() == [later]
    assert pool.refuses(early) == "tx.expired"


def test_nothing_is_checked_again_that_the_block_does_not_concern(pool: Pool) -> None:
    for actor in (pool.alice, pool.bob):
        for _ in range(5):
            pool.mempool.add(pool.pays(actor))
    pool.block(pool.pays(pool.carol))
    assert pool.mempool.rechecked == 0
    pool.block(pool.pays(pool.alice))
    assert pool.mempool.rechecked == 0, "alice can still pay for all that waits"
    pool.block(pool.pays(pool.alice, RICH - 100_000))
    assert pool.mempool.rechecked == 0
    pool.block(pool.pays(pool.bob, RICH - 1_000))
    assert pool.mempool.rechecked == 5, "bob cannot"


def test_an_account_that_is_gone_can_pay_for_nothing(pool: Pool) -> None:
    params = pool.chain.ledger.params
    fee = params.fee_base + params.fee_per_byte * len(pool.pays(pool.bob, RICH))
    pool.mempool.add(pool.pays(pool.bob))
    pool.block(pool.pays(pool.bob, RICH - fee))
    assert len(pool.mempool) == 0


def test_what_is_checked_again_after_one_block_is_bounded_and_the_rest_follows(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MEMPOOL_RECHECKS", 2)
    for _ in range(5):
        pool.mempool.add(pool.pays(pool.bob, RICH // 2))
    pool.block(pool.pays(pool.bob, RICH // 4 * 3))
    assert len(pool.mempool) == 3
    pool.block()
    assert len(pool.mempool) == 1
    assert pool.offered() == [], "what nobody came to look at is looked at before it is proposed"
    assert len(pool.mempool) == 0
    assert pool.mempool.refused == 5


def test_what_depends_on_more_than_money_is_looked_at_in_turn_and_before_it_is_proposed(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MEMPOOL_SWEEP", 1)
    for actor in (pool.alice, pool.bob, pool.carol):
        pool.mempool.add(pool.sign(actor.registers_template(100)))
    pool.block()
    pool.block()
    assert pool.mempool.rechecked == 2
    assert len(pool.offered()) == 3
    assert pool.mempool.rechecked == 4, "the two that were not looked at since the last block"
    assert len(pool.offered()) == 3
    assert pool.mempool.rechecked == 4


def test_new_parameters_cast_doubt_on_everything(tmp_path: Path) -> None:
    town = Town("alice", "bob", "carol", "dave")
    town = town.reborn(replace(town.genesis, authority=town.actors("alice")[0].key))
    with closing(town.open(tmp_path / "chain.db")) as chain:
        pool = Pool(town, chain)
        for _ in range(3):
            pool.mempool.add(pool.pays(pool.bob))
        pool.block(pool.sign(pool.alice.sets(fee_base=10)))
        assert pool.mempool.rechecked == 3


async def test_what_peers_send_too_early_is_tried_again_after_a_block(pool: Pool) -> None:
    """Their chain may be ahead of ours: the money is there one block later."""
    early = pool.sign(pool.bob.pays(pool.alice, RICH))
    assert codes(await pool.hears(early)) == ["funds.credits"], "not passed on either"
    assert len(pool.mempool) == 0
    pool.block(pool.sign(pool.alice.pays(pool.bob, 10_000)))
    assert pool.offered() == [early]
    assert codes(await pool.hears(early)) == ["in"]


async def test_what_is_still_impossible_after_a_block_is_given_up(pool: Pool) -> None:
    await pool.hears(pool.sign(pool.bob.pays(pool.alice, 2 * RICH)))
    pool.block()
    assert not pool.mempool.later
    assert len(pool.mempool) == 0


async def test_what_waits_for_another_try_is_bounded_and_worth_it(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MEMPOOL_LATER", 2)
    await pool.hears(pool.forged(), pool.sign(pool.alice.pays(pool.bob, 1), chain=ChainId("other")))
    assert not pool.mempool.later
    await pool.hears(*(pool.sign(pool.bob.pays(pool.alice, 2 * RICH + amount)) for amount in range(4)))
    assert len(pool.mempool.later) == 2


def test_a_clock_behind_block_time_does_not_hold_transactions_up(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.block()
    monkeypatch.setattr(clock, "now", lambda: Millis(pool.chain.head.time - 5_000))
    pool.mempool.add(pool.town.sign(pool.alice.pays(pool.bob, 1), at=pool.chain.head.time))
    assert len(pool.mempool) == 1


def test_what_a_block_did_to_a_lease_or_a_provider_concerns_what_is_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MEMPOOL_SWEEP", 0)
    with town_chain(tmp_path, "alice", "bob", "carol", "dave", min_deposit=1, handoff_fee_cap=0) as (town, chain):
        pool = Pool(town, chain)
        alice, bob, carol = pool.alice, pool.bob, pool.carol
        pool.block(pool.sign(bob.registers()))
        lease, other = (alice.leases((bob, 1_000), deposit=1_000_000) for _ in range(2))
        pool.block(pool.sign(lease))
        assert lease.deployment in pool.deployments()
        for draft in (
            carol.deposits(lease.deployment, 1_000),
            bob.activates(lease.lease, receipt_of=alice),
            alice.closes(lease.lease),
            other,
        ):
            pool.mempool.add(pool.sign(draft))
        pool.block()
        assert pool.mempool.rechecked == 0
        pool.block(pool.sign(alice.closes_all(lease.deployment)))
        assert pool.mempool.rechecked == 3
        assert 2 <= pool.mempool.refused == 4 - len(pool.mempool)
        pool.block(pool.sign(bob.registers(attributes=[("region", "eu")])))
        assert pool.mempool.rechecked == 4 + (3 - pool.mempool.refused)
