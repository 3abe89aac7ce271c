"""Who may make credits and destroy them; and what a provider that is at fault loses."""

from __future__ import annotations

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, RICH, World, of_kind

from fondaco.consensus.ledger.accounts import check_supply
from fondaco.consensus.ledger.genesis import genesis_from
from fondaco.consensus.ledger.issuing import slash_provider
from fondaco.protocol import limits
from fondaco.protocol.events import Burnt, Minted
from fondaco.protocol.records import SUPPLY, TOTALS, Provider, Supply, Totals, key_provider
from fondaco.protocol.scalars import INT_MAX, MicroCredits, MicroStake


def supply_of(world: World) -> int:
    return world.ledger.state().require(SUPPLY, Supply).credits


def test_the_issuer_mints_to_anybody_and_burns_its_own() -> None:
    world = World("alice", "mint", issuer="mint", **FREE)
    alice, mint = world.actors("alice", "mint")
    books, before = Bookkeeper(world), supply_of(world)
    execution = world.block(mint.mints(alice, 500), mint.burns(200))
    assert of_kind(execution.events, Minted) == [
        Minted(to=alice.key, credits=MicroCredits(500), stake=MicroStake(0))
    ]
    assert of_kind(execution.events, Burnt) == [Burnt(owner=mint.key, credits=MicroCredits(200))]
    assert (alice.credits, mint.credits) == (RICH + 500, RICH - 200)
    assert supply_of(world) == before + 300
    books.count()
    world.block(mint.burns(RICH - 200))
    assert mint.credits == 0
    books.count()


def test_nobody_but_the_issuer_makes_or_destroys_money() -> None:
    world = World("alice", "mint", issuer="mint", **FREE)
    alice, mint = world.actors("alice", "mint")
    for draft, code in (
        (alice.mints(alice, 1), "issuer.sender"),
        (alice.burns(1), "issuer.sender"),
        (mint.mints(alice, 0), "issuer.zero"),
        (mint.burns(0), "issuer.zero"),
        (mint.burns(RICH + 1), "funds.credits"),
        (mint.mints(alice, limits.SUPPLY), "supply.limit"),
        (mint.mints(alice, INT_MAX), "supply.limit"),
        (mint.mints(alice, limits.SUPPLY - 2 * RICH), ""),
        (mint.mints(alice, 1), "supply.limit"),
    ):
        assert world.code(draft) == code
    assert supply_of(world) == limits.SUPPLY


def test_what_was_burnt_may_be_minted_again() -> None:
    world = World("alice", "mint", issuer="mint", **FREE)
    alice, mint = world.actors("alice", "mint")
    world.block(mint.mints(alice, limits.SUPPLY - 2 * RICH), mint.burns(3))
    assert world.code(mint.mints(alice, 4)) == "supply.limit"
    assert world.code(mint.mints(alice, 3)) == ""


def test_a_chain_whose_genesis_names_no_issuer_has_none() -> None:
    world = World("alice", **FREE)
    (alice,) = world.actors("alice")
    assert world.code(alice.mints(alice, 1)) == "issuer.sender"
    assert "issuer" not in world.genesis.to_json(), "the ids of other chains stay as they were"


def test_the_issuer_is_part_of_what_a_chain_is_named_by() -> None:
    issued, other = (World("alice", "mint", issuer=who, **FREE).genesis for who in ("mint", "alice"))
    assert issued.chain != other.chain
    assert genesis_from(issued.to_json()) == issued


def test_only_a_chain_whose_genesis_says_so_has_a_faucet() -> None:
    dry, wet = World("alice", **FREE), World("alice", **FREE, faucet_credits=10)
    for world, code in ((dry, "faucet.none"), (wet, "")):
        (alice,) = world.actors("alice")
        assert world.code(alice.asks_faucet(10)) == code
    assert wet.code(wet.actors("alice")[0].asks_faucet(11)) == "faucet.limit"
    assert wet.code(wet.actors("alice")[0].asks_faucet(1, 1)) == "faucet.limit"


@pytest.mark.parametrize(("basis_points", "lost"), [(0, 0), (1, 100), (500, 50_000), (10_000, 1_000_007)])
def test_a_provider_at_fault_pays_the_community_out_of_its_bond(basis_points: int, lost: int) -> None:
    world = World("paul", **FREE)
    (paul,) = world.actors("paul")
    world.block(paul.registers(bond=1_000_007))
    state, stake = world.ledger.state(), paul.stake
    before, made = state.require(TOTALS, Totals), state.require(SUPPLY, Supply)
    (event,) = slash_provider(state, paul.key, basis_points=basis_points)
    left = 1_000_007 - lost
    assert (event.provider, event.amount, event.bond) == (paul.key, lost, left)  # type: ignore[union-attr]
    assert state.require(key_provider(paul.key), Provider).bond == left
    after = state.require(TOTALS, Totals)
    assert (after.bonded_stake, after.pool_stake) == (before.bonded_stake - lost, before.pool_stake + lost)
    assert state.require(SUPPLY, Supply) == made
    assert paul.stake == stake
    check_supply(state)


def test_who_is_no_provider_has_nothing_to_lose() -> None:
    world = World("paul", **FREE)
    (paul,) = world.actors("paul")
    state = world.ledger.state()
    assert slash_provider(state, paul.key, basis_points=500) == []
    check_supply(state)


def test_a_bond_that_was_slashed_is_made_up_with_the_next_registration() -> None:
    world = World("paul", **FREE)
    (paul,) = world.actors("paul")
    world.block(paul.registers(bond=1_000_000))
    state = world.ledger.state()
    slash_provider(state, paul.key, basis_points=500)
    state.seal()
    world.store.apply(state.writes)
    stake = paul.stake
    assert world.code(paul.registers(bond=1_000_000)) == ""
    assert paul.stake == stake - 50_000
    check_supply(world.ledger.state())
