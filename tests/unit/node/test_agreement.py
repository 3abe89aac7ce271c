"""The engine's host over real files: it decides by itself, votes among others, and is flooded."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.support.chains import Town, stored
from tests.support.court import PATIENT, Court, Life, Wire, alone, living, pay
from tests.support.ledger import Draft
from tests.support.network import until

from fondaco.consensus.effects import SetTimer, Timer, TimerFired
from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.node.network.peers import peer_id_of
from fondaco.node.verifying import Verifier
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Block, CommitCertificate, VoteKind
from fondaco.protocol.scalars import Hash, Millis
from fondaco.protocol.signing import verify


async def test_a_validator_alone_makes_a_block_at_once_and_one_for_each_transaction(tmp_path: Path) -> None:
    town, wire = alone(), Wire()
    async with living(Life(town, tmp_path, wire, signer=town.signers()[0])) as life:
        await until(lambda: life.chain.head.height == 1)
        pay(town, life)
        await until(lambda: life.chain.head.height == 2)
        assert len(life.mempool) == 0
        assert len(life.agreement.finality.commit_ms) == 2
    assert wire.contradictions() == 0


async def test_an_idle_chain_beats_with_its_heart(tmp_path: Path) -> None:
    town = alone(heartbeat_ms=500)
    async with living(Life(town, tmp_path, Wire(), signer=town.signers()[0])) as life:
        await until(lambda: life.chain.head.height == 2)
        first, second = (stored(life.chain, height)[0].header.time for height in (1, 2))
        assert 450 <= second - first < 5_000


async def test_a_block_is_made_when_something_falls_due_though_nobody_asks(tmp_path: Path) -> None:
    town = Town("alice", "paul", handoff_window_ms=5_000)
    alice, paul = town.actors("alice", "paul")
    chain = town.open(tmp_path / "chain.db")
    town.grow(chain, paul.registers(), at=clock.now() - 6_000)
    town.grow(chain, alice.leases((paul, 900), deposit=10_000), at=clock.now() - 5_000)
    chain.close()
    async with living(Life(town, tmp_path, Wire(), signer=town.signers()[0])) as life:
        await until(lambda: life.chain.head.height == 3)  # the heartbeat would take another five seconds
        assert life.chain.due_moment() is None


# Among others: the test holds the other three keys


@pytest.fixture
def court(tmp_path: Path) -> Court:
    return Court(tmp_path, PATIENT)


async def test_a_good_proposal_is_prevoted_precommitted_and_committed(court: Court) -> None:
    block = court.block()
    value = block.header.hash()
    async with living(court.life()) as life:
        await court.tell(life, court.proposal(block))
        assert court.said(VoteKind.PREVOTE) == [value]
        await court.tell(life, *(court.vote(one, VoteKind.PREVOTE, value) for one in court.others[:2]))
        assert court.said(VoteKind.PRECOMMIT) == [value]
        await court.tell(life, *(court.vote(one, VoteKind.PRECOMMIT, value) for one in court.others[:2]))
        assert life.chain.head.hash == value
        await court.tell(life, court.vote(court.others[2], VoteKind.PRECOMMIT, value), sender=court.others[2])
        assert life.chain.head.height == 1
    assert court.wire.to, "who still votes below is sent the certificate"


def many_payments(court: Court) -> list[Draft]:
    """More than are checked without a thread."""
    alice, bob = court.town.actors("alice", "bob")
    return [alice.pays(bob, 1 + number) for number in range(limits.VERIFIED_INLINE + 1)]


class Slow(Verifier):
    """Checks nothing before it may."""

    def __init__(self, chain: Chain) -> None:
        self.may = threading.Event()
        super().__init__(chain.envelopes, lambda *claim: self.may.wait(10) and verify(*claim))


async def test_signatures_of_a_proposal_are_checked_beside_the_engine(court: Court) -> None:
    block = court.block(*many_payments(court))
    value = block.header.hash()
    life = court.life()
    slow = life.mempool.verifier = Slow(life.chain)
    async with living(life):
        await court.tell(life, court.proposal(block))
        await court.tell(life, *(court.vote(one, VoteKind.PREVOTE, value) for one in court.others[:2]))
        assert court.said(VoteKind.PREVOTE) == []
        slow.may.set()
        await until(lambda: court.said(VoteKind.PRECOMMIT) == [value])
        assert court.said(VoteKind.PREVOTE) == [value]


async def test_a_proposal_whose_height_is_over_before_it_was_looked_at_is_forgotten(court: Court) -> None:
    proposal = court.proposal(court.block(*many_payments(court)))
    court.town.grow(court.reference, at=clock.now() - 100)
    life = court.life()
    slow = life.mempool.verifier = Slow(life.chain)
    async with living(life):
        await court.tell(life, proposal)
        assert await life.agreement.adopt(*stored(court.reference, 1))
        slow.may.set()
        await until(lambda: life.mempool.verifier.knows(proposal.block.transactions))
        await trio.testing.wait_all_tasks_blocked()
        assert court.said(VoteKind.PREVOTE) == []
        assert life.chain.head == court.reference.head
    court.reference.close()


async def test_where_transactions_come_thick_the_next_block_gathers_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BLOCK_PACE_MS", 300)
    monkeypatch.setattr(limits, "BLOCK_PACE_MS_PER_TRANSACTION", 100)
    town = alone()
    async with living(Life(town, tmp_path, Wire(), signer=town.signers()[0])) as life:
        await until(lambda: life.chain.head.height == 1)
        for number in range(5):
            pay(town, life, 1 + number)
        await until(lambda: not len(life.mempool))
        busy = life.chain.head.height
        pay(town, life)
        await until(lambda: not len(life.mempool))
        first, second = (stored(life.chain, height)[0] for height in (busy, busy + 1))
        assert len(first.transactions) == 5
        assert second.header.time - first.header.time >= 290


async def test_a_proposal_that_the_ledger_refuses_is_prevoted_nil(court: Court) -> None:
    async with living(court.life()) as life:
        await court.tell(life, court.proposal(court.block(state_root=Hash(bytes(32)))))
        assert court.said(VoteKind.PREVOTE) == [None]
        assert life.blamed == []


async def test_a_certificate_without_its_block_asks_for_sync(court: Court) -> None:
    block = court.block()
    async with living(court.life()) as life:
        await court.tell(life, court.town.certified(block, court.validators))
        assert life.syncs >= 1
        assert court.said(VoteKind.PREVOTE) == []


async def test_a_fetched_block_is_adopted_between_two_steps(court: Court) -> None:
    town, reference = court.town, court.reference
    blocks: list[tuple[Block, CommitCertificate]] = []
    for _ in range(3):
        town.grow(reference, at=clock.now() + len(blocks) - 100)
        blocks.append(stored(reference, reference.head.height))
    async with living(court.life()) as life:
        await court.tell(life, court.proposal(court.block()))  # in the middle of height 1
        adopt = life.agreement.adopt
        assert not await adopt(*blocks[1]), "not the next one"
        assert [await adopt(*one) for one in blocks] == [True, True, True]
        assert await adopt(*blocks[0]), "there already"
        assert life.chain.head == reference.head
        assert life.journal.height == 4
    async with living(court.life()) as life:
        await trio.testing.wait_all_tasks_blocked()
        assert life.chain.head == reference.head
    reference.close()


async def test_a_node_without_a_key_follows_and_says_nothing(court: Court) -> None:
    block = court.block()
    value = block.header.hash()
    async with living(Life(court.town, court.home, court.wire, signer=None)) as life:
        await court.tell(life, court.proposal(block))
        await court.tell(life, *(court.vote(one, VoteKind.PRECOMMIT, value) for one in court.others))
        assert life.chain.head.hash == value
    assert court.wire.votes() == []


async def test_without_links_a_node_still_decides_by_itself(tmp_path: Path) -> None:
    town = alone()
    life = Life(town, tmp_path, Wire(), signer=town.signers()[0])
    life.agreement._links = None
    async with living(life):
        await until(lambda: life.chain.head.height == 1)


async def test_an_inbox_that_is_full_drops_and_counts(court: Court, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AGREEMENT_INBOX", 2)
    life = court.life()  # not running: nobody takes anything out
    frame = codec.encode(court.vote(court.others[0], VoteKind.PREVOTE, None))
    for _ in range(5):
        await life.agreement.on_frame(peer_id_of(court.proposer.public_key), frame)
    assert life.agreement.dropped == 3
    life.stop()


async def test_a_timer_set_again_replaces_the_one_that_ran(
    court: Court, autojump_clock: trio.testing.MockClock
) -> None:
    life = court.life()
    agreement = life.agreement
    async with trio.open_nursery() as nursery:
        agreement._nursery = nursery
        agreement._do(SetTimer(Timer.PROPOSE, 1, Millis(1_000)))
        agreement._do(SetTimer(Timer.PREVOTE, 2, Millis(5_000)))
        agreement._do(SetTimer(Timer.PROPOSE, 3, Millis(3_000)))
        fired = [await agreement._inbox.receive() for _ in range(2)]
        assert fired == [TimerFired(Timer.PROPOSE, 3), TimerFired(Timer.PREVOTE, 2)]
        assert trio.current_time() == pytest.approx(5)
        agreement._cancel_timer(Timer.START)  # none runs
    life.stop()
