"""The outside of a transaction: what may enter a block at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgpack
import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, START, Draft, World, codes

from fondaco.consensus.ledger import envelope
from fondaco.consensus.ledger.envelope import Envelopes
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import FondacoError, PeerFault, Refused
from fondaco.protocol.records import UsedIds, key_used_ids
from fondaco.protocol.scalars import ChainId, Millis
from fondaco.protocol.signing import verify
from fondaco.protocol.transactions import SignedTransaction


@pytest.fixture
def world() -> World:
    return World("alice", "bob", **FREE)


def a_payment(world: World) -> Draft:
    alice, bob = world.actors("alice", "bob")
    return alice.pays(bob, 5)


def forged(world: World) -> bytes:
    signed = codec.decode(world.sign(a_payment(world)), SignedTransaction)
    other = codec.decode(world.sign(a_payment(world)), SignedTransaction)
    return codec.encode(SignedTransaction(transaction=signed.transaction, signature=other.signature))


def non_canonical(world: World) -> bytes:
    plain = msgpack.unpackb(world.sign(a_payment(world)))
    packer = msgpack.Packer(use_bin_type=False)  # bytes as text: longer forms and other types
    return b"\xdc\x00" + bytes((len(plain),)) + b"".join(packer.pack(item) for item in plain)


BAD: dict[str, Callable[[World], bytes]] = {
    "tx.expired": lambda world: world.sign(a_payment(world), expires_at=Millis(world.now + 999)),
    "tx.expiry": lambda world: world.sign(a_payment(world), expires_at=Millis(world.now + 1_000 + 120_001)),
    "tx.chain": lambda world: world.sign(a_payment(world), chain=ChainId("elsewhere")),
    "tx.version": lambda world: world.sign(a_payment(world), version=2),
    "tx.messages": lambda world: world.sign(a_payment(world), messages=()),
    "signature.bad": forged,
    "codec.syntax": lambda world: b"\xc1",
    "codec.type": lambda world: codec.encode(5),
    "codec.size": lambda world: bytes(limits.TX_BYTES + 1),
}


@pytest.mark.parametrize("code", BAD)
def test_a_bad_envelope_never_enters_a_block_and_spoils_one_that_holds_it(world: World, code: str) -> None:
    raw = BAD[code](world)
    with pytest.raises(FondacoError) as caught:
        world.ledger.check_tx(raw, now=Millis(world.now + 1_000))
    assert caught.value.code == code
    assert world.propose(raw, a_payment(world)).transactions != ()
    assert raw not in world.propose(raw, a_payment(world)).transactions
    assert_spoils(world, raw, code)


def assert_spoils(world: World, raw: bytes, code: str) -> None:
    """A block holding `raw` is refused with its code, whatever the header says."""
    block = replace(world.propose(a_payment(world)), transactions=(raw,))
    with pytest.raises(Refused) as caught:
        world.ledger.process_proposal(block)
    assert caught.value.code == code


def test_bytes_that_are_not_canonical_are_refused(world: World) -> None:
    raw = non_canonical(world)
    with pytest.raises(PeerFault, match="codec"):
        world.ledger.check_tx(raw, now=world.now)
    assert world.propose(raw).transactions == ()


@pytest.mark.parametrize("late_ms", [0, 120_000])
def test_both_ends_of_a_transactions_life_are_inside_it(world: World, late_ms: int) -> None:
    raw = world.sign(a_payment(world), expires_at=Millis(world.now + 1_000 + late_ms))
    world.ledger.check_tx(raw, now=Millis(world.now + 1_000))
    assert codes(world.block(raw).events) == [""]


def test_a_transaction_is_included_once(world: World) -> None:
    raw = world.sign(a_payment(world))
    assert world.propose(raw, raw).transactions == (raw,)
    world.block(raw)
    assert world.propose(raw).transactions == ()
    assert_spoils(world, raw, "tx.used")
    with pytest.raises(Refused, match=r"tx.used"):
        world.ledger.check_tx(raw, now=world.now)


def test_a_refused_transaction_cannot_be_replayed_either(world: World) -> None:
    alice, bob = world.actors("alice", "bob")
    raw = world.sign(alice.pays(bob, 10**12))
    assert codes(world.block(raw).events) == ["funds.credits"]
    assert world.propose(raw).transactions == ()


def test_what_an_envelope_left_out_of_a_block_did_is_undone(world: World) -> None:
    """It was marked used before it turned out that it could not pay."""
    world = World("alice", "bob", credits=500)
    alice, bob = world.actors("alice", "bob")
    raw = world.sign(alice.pays(bob, 1), tip=400)
    block = world.propose(raw)
    assert block.transactions == ()
    world.keep(block)
    Bookkeeper(world).count()
    world.block(bob.pays(alice, 200))
    assert codes(world.block(raw).events) == [""]


def test_used_ids_are_forgotten_when_they_could_no_longer_be_included(world: World) -> None:
    raw = world.sign(a_payment(world))
    expires_at = codec.decode(raw, SignedTransaction).transaction.expires_at
    bucket = expires_at // limits.TX_ID_BUCKET_MS
    world.block(raw)
    state = world.ledger.state()
    assert state.require(key_used_ids(bucket), UsedIds).count == 1
    last = (bucket + 1) * limits.TX_ID_BUCKET_MS - 1
    world.block(after_ms=last - world.now)
    assert world.ledger.state().get(key_used_ids(bucket), UsedIds) is not None
    world.block(after_ms=1)
    assert world.ledger.state().get(key_used_ids(bucket), UsedIds) is None
    assert world.propose(raw).transactions == ()
    Bookkeeper(world).count()


def test_forgetting_is_bounded_a_block_and_goes_on_in_the_next(world: World) -> None:
    alice, bob = world.actors("alice", "bob")
    for _ in range(3):
        world.block(*(alice.pays(bob, 1) for _ in range(2)), after_ms=20_000)
    state = world.ledger.state()
    later = Millis(world.now + 10**6)
    counts = []
    for _ in range(4):
        envelope.forget_expired(state, now=later, limit=3)
        counts.append(len(state.scan_aux(b"used/", 100)))
    assert counts == [3, 0, 0, 0]
    assert state.scan(b"used-ids/", 10) == []


def test_a_good_signature_is_checked_once() -> None:
    asked = []
    world = World("alice", "bob")

    def counting(*arguments: bytes) -> bool:
        asked.append(arguments)
        return verify(*arguments)  # type: ignore[arg-type]

    envelopes = Envelopes(world.chain, counting)
    raw = world.sign(a_payment(world))
    first = envelopes.open(raw)
    assert envelopes.open(raw) is first, "and decoded once, while little was opened since"
    assert len(asked) == 1


def test_of_what_is_no_longer_decoded_the_signature_is_still_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRANSACTIONS_DECODED_BYTES", 0)
    asked = []
    world = World("alice", "bob")

    def counting(*arguments: bytes) -> bool:
        asked.append(arguments)
        return verify(*arguments)  # type: ignore[arg-type]

    envelopes = Envelopes(world.chain, counting)
    raw = world.sign(a_payment(world))
    first, again = envelopes.open(raw), envelopes.open(raw)
    assert first == again
    assert first[1] is not again[1]
    assert len(asked) == 1


def test_a_signature_that_somebody_else_found_good_is_not_checked() -> None:
    world = World("alice", "bob")
    envelopes = Envelopes(world.chain, lambda *_: False)
    raw = world.sign(a_payment(world))
    read = envelopes.read(raw)
    assert read.statement is not None
    assert verify(*read.claim(read.statement))
    assert not envelopes.holds(raw)
    envelopes.remember(read)
    assert envelopes.holds(raw)
    assert envelopes.open(raw) == (read.identity, read.signed)
    assert envelopes.read(raw).statement is None
    with pytest.raises(PeerFault, match=r"signature.bad"):
        envelopes.open(world.sign(a_payment(world)))


def test_remembered_signatures_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMPOOL_TRANSACTIONS", 2)
    envelopes = Envelopes(world.chain, verify)
    for _ in range(5):
        envelopes.open(world.sign(a_payment(world)))
    assert len(envelopes._good) == 2


def test_a_transaction_opened_once_is_judged_again_for_its_chain() -> None:
    """The same key on two chains: what was signed for one never holds on the other."""
    here, there = World("alice", "bob"), World("alice", "bob", fee_base=51)
    raw = here.sign(a_payment(here))
    assert here.chain != there.chain
    with pytest.raises(Refused, match=r"tx.chain"):
        there.ledger.check_tx(raw, now=START)
