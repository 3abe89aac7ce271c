"""Transfers, fees and the faucet."""

from __future__ import annotations

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, World, codes, of_kind

from fondaco.consensus.ledger.params import CREDIT
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import Minted, TransactionApplied, Transferred
from fondaco.protocol.records import TOTALS, Totals, key_account
from fondaco.protocol.scalars import MicroCredits, MicroStake


def pool(world: World) -> int:
    return world.ledger.state().require(TOTALS, Totals).pool_credits


def test_a_transfer_moves_credits_and_nothing_else() -> None:
    world = World("alice", "bob", credits=100, **FREE)
    alice, bob = world.actors("alice", "bob")
    execution = world.block(alice.pays(bob, 30))
    assert (alice.credits, bob.credits) == (70, 130)
    assert of_kind(execution.events, Transferred) == [
        Transferred(sender=alice.key, to=bob.key, amount=MicroCredits(30))
    ]
    Bookkeeper(world).count()


def test_a_transfer_to_oneself_changes_nothing() -> None:
    world = World("alice", credits=100, **FREE)
    (alice,) = world.actors("alice")
    assert world.code(alice.pays(alice, 100)) == ""
    assert alice.credits == 100


@pytest.mark.parametrize(
    ("amount", "code"), [(0, "transfer.zero"), (101, "funds.credits"), (2**63 - 1, "funds.credits")]
)
def test_a_transfer_of_nothing_or_too_much_is_refused(amount: int, code: str) -> None:
    world = World("alice", "bob", credits=100, **FREE)
    alice, bob = world.actors("alice", "bob")
    assert world.code(alice.pays(bob, amount)) == code
    assert (alice.credits, bob.credits) == (100, 100)


def test_an_account_paid_out_to_nothing_leaves_the_state() -> None:
    world = World("alice", "bob", credits=100, stake=0, **FREE)
    alice, bob = world.actors("alice", "bob")
    world.block(alice.pays(bob, 100))
    assert world.ledger.prove(key_account(alice.key))[0] is None
    Bookkeeper(world).count()


def test_half_the_fee_and_the_whole_tip_go_to_the_proposer_the_rest_to_the_pool() -> None:
    world = World("alice", "bob")
    alice, bob = world.actors("alice", "bob")
    raw = world.sign(alice.does(*alice.pays(bob, 5).messages, tip=1_000))
    fee = 50 + len(raw)
    before = alice.credits
    execution = world.block(raw)
    assert alice.credits == before - fee - 1_000 - 5
    assert world.validator.credits == fee // 2 + 1_000
    assert pool(world) == fee - fee // 2
    assert of_kind(execution.events, TransactionApplied)[0].fee == fee
    Bookkeeper(world).count()


def test_a_proposer_may_pay_itself() -> None:
    world = World("alice")
    (alice,) = world.actors("alice")
    world.block(alice.pays(world.validator, 10_000))
    assert world.code(world.validator.pays(alice, 100)) == ""
    Bookkeeper(world).count()


def test_who_cannot_pay_the_fee_is_left_out_of_the_block() -> None:
    world = World("alice", "bob", credits=100)
    alice, bob = world.actors("alice", "bob")
    assert world.propose(alice.pays(bob, 1)).transactions == ()
    with pytest.raises(Refused, match=r"tx.fee"):
        world.ledger.check_tx(world.sign(alice.pays(bob, 1)), now=world.now)


def test_a_refused_message_still_costs_its_fee() -> None:
    world = World("alice", "bob")
    alice, bob = world.actors("alice", "bob")
    before = alice.credits
    assert world.code(alice.pays(bob, 10**12)) == "funds.credits"
    assert alice.credits < before
    assert bob.credits == before


def test_messages_take_effect_together_or_not_at_all() -> None:
    world = World("alice", "bob", credits=100, **FREE)
    alice, bob = world.actors("alice", "bob")
    assert world.code(alice.pays(bob, 60) & alice.pays(bob, 60)) == "funds.credits"
    assert (alice.credits, bob.credits) == (100, 100)
    assert world.code(alice.pays(bob, 60) & alice.pays(bob, 40)) == ""
    assert (alice.credits, bob.credits) == (0, 200)


# The faucet


def test_a_faucet_gives_to_who_asks_and_costs_nothing() -> None:
    world = World("alice", credits=0, stake=0, faucet_credits=100, faucet_stake=7)
    (alice,) = world.actors("alice")
    execution = world.block(alice.asks_faucet(100, 7))
    assert (alice.credits, alice.stake) == (100, 7)
    assert of_kind(execution.events, Minted) == [
        Minted(to=alice.key, credits=MicroCredits(100), stake=MicroStake(7))
    ]
    Bookkeeper(world).count()


@pytest.mark.parametrize(
    ("credits", "stake", "code"), [(101, 0, "faucet.limit"), (1, 8, "faucet.limit"), (0, 0, "faucet.zero")]
)
def test_a_faucet_has_a_limit(credits: int, stake: int, code: str) -> None:
    world = World("alice", faucet_credits=100, faucet_stake=7)
    (alice,) = world.actors("alice")
    assert world.code(alice.asks_faucet(credits, stake)) == code


@pytest.mark.parametrize("asked", [(0, 0), (1, 0)])
def test_where_there_is_no_faucet_asking_it_gives_nothing_and_is_not_free(asked: tuple[int, int]) -> None:
    world = World("alice", "poor")
    alice, poor = world.actors("alice", "poor")
    before = alice.credits
    assert world.code(alice.asks_faucet(*asked)) == "faucet.none"
    assert alice.credits < before
    world.block(poor.pays(alice, poor.credits - 500))
    assert (
        world.propose(
            poor.asks_faucet(
                *asked,
            )
        ).transactions
        != ()
    )
    world.block(poor.pays(alice, 1))
    assert world.propose(poor.asks_faucet(*asked)).transactions == ()


def test_asking_the_faucet_and_something_else_is_not_free() -> None:
    world = World("alice", "bob", credits=0, stake=0, faucet_credits=10_000)
    alice, bob = world.actors("alice", "bob")
    assert world.propose(alice.asks_faucet(10_000) & alice.pays(bob, 1)).transactions == ()


def test_a_faucet_never_mints_past_what_the_ledger_can_count() -> None:
    largest = 10_000 * CREDIT
    world = World("alice", credits=limits.SUPPLY - largest, stake=0, faucet_credits=largest, faucet_stake=largest)
    (alice,) = world.actors("alice")
    assert world.code(alice.asks_faucet(largest)) == ""
    assert world.code(alice.asks_faucet(1)) == "supply.limit"
    assert world.code(alice.asks_faucet(0, 1)) == ""
    assert alice.credits == limits.SUPPLY
    Bookkeeper(world).count()


def test_stake_is_bounded_as_credits_are() -> None:
    bonded = 10 * 1_000_000
    world = World("alice", credits=0, stake=limits.SUPPLY - bonded, faucet_stake=CREDIT)
    (alice,) = world.actors("alice")
    assert world.code(alice.asks_faucet(0, 1)) == "supply.limit"


def test_transactions_are_applied_in_order_each_on_what_the_one_before_left() -> None:
    world = World("alice", "bob", "carol", credits=10, **FREE)
    alice, bob, carol = world.actors("alice", "bob", "carol")
    execution = world.block(alice.pays(bob, 10), bob.pays(carol, 20), alice.pays(bob, 1))
    assert codes(execution.events) == ["", "", "funds.credits"]
    assert (alice.credits, bob.credits, carol.credits) == (0, 0, 30)
