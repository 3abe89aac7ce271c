from __future__ import annotations

from typing import Any

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, World

from fondaco.protocol.records import Provider, key_provider
from fondaco.protocol.resources import Attribute

BOND = 1_000_000


@pytest.fixture
def world() -> World:
    return World("paul", stake=5 * BOND, **FREE)


def provider(world: World) -> Provider:
    (paul,) = world.actors("paul")
    return world.ledger.state().require(key_provider(paul.key), Provider)


def test_a_provider_bonds_stake_and_says_what_it_has(world: World) -> None:
    (paul,) = world.actors("paul")
    assert world.code(paul.registers(attributes=[("region", "eu")])) == ""
    assert paul.stake == 4 * BOND
    assert provider(world).attributes == (Attribute(key="region", value="eu"),)
    assert provider(world).registered_at == world.now
    Bookkeeper(world).count()


def test_registering_again_replaces_what_was_said_and_moves_only_the_difference(world: World) -> None:
    (paul,) = world.actors("paul")
    world.block(paul.registers(bond=3 * BOND))
    first = provider(world).registered_at
    assert world.code(paul.registers(bond=2 * BOND, peer="other")) == ""
    assert (paul.stake, provider(world).bond, provider(world).peer) == (3 * BOND, 2 * BOND, "other")
    assert provider(world).registered_at == first
    Bookkeeper(world).count()


MANY = tuple(Attribute(key=f"{place:03}", value="") for place in range(65))


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"bond": BOND - 1}, "provider.bond"),
        ({"bond": 6 * BOND}, "funds.stake"),
        ({"bond": 2**63 - 1}, "funds.stake"),
        ({"attributes": [("b", ""), ("a", "")]}, "provider.attributes"),
        ({"attributes": [("a", "1"), ("a", "2")]}, "provider.attributes"),
        ({"attributes": [(one.key, "") for one in MANY]}, "provider.attributes"),
        ({"addresses": ()}, "provider.addresses"),
        ({"addresses": ("a",) * 9}, "provider.addresses"),
    ],
)
def test_a_registration_outside_the_rules_is_refused(world: World, said: dict[str, Any], code: str) -> None:
    (paul,) = world.actors("paul")
    assert world.code(paul.registers(**said)) == code
    assert paul.stake == 5 * BOND
    Bookkeeper(world).count()


def test_the_bond_of_a_refused_change_stays(world: World) -> None:
    (paul,) = world.actors("paul")
    world.block(paul.registers(bond=2 * BOND))
    assert world.code(paul.registers(bond=8 * BOND)) == "funds.stake"
    assert provider(world).bond == 2 * BOND
