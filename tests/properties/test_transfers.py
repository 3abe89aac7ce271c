"""Transfers checked without being applied: the same answer as the ledger gives that applies them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.support.ledger import RICH, World

from fondaco.consensus.ledger import accounts, envelope, transfers
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Transfer
from fondaco.protocol.scalars import MicroCredits, Millis

amounts = st.sampled_from([0, 1, RICH // 3, RICH // 2, RICH - 400, RICH - 300, RICH, 2 * RICH])
tips = st.sampled_from([0, 1, RICH // 2, RICH])


@given(
    paid=st.lists(st.tuples(st.sampled_from(["alice", "bob"]), amounts), min_size=1, max_size=4),
    tip=tips,
    included=st.booleans(),
)
def test_they_are_refused_as_the_ledger_refuses_them(
    paid: list[tuple[str, int]], tip: int, included: bool
) -> None:
    world = World("alice", "bob")
    alice = world.actors("alice")[0]
    draft = alice.does(
        *(Transfer(to=world.actors(name)[0].key, amount=MicroCredits(amount)) for name, amount in paid), tip=tip
    )
    raw = world.sign(draft)
    if included and raw in world.propose(raw).transactions:
        world.block(raw)
    now = Millis(world.now + 1_000)
    assert answer(lambda: by_balance(world, raw, now)) == answer(lambda: world.ledger.check_tx(raw, now=now))


def by_balance(world: World, raw: bytes, now: Millis) -> None:
    identity, signed = world.ledger._envelopes.open(raw)
    transaction, state = signed.transaction, world.ledger.state()
    assert transfers.are_all(transaction)
    fee = envelope.fee_of(transaction, len(raw), accounts.params_of(state))
    transfers.check(state, transaction, identity, fee)


def answer(check: object) -> tuple[str, str] | None:
    assert callable(check)
    try:
        check()
    except Refused as refusal:
        return refusal.code, refusal.message
    return None
