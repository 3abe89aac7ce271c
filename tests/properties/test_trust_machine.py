"""Any history of auditors and providers: a model of three lines says who is trusted, and the ledger agrees."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, Actor, Draft, World, codes

from fondaco.consensus.ledger.trust import attestations_of
from fondaco.protocol.resources import Attribute, Placement

AUDITORS, PROVIDERS = ("ann", "bea", "cas"), ("paul", "petra")
Pairs = tuple[tuple[str, str], ...]
STATES: tuple[Pairs, ...] = (
    (),
    (("region", "eu"),),
    (("region", "us"),),
    (("region", "eu"), ("tier", "gold")),
    (("region", "us"), ("tier", "gold")),
)
STEPS = st.sampled_from([1, 999, 1_000, 10_000])
auditors, providers = st.sampled_from(AUDITORS), st.sampled_from(PROVIDERS)


@dataclass
class Word:
    """What an auditor said, as somebody remembers it who has never seen the ledger."""

    until: int
    attributes: dict[str, str] = field(default_factory=dict)


class Trust(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.world = World("tenant", *AUDITORS, *PROVIDERS, **FREE)
        self.world.judged = False
        self.books = Bookkeeper(self.world)
        self.own: dict[str, dict[str, str]] = {}
        self.words: dict[tuple[str, str], Word] = {}
        for name in PROVIDERS:
            self.register(name, STATES[3])

    def actor(self, name: str) -> Actor:
        return self.world.actors(name)[0]

    @rule(name=providers, states=st.sampled_from(STATES))
    def register(self, name: str, states: Pairs) -> None:
        assert self.say(self.actor(name).registers(attributes=states)) == ""
        self.own[name] = dict(states)
        for (of, _), word in self.words.items():
            if of == name:
                kept = word.attributes.items() & dict(states).items()
                word.attributes = dict(sorted(kept))

    @rule(
        auditor=auditors, name=providers, least=st.integers(0, 1), for_ms=st.sampled_from([1, 1_000, 5_000, 10**6])
    )
    def attest(self, auditor: str, name: str, least: int, for_ms: int) -> None:
        said = dict(list(self.own[name].items())[least:])
        code = self.say(self.actor(auditor).attests(self.actor(name), tuple(said.items()), for_ms=for_ms))
        assert code == ("" if said else "attest.attributes")
        if said:
            self.words[name, auditor] = Word(self.world.now + for_ms, said)

    @rule(sender=auditors | providers, auditor=auditors, name=providers)
    def revoke(self, sender: str, auditor: str, name: str) -> None:
        code = self.say(self.actor(sender).revokes(self.actor(name), self.actor(auditor)))
        if sender not in (auditor, name):
            assert code == "attest.sender"
            return
        assert code == ("" if self.said(name, auditor) else "attest.unknown")
        self.words.pop((name, auditor), None)

    @rule(after_ms=STEPS)
    def wait(self, after_ms: int) -> None:
        self.world.block(after_ms=after_ms)

    @precondition(lambda self: self.words)
    @rule(
        name=providers,
        asked=st.sampled_from(STATES),
        named=st.sets(auditors, max_size=2),
        every=st.booleans(),
    )
    def open(self, name: str, asked: Pairs, named: set[str], every: bool) -> None:
        keys = tuple(sorted(self.actor(one).key for one in named))
        placement = Placement(
            attributes=tuple(Attribute(key=key, value=value) for key, value in asked),
            all_of=keys if every else (),
            any_of=() if every else keys,
        )
        code = self.say(self.actor("tenant").leases((self.actor(name), 1), deposit=10, placement=placement))
        wanted = dict(asked).items()
        if not named:
            right = wanted <= self.own[name].items()
        else:
            spoken = [self.said(name, one) for one in named]
            right = (all if every else any)(bool(said) and wanted <= said.items() for said in spoken)
        assert code == ("" if right else "placement.unmet")

    def say(self, draft: Draft) -> str:
        (code,) = codes(self.world.block(draft).events)
        return code

    def said(self, name: str, auditor: str) -> dict[str, str]:
        """What is attested at the newest block."""
        word = self.words.get((name, auditor))
        return word.attributes if word is not None and self.world.now <= word.until else {}

    @invariant()
    def the_ledger_has_what_was_said_and_no_more(self) -> None:
        if not hasattr(self, "books"):
            return
        self.books.count(tree=False)
        for name in PROVIDERS:
            held = {
                one.auditor: {pair.key: pair.value for pair in one.attributes}
                for one in attestations_of(self.world.ledger.state(), self.actor(name).key)
            }
            told = {self.actor(one).key: self.said(name, one) for one in AUDITORS}
            assert held == {key: said for key, said in told.items() if said}


Trust.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestTrust = Trust.TestCase
