"""Transactions on their way into the mempool, over a real chain: taken, refused, and not looked at twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.support.ledger import RICH
from tests.support.pools import Pool, codes, open_pool

from fondaco.node import clock
from fondaco.node.verifying import Verifier
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Malformed, PeerFault
from fondaco.protocol.scalars import ChainId, LeaseId, Millis, Signature
from fondaco.protocol.signing import verify
from fondaco.protocol.transactions import SignedTransaction


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with open_pool(tmp_path) as pool:
        yield pool


# On the way in


def test_what_is_added_once_or_twice_is_there_once(pool: Pool) -> None:
    raw = pool.sign(pool.alice.pays(pool.bob, 1))
    waiting = pool.mempool.news.next
    identity = pool.mempool.add(raw)
    assert waiting.is_set()
    assert pool.mempool.add(raw) == identity
    assert identity in pool.mempool
    assert len(pool.mempool) == 1


def test_what_the_ledger_refuses_stays_out_with_its_code(pool: Pool) -> None:
    pays = pool.alice.pays(pool.bob, 1)
    assert pool.refuses(pool.sign(pool.bob.pays(pool.alice, RICH + 1))) == "funds.credits"
    assert pool.refuses(pool.sign(pool.bob.pays(pool.alice, 0))) == "transfer.zero"
    assert pool.refuses(pool.sign(pool.bob.withdraws(LeaseId(bytes(32))))) == "lease.unknown"
    assert pool.refuses(pool.sign(pays, chain=ChainId("other"))) == "tx.chain"
    assert pool.refuses(pool.sign(pays, version=2)) == "tx.version"
    assert pool.refuses(pool.sign(pays, messages=())) == "tx.messages"
    assert pool.refuses(pool.sign(pays, expires_at=Millis(clock.now() - 10_000))) == "tx.expired"
    too_long = Millis(clock.now() + limits.TX_LIFE_MS + 10_000)
    assert pool.refuses(pool.sign(pays, expires_at=too_long)) == "tx.expiry"
    assert pool.refuses(pool.pays(pool.alice, tip=RICH)) == "tx.fee"


async def test_a_batch_is_told_what_became_of_each(pool: Pool) -> None:
    good, same = pool.pays(pool.alice), pool.pays(pool.bob)
    waiting = pool.mempool.news.next
    outcomes = await pool.hears(good, b"garbage", pool.forged(), same, same, pool.pays(pool.bob, 2 * RICH))
    assert codes(outcomes) == ["in", "codec.syntax", "signature.bad", "in", "in", "funds.credits"]
    assert outcomes[3] == outcomes[4]
    assert pool.offered() == [good, same]
    assert waiting.is_set()


async def test_garbage_and_forgeries_are_the_peers_fault(pool: Pool) -> None:
    outcomes = await pool.hears(b"garbage", pool.forged(), bytes(limits.TX_BYTES + 1))
    assert all(isinstance(one, PeerFault) for one in outcomes)
    with pytest.raises(Malformed):
        pool.mempool.add(b"garbage")
    with pytest.raises(PeerFault, match=r"signature.bad"):
        pool.mempool.add(pool.forged())
    assert len(pool.mempool) == 0


async def test_a_forged_copy_of_what_waits_is_a_forgery(pool: Pool) -> None:
    """Its id is the same; were it taken for the other it would be passed on, and we blamed for it."""
    raw = pool.pays(pool.alice)
    signed = codec.decode(raw, SignedTransaction)
    forged = codec.encode(replace(signed, signature=Signature(bytes(64))))
    assert codes(await pool.hears(raw, forged)) == ["in", "signature.bad"]
    with pytest.raises(PeerFault, match=r"signature.bad"):
        pool.mempool.add(forged)
    assert pool.offered() == [raw]


async def test_a_long_batch_is_checked_in_threads_with_the_same_outcome(pool: Pool) -> None:
    raws = [pool.pays(pool.alice, 1 + number) for number in range(2 * limits.VERIFIED_AT_ONCE + 5)]
    raws[70] = pool.forged()
    outcomes = await pool.hears(*raws)
    assert codes(outcomes) == ["signature.bad" if place == 70 else "in" for place in range(len(raws))]
    assert pool.offered() == raws[:70] + raws[71:]
    assert pool.verifier.asked == len(raws)


async def test_the_event_loop_goes_on_while_signatures_are_checked(pool: Pool) -> None:
    """The check waits for the loop: were it not in a thread, both would wait for ever."""
    went_on = trio.Event()
    pool.mempool.verifier = Verifier(
        pool.chain.envelopes, lambda *claim: trio.from_thread.run(went_on.wait) is None and verify(*claim)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.hears, *(pool.pays(pool.alice) for _ in range(limits.VERIFIED_INLINE + 1)))
        await trio.testing.wait_all_tasks_blocked()
        went_on.set()
    assert len(pool.mempool) == limits.VERIFIED_INLINE + 1


# What was met before


@pytest.mark.parametrize("bad", [Pool.forged, lambda pool: pool.pays(pool.bob, 2 * RICH)], ids=["forged", "poor"])
async def test_what_was_refused_is_not_checked_again(pool: Pool, bad: Callable[[Pool], bytes]) -> None:
    raw = bad(pool)
    first = codes(await pool.hears(raw))
    assert codes(await pool.hears(raw)) == first
    assert pool.verifier.asked == 1
    assert pool.mempool.known.repeated == 1


def test_what_was_included_is_not_checked_again_even_if_it_never_waited_here(pool: Pool) -> None:
    raw = pool.pays(pool.alice)
    pool.block(raw)
    assert pool.refuses(raw) == "tx.used"
    assert pool.verifier.asked == 0


def test_what_our_state_refused_is_looked_at_again_after_a_block(pool: Pool) -> None:
    raw = pool.pays(pool.bob, RICH)
    assert pool.refuses(raw) == pool.refuses(raw) == "funds.credits"
    pool.block(pool.sign(pool.alice.pays(pool.bob, 10_000)))
    pool.mempool.add(raw)


def test_that_there_was_no_room_is_not_held_against_it(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMPOOL_TRANSACTIONS", 0)
    raw = pool.pays(pool.alice)
    assert pool.refuses(raw) == "mempool.full"
    monkeypatch.undo()
    pool.mempool.add(raw)


def test_what_is_remembered_is_bounded(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMPOOL_KNOWN", 3)
    for amount in range(6):
        pool.refuses(pool.pays(pool.bob, 2 * RICH + amount))
    assert len(pool.mempool.known) == 3


@pytest.mark.parametrize(
    "unwanted",
    [
        lambda pool: pool.sign(pool.alice.pays(pool.bob, 1), expires_at=Millis(clock.now() - 10_000)),
        lambda pool: pool.sign(pool.alice.pays(pool.bob, 1), chain=ChainId("other")),
        lambda pool: pool.pays(pool.alice, tip=RICH),
    ],
    ids=["expired", "of another chain", "cannot pay the fee"],
)
def test_what_is_cheap_to_refuse_costs_no_signature(pool: Pool, unwanted: Callable[[Pool], bytes]) -> None:
    pool.refuses(unwanted(pool))
    assert pool.verifier.asked == 0
