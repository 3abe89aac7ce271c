"""The engine's host over real files: it is crashed between any two effects, kept silent, and flooded."""

from __future__ import annotations

import logging
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.support.chains import Town, stored
from tests.support.court import PATIENT, Court, Life, Wire, crashing, living
from tests.support.ledger import Draft
from tests.support.network import until

from fondaco.consensus.effects import SetTimer, Timer, TimerFired
from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.node.network.peers import peer_id_of
from fondaco.node.verifying import Verifier
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import (
    Block,
    CommitCertificate,
    SignedVote,
    Vote,
    VoteKind,
)
from fondaco.protocol.errors import Malformed, PeerFault
from fondaco.protocol.evidence import decode_evidence, duplicate_vote
from fondaco.protocol.scalars import Hash, Height, Millis, Round, Signature
from fondaco.protocol.signing import verify


def alone(**params: Any) -> Town:
    return Town("alice", "bob", **params)


def pay(town: Town, life: Life, amount: int = 1) -> None:
    alice, bob = town.actors("alice", "bob")
    life.mempool.add(town.sign(alice.pays(bob, amount), at=clock.now()))


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


EFFECTS_OF_TWO_BLOCKS = 60
"""More than two heights of a validator alone have; the test checks that."""


@pytest.mark.parametrize("crashed_after", [*range(24), EFFECTS_OF_TWO_BLOCKS])
async def test_a_crash_between_any_two_effects_loses_and_contradicts_nothing(
    tmp_path: Path, crashed_after: int
) -> None:
    town, wire = alone(), Wire()
    signer = town.signers()[0]
    first = Life(town, tmp_path, wire, signer=signer)
    first.crash_before_effect(crashed_after)
    pay(town, first)
    with trio.move_on_after(0.3), crashing():
        await first.agreement.run()
    if crashed_after == EFFECTS_OF_TWO_BLOCKS:
        assert first.effects < crashed_after, "so every effect of a block was crashed at"
    height = first.chain.head.height
    first.drop()
    async with living(Life(town, tmp_path, wire, signer=signer)) as second:
        assert second.chain.head.height == height
        pay(town, second, 2)
        await until(lambda: second.chain.head.height >= height + 1 and not len(second.mempool))
    assert wire.contradictions() == 0


async def test_a_crash_while_one_recovers_is_recovered_from(tmp_path: Path) -> None:
    town, wire = alone(), Wire()
    signer = town.signers()[0]
    for number in (9, 1, 2, 3):
        life = Life(town, tmp_path, wire, signer=signer)
        life.crash_before_effect(number)
        with crashing():
            await life.agreement.run()
        life.drop()
    async with living(Life(town, tmp_path, wire, signer=signer)) as life:
        await until(lambda: life.chain.head.height >= 1)
    assert wire.contradictions() == 0


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


async def test_a_restart_in_the_middle_of_a_height_repeats_the_same_vote_and_goes_on(court: Court) -> None:
    block = court.block()
    value = block.header.hash()
    async with living(court.life()) as life:
        await court.tell(life, court.proposal(block))
    async with living(court.life()) as life:
        await trio.testing.wait_all_tasks_blocked()
        assert court.said(VoteKind.PREVOTE) == [value, value]
        await court.tell(life, *(court.vote(one, VoteKind.PREVOTE, value) for one in court.others[:2]))
        await court.tell(life, *(court.vote(one, VoteKind.PRECOMMIT, value) for one in court.others[:2]))
        assert life.chain.head.hash == value
    assert court.wire.contradictions() == 0


async def test_what_the_sign_state_refuses_is_never_said(court: Court, caplog: pytest.LogCaptureFixture) -> None:
    """Something else signed with our key meanwhile."""
    caplog.set_level(logging.WARNING)
    life = court.life()
    earlier = court.vote(court.us, VoteKind.PREVOTE, Hash(b"e" * 32)).vote
    block = court.block()
    value = block.header.hash()
    async with living(life):
        await trio.testing.wait_all_tasks_blocked()
        life.sign_state.sign(court.us, court.town.chain, earlier)
        await court.tell(life, court.proposal(block))
        assert court.said(VoteKind.PREVOTE) == []
        assert "sign.conflict" in caplog.text
        await court.tell(life, *(court.vote(one, VoteKind.PREVOTE, value) for one in court.others))
        assert court.said(VoteKind.PRECOMMIT) == [value], "a later step is free"


