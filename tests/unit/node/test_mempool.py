"""Transactions waiting for a block, over a real chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.chains import Town, town_chain
from tests.support.ledger import RICH, Draft

from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.node.mempool import Mempool
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.scalars import ChainId, Millis, Signature
from fondaco.protocol.transactions import SignedTransaction


class Pool:
    def __init__(self, town: Town, chain: Chain) -> None:
        self.town = town
        self.chain = chain
        self.mempool = Mempool(chain)
        self.alice, self.bob = town.actors("alice", "bob")

    def sign(self, draft: Draft, **other: object) -> bytes:
        """For a block made now."""
        return self.town.sign(draft, at=clock.now(), **other)

    def refuses(self, raw: bytes) -> str:
        before = list(self.mempool.candidates())
        with pytest.raises(Refused) as refusal:
            self.mempool.add(raw)
        assert list(self.mempool.candidates()) == before
        return refusal.value.code

    def block(self, *raws: bytes) -> None:
        self.town.grow(self.chain, *raws, at=clock.now())


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with town_chain(tmp_path, "alice", "bob") as (town, chain):
        yield Pool(town, chain)


def test_what_is_added_once_or_twice_is_there_once(pool: Pool) -> None:
    raw = pool.sign(pool.alice.pays(pool.bob, 1))
    waiting = pool.mempool.news.next
    identity = pool.mempool.add(raw)
    assert waiting.is_set()
    assert pool.mempool.add(raw) == identity
    assert identity in pool.mempool
    assert len(pool.mempool) == 1


def test_candidates_come_in_order_of_arrival(pool: Pool) -> None:
    raws = [pool.sign(pool.alice.pays(pool.bob, amount)) for amount in (3, 1, 2)]
    for raw in raws:
        pool.mempool.add(raw)
    assert list(pool.mempool.candidates()) == raws


def test_what_the_ledger_refuses_stays_out_with_its_code(pool: Pool) -> None:
    pays = pool.alice.pays(pool.bob, 1)
    assert pool.refuses(pool.sign(pool.bob.pays(pool.alice, RICH + 1))) == "funds.credits"
    assert pool.refuses(pool.sign(pays, chain=ChainId("other"))) == "tx.chain"
    assert pool.refuses(pool.sign(pays, version=2)) == "tx.version"
    assert pool.refuses(pool.sign(pays, messages=())) == "tx.messages"
    assert pool.refuses(pool.sign(pays, expires_at=Millis(clock.now() - 10_000))) == "tx.expired"
    assert (
        pool.refuses(pool.sign(pays, expires_at=Millis(clock.now() + limits.TX_LIFE_MS + 10_000))) == "tx.expiry"
    )


def test_garbage_and_forgeries_are_the_peers_fault(pool: Pool) -> None:
    signed = codec.decode(pool.sign(pool.alice.pays(pool.bob, 1)), SignedTransaction)
    forged = codec.encode(replace(signed, signature=Signature(bytes(64))))
    with pytest.raises(Malformed):
        pool.mempool.add_from_peer(b"garbage")
    with pytest.raises(PeerFault) as fault:
        pool.mempool.add_from_peer(forged)
    assert fault.value.code == "signature.bad"
    assert len(pool.mempool) == 0


@pytest.mark.parametrize("limit", ["MEMPOOL_TRANSACTIONS", "MEMPOOL_BYTES"])
def test_a_full_mempool_refuses_and_has_room_again_after_a_block(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    first = pool.sign(pool.alice.pays(pool.bob, 1))
    monkeypatch.setattr(limits, limit, 1 if limit == "MEMPOOL_TRANSACTIONS" else len(first))
    pool.mempool.add(first)
    second = pool.sign(pool.alice.pays(pool.bob, 2))
    assert pool.refuses(second) == "mempool.full"
    pool.mempool.add(first)
    pool.block(first)
    pool.mempool.add(second)


def test_a_block_takes_out_what_it_holds_and_what_it_made_impossible(pool: Pool) -> None:
    taken, left = pool.sign(pool.alice.pays(pool.bob, 1)), pool.sign(pool.alice.pays(pool.bob, 2))
    too_much = pool.sign(pool.bob.pays(pool.alice, RICH - 1_000))
    for raw in (taken, left, too_much):
        pool.mempool.add(raw)
    pool.block(taken, pool.sign(pool.bob.pays(pool.alice, 10_000)))
    assert list(pool.mempool.candidates()) == [left]
    assert pool.mempool.refused == 1
    assert pool.refuses(taken) == "tx.used"


def test_what_peers_send_too_early_is_tried_again_after_a_block(pool: Pool) -> None:
    """Their chain may be ahead of ours: the money is there one block later."""
    early = pool.sign(pool.bob.pays(pool.alice, RICH))
    assert not pool.mempool.add_from_peer(early), "not passed on either"
    assert len(pool.mempool) == 0
    pool.block(pool.sign(pool.alice.pays(pool.bob, 10_000)))
    assert list(pool.mempool.candidates()) == [early]
    assert pool.mempool.add_from_peer(early)


def test_what_is_still_impossible_after_a_block_is_given_up(pool: Pool) -> None:
    pool.mempool.add_from_peer(pool.sign(pool.bob.pays(pool.alice, 2 * RICH)))
    pool.block()
    assert pool.mempool._later == []
    assert len(pool.mempool) == 0


def test_what_waits_for_another_try_is_bounded(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMPOOL_LATER", 2)
    for amount in range(4):
        pool.mempool.add_from_peer(pool.sign(pool.bob.pays(pool.alice, 2 * RICH + amount)))
    assert len(pool.mempool._later) == 2


def test_a_clock_behind_block_time_does_not_hold_transactions_up(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.block()
    monkeypatch.setattr(clock, "now", lambda: Millis(pool.chain.head.time - 5_000))
    pool.mempool.add(pool.town.sign(pool.alice.pays(pool.bob, 1), at=pool.chain.head.time))
    assert len(pool.mempool) == 1
