"""What auditors said, and who issues, goes along with a chain that goes on; what cannot be is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support import heirs
from tests.support.heirs import Heir
from tests.support.ledger import FREE, MINUTE, World

from fondaco.consensus.ledger.trust import attestations_of
from fondaco.protocol import codec, limits
from fondaco.protocol.records import (
    ISSUER,
    Attestation,
    Issuer,
    key_alive,
    key_attestation,
    key_attestation_expiry,
    key_provider,
)
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import Millis, PublicKey

EU = (("host", "fondaco"), ("region", "eu"))


class Forger(heirs.Forger):
    """Two auditors confirm what paul states; one of them not for long."""

    def __init__(self) -> None:
        world = World("paul", "ann", "bea", "mint", issuer="mint", **FREE)
        self.paul, self.ann, self.bea, self.mint = world.actors("paul", "ann", "bea", "mint")
        world.block(self.paul.registers(attributes=EU))
        world.block(self.ann.attests(self.paul, EU), self.bea.attests(self.paul, EU[1:], for_ms=MINUTE))
        super().__init__(world)
        self.key = key_attestation(self.paul.key, self.ann.key)

    @property
    def said(self) -> Attestation:
        return self.read(self.key, Attestation)

    def say(self, **changes: Any) -> None:
        """Something else of what ann said."""
        self.bend(self.key, Attestation, **changes)

    def put(self, said: Attestation) -> None:
        """With its entry in the index."""
        self.records[key_attestation(said.provider, said.auditor)] = codec.encode(said)
        index = key_attestation_expiry(said.expires_at, said.provider, said.auditor)
        self.records[index] = codec.encode(said.provider + said.auditor)


@pytest.fixture
def forger() -> Forger:
    return Forger()


def test_attestations_and_the_issuer_go_along(forger: Forger) -> None:
    heir = Heir(forger.world)
    paul, ann, mint = heir.actors("paul", "ann", "mint")
    state = heir.ledger.state()
    assert attestations_of(state, paul.key) == attestations_of(forger.world.ledger.state(), paul.key)
    assert heir.genesis.issuer == mint.key
    assert heir.code(mint.mints(ann, 5)) == ""
    heir.block(after_ms=2 * MINUTE)
    assert [one.auditor for one in attestations_of(heir.ledger.state(), paul.key)] == [ann.key]
    assert heir.code(ann.revokes(paul, ann)) == ""


def test_an_issuer_that_the_document_or_the_records_do_not_know_is_refused(forger: Forger) -> None:
    honest = forger.genesis
    forger.genesis = replace(honest, issuer=None)
    assert forger.verdict().code == "genesis.differs"
    forger.genesis = honest
    del forger.records[ISSUER]
    assert forger.verdict().code == "genesis.differs"
    forger.records[ISSUER] = codec.encode(Issuer(key=forger.ann.key))
    assert "the issuer" in forger.verdict().message


def elsewhere(forger: Forger) -> None:
    forger.say(provider=forger.bea.key)


def saying_nothing(forger: Forger) -> None:
    forger.say(attributes=())


def out_of_order(forger: Forger) -> None:
    forger.say(attributes=forger.said.attributes[::-1])


def not_stated(forger: Forger) -> None:
    forger.say(attributes=(Attribute(key="region", value="us"),))


def later(forger: Forger) -> None:
    forger.say(expires_at=Millis(forger.said.expires_at + 1))


def unindexed(forger: Forger) -> None:
    del forger.records[key_attestation_expiry(forger.said.expires_at, forger.paul.key, forger.ann.key)]


def half_an_index(forger: Forger) -> None:
    forger.records[b"attestation-expiry/" + bytes(40)] = codec.encode(bytes(32))


def of_nobody(forger: Forger) -> None:
    forger.put(replace(forger.said, provider=forger.bea.key))


def without_its_provider(forger: Forger) -> None:
    del forger.records[key_provider(forger.paul.key)]
    del forger.records[key_alive(forger.paul.key)]


def a_crowd(forger: Forger) -> None:
    for number in range(limits.AUDITORS_PER_PROVIDER - 1):
        forger.put(replace(forger.said, auditor=PublicKey(bytes([number]) * 32)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (elsewhere, "another provider or auditor"),
        (saying_nothing, "attributes, sorted"),
        (out_of_order, "attributes, sorted"),
        (not_stated, "does not state"),
        (later, "one is missing"),
        (unindexed, "one is missing"),
        (half_an_index, "no entry of an index"),
        (of_nobody, "there is none"),
        (without_its_provider, "there is none"),
        (a_crowd, "more than"),
    ],
)
def test_an_attestation_that_cannot_be_is_refused(
    forger: Forger, change: Callable[[Forger], None], says: str
) -> None:
    change(forger)
    verdict = forger.verdict()
    assert verdict.code == "genesis.record", verdict
    assert says in verdict.message
