"""Auditors: what they say of providers, how long it holds, and whom it lets serve."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, MINUTE, START, Actor, Draft, World, a_group, codes, of_kind

from fondaco.consensus import merkle
from fondaco.consensus.ledger import trust
from fondaco.consensus.ledger.trust import attestations_of
from fondaco.protocol import codec, limits
from fondaco.protocol.events import AttestationLost, Attested, Loss
from fondaco.protocol.records import Attestation, key_attestation
from fondaco.protocol.resources import Attribute, Placement
from fondaco.protocol.scalars import Hash, Millis

EU = (("host", "fondaco"), ("region", "eu"))
EVIDENCE = Hash(bytes(range(32)))


class Story:
    """A provider in the EU, two auditors, and a tenant who cares what they say."""

    def __init__(self) -> None:
        self.world = World("tenant", "provider", "ann", "bea", **FREE)
        self.tenant, self.provider, self.ann, self.bea = self.world.actors("tenant", "provider", "ann", "bea")
        self.world.block(self.provider.registers(attributes=EU))
        self.books = Bookkeeper(self.world)

    def said(self, auditor: Actor) -> Attestation | None:
        return self.world.ledger.state().get(key_attestation(self.provider.key, auditor.key), Attestation)

    def attributes(self, auditor: Actor) -> dict[str, str]:
        said = self.said(auditor)
        return {} if said is None else {one.key: one.value for one in said.attributes}

    def lease(self, *, all_of: tuple[Actor, ...] = (), any_of: tuple[Actor, ...] = ()) -> Draft:
        placement = Placement(
            attributes=(Attribute(key="region", value="eu"),),
            all_of=tuple(one.key for one in all_of),
            any_of=tuple(one.key for one in any_of),
        )
        order = self.tenant.order(a_group(placement=placement))
        return self.tenant.opens(order, self.provider.bid(order, 500), deposit=1_000)


@pytest.fixture
def story() -> Story:
    return Story()


def test_an_attestation_is_on_the_ledger_with_its_end_and_evidence(story: Story) -> None:
    execution = story.world.block(story.ann.attests(story.provider, EU, for_ms=MINUTE, evidence=EVIDENCE))
    said = story.said(story.ann)
    assert said is not None
    assert (said.evidence, said.expires_at - said.attested_at) == (EVIDENCE, MINUTE)
    assert of_kind(execution.events, Attested) == [
        Attested(
            provider=story.provider.key,
            auditor=story.ann.key,
            attributes=said.attributes,
            expires_at=said.expires_at,
            evidence=EVIDENCE,
        )
    ]
    story.books.count()


def test_what_is_said_anew_replaces_what_was_said_before(story: Story) -> None:
    story.world.block(story.ann.attests(story.provider, EU, for_ms=MINUTE))
    story.world.block(story.ann.attests(story.provider, EU[1:], for_ms=5 * MINUTE))
    story.world.block(after_ms=2 * MINUTE)
    assert story.attributes(story.ann) == {"region": "eu"}
    story.books.count()


def test_only_what_a_provider_states_can_be_confirmed(story: Story) -> None:
    world, ann, provider = story.world, story.ann, story.provider
    many = tuple((f"k{number:03}", "v") for number in range(limits.ATTRIBUTES + 1))
    drafts = (
        (ann.attests(story.bea, EU), "provider.unknown"),
        (provider.attests(provider, EU), "attest.self"),
        (ann.attests(provider, ()), "attest.attributes"),
        (ann.attests(provider, many), "attest.attributes"),
        (ann.attests(provider, EU[::-1]), "attest.attributes"),
        (ann.attests(provider, (EU[0], EU[0])), "attest.attributes"),
        (ann.attests(provider, (("region", "us"),)), "attest.differs"),
        (ann.attests(provider, (("tier", "gold"),)), "attest.differs"),
        (ann.attests(provider, EU, for_ms=0), "attest.expired"),
        (ann.attests(provider, EU, for_ms=limits.ATTESTATION_LIFE_MS + 1), "attest.expiry"),
        (ann.attests(provider, EU, for_ms=limits.ATTESTATION_LIFE_MS), ""),
    )
    refused = codes(world.block(*(draft for draft, _ in drafts)).events)
    assert refused == [code for _, code in drafts]


def test_auditor_and_provider_may_end_an_attestation_and_nobody_else(story: Story) -> None:
    world, ann, bea, provider = story.world, story.ann, story.bea, story.provider
    world.block(ann.attests(provider, EU), bea.attests(provider, EU))
    assert world.code(story.tenant.revokes(provider, ann)) == "attest.sender"
    assert world.code(bea.revokes(provider, ann)) == "attest.sender"
    assert world.code(ann.revokes(provider, ann)) == ""
    assert world.code(ann.revokes(provider, ann)) == "attest.unknown"
    execution = world.block(provider.revokes(provider, bea))
    (lost,) = of_kind(execution.events, AttestationLost)
    assert (lost.auditor, lost.cause, len(lost.attributes)) == (bea.key, Loss.REVOKED, 2)
    assert attestations_of(world.ledger.state(), provider.key) == []
    story.books.count()


def test_an_attestation_holds_to_its_last_millisecond_and_is_then_forgotten(story: Story) -> None:
    world = story.world
    world.block(story.ann.attests(story.provider, EU, for_ms=MINUTE))
    world.ahead_ms = MINUTE
    assert world.code(story.lease(all_of=(story.ann,)), after_ms=MINUTE) == ""
    execution = world.block(after_ms=1)
    (lost,) = of_kind(execution.events, AttestationLost)
    assert lost.cause == Loss.EXPIRED
    assert story.said(story.ann) is None
    story.books.count()


def test_what_was_said_of_a_value_dies_with_it_and_does_not_come_back(story: Story) -> None:
    world, provider = story.world, story.provider
    world.block(story.ann.attests(provider, EU), story.bea.attests(provider, EU[1:]))
    moved = world.block(provider.registers(attributes=(EU[0], ("region", "us"))))
    assert [(one.auditor, one.attributes) for one in of_kind(moved.events, AttestationLost)] == [
        (who.key, (Attribute(key="region", value="eu"),))
        for who in sorted((story.ann, story.bea), key=lambda one: one.key)
    ]
    assert all(one.cause == Loss.CHANGED for one in of_kind(moved.events, AttestationLost))
    assert story.attributes(story.ann) == {"host": "fondaco"}
    assert story.said(story.bea) is None
    world.block(provider.registers(attributes=EU))
    assert story.attributes(story.ann) == {"host": "fondaco"}
    assert world.code(story.lease(all_of=(story.ann,))) == "placement.unmet"
    story.books.count()


def test_a_registration_that_changes_no_attribute_costs_no_trust(story: Story) -> None:
    world = story.world
    world.block(story.ann.attests(story.provider, EU))
    more = story.provider.registers(bond=2_000_000, attributes=(*EU, ("tier", "gold")))
    assert of_kind(world.block(more).events, AttestationLost) == []
    assert story.attributes(story.ann) == dict(EU)


def test_what_is_signed_by_nobody_needs_no_auditor(story: Story) -> None:
    assert story.world.code(story.lease()) == ""


def test_every_auditor_of_all_of_and_one_of_any_of_must_have_spoken(story: Story) -> None:
    world, ann, bea = story.world, story.ann, story.bea
    assert world.code(story.lease(all_of=(ann,))) == "placement.unmet"
    assert world.code(story.lease(any_of=(ann, bea))) == "placement.unmet"
    world.block(ann.attests(story.provider, EU))
    assert world.code(story.lease(all_of=(ann,))) == ""
    assert world.code(story.lease(any_of=(ann, bea))) == ""
    assert world.code(story.lease(all_of=(ann, bea))) == "placement.unmet"
    assert world.code(story.lease(all_of=(ann,), any_of=(bea,))) == "placement.unmet"
    world.block(bea.attests(story.provider, EU[:1]))
    assert world.code(story.lease(all_of=(ann, bea))) == "placement.unmet"
    world.block(bea.attests(story.provider, EU))
    assert world.code(story.lease(all_of=(ann, bea))) == ""
    assert world.code(story.lease(all_of=(ann,), any_of=(bea,))) == ""


def test_what_has_expired_and_waits_to_be_forgotten_counts_no_more(story: Story) -> None:
    world = story.world
    world.block(story.ann.attests(story.provider, EU, for_ms=MINUTE))
    placement = Placement(attributes=(), all_of=(story.ann.key,), any_of=())
    state, then = world.ledger.state(), Millis(world.now + MINUTE)
    assert trust.attested(state, story.provider.key, placement, now=then)
    assert not trust.attested(state, story.provider.key, placement, now=Millis(then + 1))


def test_an_order_names_so_many_auditors_and_no_more(story: Story) -> None:
    crowd = tuple(story.world.actors("ann", "bea")) * (limits.AUDITORS_PER_PLACEMENT // 2)
    assert story.world.code(story.lease(any_of=crowd)) == "placement.unmet"
    assert story.world.code(story.lease(any_of=(*crowd, story.ann))) == "resources.limit"
    assert story.world.code(story.lease(all_of=(*crowd, story.ann))) == "resources.limit"


def test_only_so_many_auditors_speak_of_one_provider_until_some_have_expired() -> None:
    names = [f"auditor-{number}" for number in range(limits.AUDITORS_PER_PROVIDER + 1)]
    world = World("provider", *names, **FREE)
    (provider,), (*early, late) = world.actors("provider"), world.actors(*names)
    world.block(provider.registers(attributes=EU))
    world.block(*(one.attests(provider, EU, for_ms=MINUTE) for one in early))
    assert world.code(late.attests(provider, EU)) == "attest.auditors"
    assert world.code(early[0].attests(provider, EU, for_ms=MINUTE)) == ""
    assert world.code(late.attests(provider, EU), after_ms=2 * MINUTE) == ""
    assert len(attestations_of(world.ledger.state(), provider.key)) == 1
    Bookkeeper(world).count()


def test_who_has_expired_and_is_not_forgotten_yet_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many are forgotten in a block; nobody has to wait for his turn because of that."""
    names = [f"auditor-{number}" for number in range(limits.AUDITORS_PER_PROVIDER + 1)]
    world = World("provider", *names, **FREE)
    world.judged = False
    (provider,), (*early, late) = world.actors("provider"), world.actors(*names)
    world.block(provider.registers(attributes=EU))
    world.block(*(one.attests(provider, EU, for_ms=MINUTE) for one in early))
    monkeypatch.setattr(trust.forget_expired, "__kwdefaults__", {"limit": 0})
    execution = world.block(late.attests(provider, EU), after_ms=2 * MINUTE)
    assert codes(execution.events) == [""]
    lost = of_kind(execution.events, AttestationLost)
    assert len({one.auditor for one in lost}) == len(lost) == len(early)
    Bookkeeper(world).count()


