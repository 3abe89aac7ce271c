"""Transactions waiting for a block, over a real chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.support.chains import Town, town_chain
from tests.support.ledger import RICH, Actor, Draft

from fondaco.consensus.ledger.envelope import Envelopes
from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.node.mempool import Mempool, Outcome
from fondaco.node.verifying import Verifier
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.scalars import ChainId, LeaseId, Millis, PublicKey, Signature
from fondaco.protocol.signing import verify
from fondaco.protocol.transactions import SignedTransaction


class Counting(Verifier):
    """Counts the signatures it is asked about."""

    def __init__(self, envelopes: Envelopes) -> None:
        self.asked = 0
        super().__init__(envelopes, self._counted)

    def _counted(self, key: PublicKey, data: bytes, signature: Signature) -> bool:
        self.asked += 1
        return verify(key, data, signature)


class Pool:
    def __init__(self, town: Town, chain: Chain) -> None:
        self.town = town
        self.chain = chain
        self.verifier = Counting(chain.envelopes)
        self.mempool = Mempool(chain, self.verifier)
        self.alice, self.bob, self.carol, self.dave = town.actors("alice", "bob", "carol", "dave")

    def sign(self, draft: Draft, **other: object) -> bytes:
        """For a block made now."""
        return self.town.sign(draft, at=clock.now(), **other)

    def pays(self, sender: Actor, amount: int = 1, *, tip: int = 0) -> bytes:
        """A payment to dave."""
        return self.sign(replace(sender.pays(self.dave, amount), tip=tip))

    def forged(self) -> bytes:
        signed = codec.decode(self.sign(self.alice.pays(self.bob, 1)), SignedTransaction)
        return codec.encode(replace(signed, signature=Signature(bytes(64))))

    def offered(self) -> list[bytes]:
        return list(self.mempool.candidates())

    def refuses(self, raw: bytes) -> str:
        before = self.offered()
        with pytest.raises(Refused) as refusal:
            self.mempool.add(raw)
        assert self.offered() == before
        return refusal.value.code

    def deployments(self) -> list[bytes]:
        found = self.chain.ledger.state().scan(b"deployment/", 10)
        return [key.removeprefix(b"deployment/") for key, _ in found]

    async def hears(self, *raws: bytes) -> list[Outcome]:
        return await self.mempool.add_many(raws, from_peer=True)

    def block(self, *raws: bytes, at: int | None = None) -> None:
        self.town.grow(self.chain, *raws, at=clock.now() if at is None else at)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with town_chain(tmp_path, "alice", "bob", "carol", "dave") as (town, chain):
        yield Pool(town, chain)


def codes(outcomes: list[Outcome]) -> list[str]:
    return ["in" if isinstance(one, bytes) else one.code for one in outcomes]


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


# After a block


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
