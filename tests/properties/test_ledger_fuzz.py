"""Money under fire: nothing is created, nothing is lost, and nothing but a refusal ever comes out."""

from __future__ import annotations

import pytest
from tests.support.ledger_fuzz import Fuzz

EVENTS = {
    "TransactionApplied",
    "Transferred",
    "Minted",
    "ProviderRegistered",
    "LeaseOpened",
    "Deposited",
    "LeaseActivated",
    "Paid",
    "RanDry",
    "Resumed",
    "LeaseClosed",
    "Refunded",
    "HandoffLapsed",
    "LeaseReclaimed",
    "ProviderAlive",
    "ProviderRetired",
    "ProviderRetiring",
    "Attested",
    "AttestationLost",
    "Burnt",
    "Bonded",
    "UnbondingBegan",
    "Unbonded",
    "PowerChanged",
    "ProposalMade",
    "VoteCast",
    "ProposalEnded",
    "ParameterChanged",
    "PoolSpent",
    "TemplateRegistered",
    "RoyaltyPaid",
    "ManifestUpdated",
    "LeaseReplaced",
    "SpendingGranted",
    "GrantSpent",
    "GrantEnded",
}


RARE = {"PoolSpent", "ParameterChanged", "RoyaltyPaid", "Resumed", "ProviderRetiring", "ProviderRetired"}
RARE |= {"GrantSpent", "ManifestUpdated", "LeaseReplaced"}
"""Of these some come of a hundred thousand messages, and not always of five."""


def run(seed: int, messages: int, *, per_block: int, counted_every: int) -> Fuzz:
    fuzz = Fuzz(seed)
    blocks = 0
    while fuzz.messages < messages:
        fuzz.block(per_block)
        blocks += 1
        if blocks % counted_every == 0:
            fuzz.books.count(tree=blocks % (10 * counted_every) == 0)
    fuzz.books.count()
    return fuzz


@pytest.mark.parametrize("seed", range(4))
def test_random_messages_neither_make_nor_lose_money(seed: int) -> None:
    fuzz = run(seed, 5_000, per_block=40, counted_every=2)
    assert EVENTS - RARE <= set(fuzz.events) <= EVENTS, "the fuzz reached what can happen"
    assert fuzz.outcomes[""] > 500
    assert fuzz.outcomes["left out"] > 50
    assert len(fuzz.outcomes) > 20, "and many ways of being refused"


@pytest.mark.heavy
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(100, 110))
def test_a_million_random_messages_neither_make_nor_lose_money(seed: int) -> None:
    fuzz = run(seed, 100_000, per_block=200, counted_every=5)
    assert set(fuzz.events) == EVENTS
