"""Blocks: proposed, judged, executed. What one side makes the other accepts, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, HOUR, MINUTE, World, codes, entries

from fondaco.consensus import merkle
from fondaco.consensus.blocks import event_leaf
from fondaco.consensus.ledger.application import EXECUTIONS_KEPT, Ledger
from fondaco.consensus.ledger.state import MemoryStore
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import TransactionApplied, Transferred
from fondaco.protocol.records import Account, key_account
from fondaco.protocol.scalars import ChainId, Hash, Height, Millis, PublicKey, Round, Signature, TxId
from fondaco.protocol.signing import sha256

OTHER = Hash(sha256(b"other"))


@pytest.fixture
def world() -> World:
    world = World("alice", "bob", **FREE)
    world.block()
    return world


def refusal(world: World, block: Block) -> Refused:
    with pytest.raises(Refused) as caught:
        world.ledger.process_proposal(block)
    with pytest.raises(Refused):
        world.ledger.finalize_block(block)
    return caught.value


@pytest.mark.parametrize(
    ("name", "wrong", "code"),
    [
        ("version", 2, "block.header"),
        ("chain", ChainId("other"), "block.header"),
        ("height", Height(1), "block.header"),
        ("height", Height(3), "block.header"),
        ("previous", OTHER, "block.header"),
        ("validators", OTHER, "block.header"),
        ("next_validators", OTHER, "block.header"),
        ("params", OTHER, "block.header"),
        ("data_root", OTHER, "block.header"),
        ("evidence_root", OTHER, "block.header"),
        ("events_root", OTHER, "block.header"),
        ("state_root", OTHER, "block.header"),
        ("proposer", PublicKey(bytes(32)), "block.proposer"),
    ],
)
def test_a_header_wrong_in_one_field_is_refused_by_its_name(
    world: World, name: str, wrong: Any, code: str
) -> None:
    alice, bob = world.actors("alice", "bob")
    block = world.propose(alice.pays(bob, 5))
    found = refusal(world, replace(block, header=replace(block.header, **{name: wrong})))
    assert found.code == code
    assert name in found.message
    world.ledger.process_proposal(block)


@pytest.mark.parametrize("offset", [-(10**6), -1, 0, limits.BLOCK_TIME_MS])
def test_block_time_increases_and_has_an_end(world: World, offset: int) -> None:
    block = world.propose()
    header = replace(block.header, time=Millis(world.now + offset))
    assert refusal(world, replace(block, header=header)).code == "block.time"


def test_a_proposer_never_makes_a_block_out_of_time(world: World) -> None:
    for after_ms in (0, limits.BLOCK_TIME_MS):
        with pytest.raises(AssertionError):
            world.propose(after_ms=after_ms)


def test_the_last_moment_there_is_still_makes_a_block(world: World) -> None:
    world.block(after_ms=limits.BLOCK_TIME_MS - world.now)
    assert world.ledger.next_due_moment() is None


def test_transactions_swapped_under_a_header_are_refused_though_the_header_was_accepted(world: World) -> None:
    alice, bob = world.actors("alice", "bob")
    block = world.propose(alice.pays(bob, 5))
    swapped = replace(block, transactions=(world.sign(alice.pays(bob, 500)),))
    assert refusal(world, swapped).code == "block.header"


# Who signed the block below


def test_the_first_block_has_no_certificate() -> None:
    world = World("alice", **FREE)
    block = world.propose()
    certificate = world.certify(block, world.ledger.validators)
    assert refusal(world, replace(block, previous_certificate=certificate)).code == "block.certificate"


def test_a_later_block_shows_who_signed_the_one_below(world: World) -> None:
    block = world.propose()
    good = world.certificate
    assert good is not None
    forged = world.by_key[world.actors("alice")[0].key].signer.sign(world.chain, good.vote())
    elsewhere = replace(good, value=OTHER)
    for certificate, code in (
        (None, "block.certificate"),
        (elsewhere, "block.certificate"),
        (replace(good, height=Height(7)), "block.certificate"),
        (replace(good, signatures=(None,)), "certificate.weak"),
        (replace(good, signatures=()), "certificate.places"),
        (replace(good, signatures=(forged,)), "signature.bad"),
        (replace(good, signatures=(Signature(bytes(64)),)), "signature.bad"),
        (replace(good, round=Round(9)), "signature.bad"),
    ):
        assert refusal(world, replace(block, previous_certificate=certificate)).code == code


def test_the_certificate_is_part_of_what_the_header_commits_to() -> None:
    """A certificate of another round shows the same, but is not the one in the header."""
    world = World("alice", **FREE)
    first = world.block()
    block = world.propose()
    other = CommitCertificate(
        height=first.block.header.height, round=Round(1), value=first.block.header.hash(), signatures=(None,)
    )
    other = replace(other, signatures=(world.validator.signer.sign(world.chain, other.vote()),))
    assert refusal(world, replace(block, previous_certificate=other)).message.endswith("data_root")


# Proposer and judge agree


def full_block(world: World, count: int, each: int = 1) -> tuple[Block, list[bytes]]:
    alice, bob = world.actors("alice", "bob")
    raws = [world.sign(alice.does(*alice.pays(bob, 1).messages * each)) for _ in range(count)]
    return world.propose(*raws), raws


def assert_full(world: World, block: Block, raws: list[bytes]) -> None:
    """The block is right, and one transaction more spoils it."""
    kept = len(block.transactions)
    assert 0 < kept < len(raws)
    assert list(block.transactions) == raws[:kept]
    Ledger(world.store, world.chain).process_proposal(block)
    over = replace(block, transactions=tuple(raws[: kept + 1]))
    assert refusal(world, over).code == "block.size"


def test_a_block_is_bounded_in_transactions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOCK_TRANSACTIONS", 3)
    block, raws = full_block(world, 5)
    assert len(block.transactions) == 3
    assert_full(world, block, raws)


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_a_block_is_bounded_in_bytes(world: World, monkeypatch: pytest.MonkeyPatch, spare: int) -> None:
    size = len(full_block(world, 1)[1][0])
    monkeypatch.setattr(limits, "BLOCK_BYTES", 3 * size + spare)
    block, raws = full_block(world, 5)
    assert len(block.transactions) == (2 if spare < 0 else 3)
    assert_full(world, block, raws)


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_a_block_is_bounded_in_work(world: World, monkeypatch: pytest.MonkeyPatch, spare: int) -> None:
    monkeypatch.setattr(limits, "BLOCK_WORK", 3 * (1 + 4) + spare)
    block, raws = full_block(world, 5, each=4)
    assert len(block.transactions) == (2 if spare < 0 else 3)
    assert_full(world, block, raws)


def test_any_transaction_fits_into_an_empty_block() -> None:
    heaviest = 1 + limits.TX_MESSAGES * (limits.MESSAGE_WORK + limits.GROUPS)
    assert heaviest <= limits.BLOCK_WORK
    assert limits.TX_BYTES <= limits.BLOCK_BYTES


def test_messages_that_load_deployments_weigh_more(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("alice", "paul", **FREE)
    alice, paul = world.actors("alice", "paul")
    world.block(paul.registers())
    draft = alice.leases((paul, 1), deposit=10)
    world.block(draft)
    monkeypatch.setattr(limits, "BLOCK_WORK", 2 * limits.MESSAGE_WORK + 1)
    assert len(world.propose(paul.withdraws(draft.lease, draft.lease)).transactions) == 1
    assert len(world.propose(paul.withdraws(draft.lease), paul.withdraws(draft.lease)).transactions) == 1
    assert world.propose(paul.withdraws(*[draft.lease] * 3)).transactions == ()
    another = alice.leases((paul, 1), (paul, 2), deposit=10)
    monkeypatch.setattr(limits, "BLOCK_WORK", limits.MESSAGE_WORK + 2)
    assert world.propose(another).transactions == ()


def test_what_cannot_be_included_is_left_out_and_the_rest_goes_in(world: World) -> None:
    alice, bob = world.actors("alice", "bob")
    good = world.sign(alice.pays(bob, 5))
    block = world.propose(b"junk", world.sign(alice.pays(bob, 1), chain=ChainId("other")), good, good)
    assert block.transactions == (good,)
    Ledger(world.store, world.chain).process_proposal(block)


def test_a_judged_block_is_not_executed_again_and_few_are_kept(world: World) -> None:
    alice, bob = world.actors("alice", "bob")
    made = [world.propose(alice.pays(bob, amount)) for amount in range(1, EXECUTIONS_KEPT + 3)]
    assert len(world.ledger._executions) == EXECUTIONS_KEPT
    execution = world.ledger.finalize_block(made[-1])
    assert world.ledger.finalize_block(made[-1]) is execution
    assert world.ledger.finalize_block(made[0]).block == made[0], "the first was dropped, and executed again"


def test_proposing_and_judging_change_nothing_in_the_store(world: World) -> None:
    alice, bob = world.actors("alice", "bob")
    before = entries(world.store)
    world.ledger.process_proposal(world.propose(alice.pays(bob, 5)))
    world.ledger.check_tx(world.sign(alice.pays(bob, 5)), now=world.now)
    assert entries(world.store) == before


# Check and inclusion agree


def test_what_is_checked_tells_id_sender_fee_and_expiry(world: World) -> None:
    world = World("alice", "bob")
    alice, bob = world.actors("alice", "bob")
    raw = world.sign(alice.does(*alice.pays(bob, 5).messages, tip=7))
    checked = world.ledger.check_tx(raw, now=world.now)
    event = next(one for one in world.block(raw).events if isinstance(one, TransactionApplied))
    assert (checked.id, checked.sender, checked.fee) == (event.id, alice.key, event.fee + 7)
    assert checked.expires_at == world.now + MINUTE


def test_the_check_does_not_give_the_sender_its_fee_back() -> None:
    """Paying everything but half the fee passes nowhere: only a proposer gets that half."""
    world = World("alice", "bob", credits=10_000)
    alice, bob = world.actors("alice", "bob")
    fee = 50 + len(world.sign(alice.pays(bob, 9_900)))
    for amount, code in ((10_000 - fee, ""), (10_000 - fee + 1, "funds.credits")):
        raw = world.sign(alice.pays(bob, amount))
        assert 50 + len(raw) == fee
        if code:
            with pytest.raises(Refused) as caught:
                world.ledger.check_tx(raw, now=world.now)
            assert caught.value.code == code
        else:
            world.ledger.check_tx(raw, now=world.now)
        assert codes(world.ledger.finalize_block(world.propose(raw)).events) == [code]


def test_a_check_at_a_clock_that_lags_is_made_at_block_time() -> None:
    """Before the last settlement a lease would owe a negative sum."""
    world = World("alice", "paul", **FREE)
    alice, paul = world.actors("alice", "paul")
    world.block(paul.registers())
    draft = alice.leases((paul, 3_600_000), deposit=10**6)
    world.block(draft)
    world.block(paul.activates(draft.lease, receipt_of=alice))
    raw = world.sign(paul.withdraws(draft.lease, draft.lease) & paul.closes(draft.lease, reason=10_000))
    world.ledger.check_tx(raw, now=Millis(world.now - HOUR))


def test_a_check_sees_what_is_overdue() -> None:
    world = World("alice", "paul", **FREE)
    alice, paul = world.actors("alice", "paul")
    world.block(paul.registers())
    draft = alice.leases((paul, 3_600_000), deposit=10**6)
    world.block(draft)
    later = Millis(world.now + HOUR)
    with pytest.raises(Refused, match=r"lease\.state"):
        world.ledger.check_tx(world.sign(paul.activates(draft.lease, receipt_of=alice), at=later), now=later)


# What a header commits to


def test_the_words_of_a_refusal_are_told_but_not_agreed_on() -> None:
    applied = TransactionApplied(id=TxId(bytes(32)), fee=5, code="order.used", message="so it is")  # type: ignore[arg-type]
    assert event_leaf(applied) == event_leaf(replace(applied, message="spelt another way"))
    assert event_leaf(applied) != event_leaf(replace(applied, code="order.expired"))
    moved = Transferred(sender=PublicKey(bytes(32)), to=PublicKey(bytes(32)), amount=5)  # type: ignore[arg-type]
    assert event_leaf(moved) == codec.encode(moved)


def test_a_refusal_is_told_with_its_reason_cut_short(world: World) -> None:
    alice, bob = world.actors("alice", "bob")
    execution = world.block(alice.pays(bob, 10**12))
    applied = next(one for one in execution.events if isinstance(one, TransactionApplied))
    assert applied.message.startswith("the account holds")
    assert len(applied.message) <= limits.MEMO_BYTES


def test_a_record_and_its_absence_are_proven_under_the_newest_header(world: World) -> None:
    alice, bob = world.actors("alice", "bob")
    root = world.block(alice.pays(bob, 5)).block.header.state_root
    for key, present in ((key_account(bob.key), True), (key_account(PublicKey(bytes(32))), False)):
        raw, proof = world.ledger.prove(key)
        assert merkle.holds(root, key, raw, proof)
        assert (raw is not None) == present
    raw, _ = world.ledger.prove(key_account(bob.key))
    assert raw is not None
    assert codec.decode(raw, Account).credits == bob.credits


def test_params_and_validators_are_those_of_the_newest_state(world: World) -> None:
    assert world.ledger.params == world.genesis.params
    assert [member.public_key for member in world.ledger.validators.members] == [world.validator.key]
    Bookkeeper(world).count()


def test_a_store_without_genesis_is_a_bug_of_ours() -> None:
    with pytest.raises(AssertionError):
        _ = Ledger(MemoryStore(), ChainId("x")).head
