"""Four validators with stake, and what their ledgers come to."""

from __future__ import annotations

from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import COMMITMENT, FREE, Actor, World, of_kind

from fondaco.protocol import codec
from fondaco.protocol.events import Jailed
from fondaco.protocol.evidence import duplicate_vote
from fondaco.protocol.records import TOTALS, Totals
from fondaco.protocol.scalars import Hash

FOUR = {"ann": 10, "ben": 10, "cat": 10, "dan": 10}
VOTE = 1_000_000
OTHER = Hash(bytes(32))
QUICK = {"unbonding_ms": 60_000, "evidence_blocks": 3, "evidence_ms": 30_000}


def four(**params: int) -> World:
    return World("eve", *FOUR, validators=FOUR, **{**FREE, **params})


def settle(world: World, blocks: int = 2) -> None:
    for _ in range(blocks):
        world.block()


def fork(actor: Actor, height: int = 1) -> bytes:
    return codec.encode(duplicate_vote(actor.votes(height, COMMITMENT), actor.votes(height, OTHER)))


def totals(world: World) -> Totals:
    Bookkeeper(world).count()
    return world.ledger.state().require(TOTALS, Totals)


def away(world: World, blocks: int, *, after_ms: int = 1_000) -> list[Jailed]:
    return [event for _ in range(blocks) for event in of_kind(world.block(after_ms=after_ms).events, Jailed)]


JAIL = {"absence_blocks": 5, "absence_ms": 4_000, "jail_ms": 60_000}