def test_forgetting_takes_the_oldest_first_and_is_bounded(story: Story) -> None:
    world = story.world
    world.block(
        story.ann.attests(story.provider, EU, for_ms=2 * MINUTE),
        story.bea.attests(story.provider, EU, for_ms=MINUTE),
    )
    state = world.ledger.state()
    (first,) = trust.forget_expired(state, now=Millis(START + 10 * MINUTE), limit=1)
    assert isinstance(first, AttestationLost)
    assert first.auditor == story.bea.key
    assert [one.auditor for one in attestations_of(state, story.provider.key)] == [story.ann.key]


def test_a_provider_that_is_gone_leaves_no_word_behind(story: Story) -> None:
    story.world.block(story.ann.attests(story.provider, EU), story.bea.attests(story.provider, EU))
    state = story.world.ledger.state()
    assert len(trust.attributes_changed(state, story.provider.key, ())) == 2
    assert attestations_of(state, story.provider.key) == []
    assert state.scan(b"attestation-expiry/", 1) == []


def test_what_auditors_said_is_proven_to_anybody(story: Story) -> None:
    story.world.block(story.ann.attests(story.provider, EU))
    key = key_attestation(story.provider.key, story.ann.key)
    raw, proof = story.world.ledger.prove(key)
    assert raw is not None
    assert merkle.holds(story.world.blocks[-1].block.header.state_root, key, raw, proof)
    said = story.said(story.ann)
    assert said is not None
    gone = replace(said, attributes=())
    assert not merkle.holds(story.world.blocks[-1].block.header.state_root, key, codec.encode(gone), proof)