async def test_a_validator_that_lost_its_journal_is_silent_at_the_height_it_has_forgotten(
    court: Court, caplog: pytest.LogCaptureFixture
) -> None:
    async with living(court.life()) as life:
        block = court.block()
        value = block.header.hash()
        await court.tell(life, court.proposal(block))
        await court.tell(life, *(court.vote(one, VoteKind.PREVOTE, value) for one in court.others[:2]))
        assert court.said(VoteKind.PRECOMMIT) == [value], "locked"
    shutil.rmtree(life.journal.directory)
    said = len(court.wire.sent)
    async with living(court.life()) as life:
        await court.tell(life, court.proposal(block))
        await court.tell(life, *(court.vote(one, VoteKind.PREVOTE, None) for one in court.others))
        assert "is lost" in caplog.text
        assert [one for one in court.wire.sent[said:] if isinstance(one, SignedVote)] == []
        await court.tell(life, *(court.vote(one, VoteKind.PRECOMMIT, value) for one in court.others))
        assert life.chain.head.hash == value, "it follows the others, and then forgets nothing any more"
        assert life.agreement._voice is not None
        assert life.agreement._voice.silent_through == 1 < life.chain.head.height + 1


async def test_peers_that_break_the_protocol_are_blamed(court: Court) -> None:
    forged = replace(court.vote(court.others[0], VoteKind.PREVOTE, None), signature=Signature(bytes(64)))
    async with living(court.life()) as life:
        await court.tell(life, forged, sender=court.others[1])
        assert life.blamed == [(peer_id_of(court.others[1].public_key), "signature.bad")]
        with pytest.raises(Malformed):
            await life.agreement.on_frame(peer_id_of(court.us.public_key), b"garbage")


async def test_two_votes_of_one_validator_are_reported(court: Court, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    guilty = court.others[0]
    async with living(court.life()) as life:
        values = (Hash(b"a" * 32), Hash(b"b" * 32))
        await court.tell(life, *(court.vote(guilty, VoteKind.PREVOTE, value) for value in values))
        (raw,) = life.evidence.candidates()
        assert decode_evidence(raw) in court.wire.sent
        peer = peer_id_of(court.proposer.public_key)
        life.agreement.on_up(peer)
        assert court.wire.to[-1] == peer
    assert f"validator {guilty.public_key.hex()} broke its word at height 1" in caplog.text
    again = court.life()
    assert again.evidence.candidates() == [raw]
    again.stop()


async def test_evidence_that_a_peer_sends_is_taken_in_and_passed_on(court: Court) -> None:
    guilty, peer = court.others[0], peer_id_of(court.others[1].public_key)
    values = (Hash(b"a" * 32), Hash(b"b" * 32))
    evidence = duplicate_vote(*(court.vote(guilty, VoteKind.PREVOTE, value) for value in values))
    async with living(court.life()) as life:
        for _ in range(2):
            await life.agreement.on_frame(peer, codec.encode(evidence))
        assert life.evidence.candidates() == [codec.encode(evidence)]
        assert court.wire.sent.count(evidence) == 1
        made_up = replace(evidence, second=replace(evidence.second, signature=Signature(bytes(64))))
        with pytest.raises(PeerFault, match="signature"):
            await life.agreement.on_frame(peer, codec.encode(made_up))


async def test_evidence_begins_a_round_and_goes_into_the_block(tmp_path: Path) -> None:
    town = alone()
    (signer,) = town.signers()
    async with living(Life(town, tmp_path, Wire(), signer=signer)) as life:
        await until(lambda: life.chain.head.height == 1)
        votes = []
        for value in (Hash(b"a" * 32), Hash(b"b" * 32)):
            vote = Vote(kind=VoteKind.PREVOTE, height=Height(1), round=Round(9), value=value, valid_round=None)
            signature = signer.sign(town.chain, vote)
            votes.append(SignedVote(vote=vote, validator=signer.public_key, signature=signature))
        evidence = duplicate_vote(*votes)
        life.evidence.report(evidence)
        await until(lambda: life.chain.head.height == 2)  # the heartbeat would take another ten seconds
        assert stored(life.chain, 2)[0].evidence == (codec.encode(evidence),)
        assert len(life.evidence) == 0


async def test_evidence_that_cannot_be_kept_does_not_stop_agreement(
    court: Court, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "EVIDENCE_PENDING", 0)
    async with living(court.life()) as life:
        values = (Hash(b"a" * 32), Hash(b"b" * 32))
        await court.tell(life, *(court.vote(court.others[0], VoteKind.PREVOTE, value) for value in values))
        assert len(life.evidence) == 0
    assert "evidence.full" in caplog.text


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


async def test_a_journal_that_cannot_be_written_stops_the_node(tmp_path: Path) -> None:
    town = alone()
    life = Life(town, tmp_path, Wire(), signer=town.signers()[0])

    class Full(Exception):
        pass

    def append(payload: bytes) -> None:
        raise Full

    life.journal.append = append  # type: ignore[method-assign]
    with pytest.RaisesGroup(Full, flatten_subgroups=True):
        await life.agreement.run()
    assert life.chain.head.height == 0
    assert life.sign_state.last is None
    life.stop()
