"""What auditors and the issuer do on a simulated chain, drawn from a seed of its own."""

from __future__ import annotations

from random import Random

from fondaco.consensus.ledger.application import Ledger
from fondaco.consensus.ledger.params import CREDIT
from fondaco.node.simulation.identities import Scheme
from fondaco.node.simulation.ledger import Balance
from fondaco.protocol.messages import Attest, Burn, Message, Mint, Revoke
from fondaco.protocol.records import Provider, key_provider
from fondaco.protocol.resources import Attribute, Placement
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey
from fondaco.protocol.signing import sha256

AUDITORS = 3
REGIONS = ("eu", "us")
ANYWHERE = Placement(attributes=(), all_of=(), any_of=())
LIVES_MS = (500, 3_000, 20_000)
"""Short, so that in a run of half a minute attestations expire."""


class Trust:
    """Auditors of `providers`, who move from region to region, and the issuer that the genesis names."""

    def __init__(self, seed: int, scheme: Scheme, providers: list[PublicKey]) -> None:
        self.random = Random(f"trust {seed}")
        self._providers = providers
        self.auditors = [scheme.key(f"auditor {number}") for number in range(AUDITORS)]
        self.issuer = scheme.key("issuer")

    @property
    def balances(self) -> list[Balance]:
        return [Balance(owner=key, credits=500 * CREDIT, stake=0) for key in (*self.auditors, self.issuer)]

    def attributes(self) -> tuple[Attribute, ...]:
        """What a provider states of itself this time."""
        region = Attribute(key="region", value=self.random.choice(REGIONS))
        return (Attribute(key="host", value="fondaco"), region)

    def placement(self) -> Placement:
        """Mostly anywhere; else where an auditor confirms that it is."""
        if self.random.random() < 0.9:
            return ANYWHERE
        named = tuple(sorted(self.random.sample(self.auditors, 2)))
        asked = (Attribute(key="region", value=self.random.choice(REGIONS)),)
        if self.random.random() < 0.5:
            return Placement(attributes=asked, all_of=named[:1], any_of=())
        return Placement(attributes=asked, all_of=(), any_of=named)

    def next(self, view: Ledger, *, now: Millis) -> tuple[PublicKey, Message]:
        """Who says what: mostly what makes sense, now and then what does not."""
        random, provider = self.random, self.random.choice(self._providers)
        auditor = random.choice(self.auditors)
        match random.choices(("attest", "revoke", "mint", "burn"), weights=(6, 2, 2, 3)):
            case ["attest"]:
                return auditor, self._attest(view, provider, now=now)
            case ["revoke"]:
                sender = random.choice((auditor, auditor, provider, self.auditors[0]))
                return sender, Revoke(provider=provider, auditor=auditor)
            case ["mint"]:
                amount = random.choice((0, 1, CREDIT, 10**18))
                sender = random.choice((self.issuer, self.issuer, auditor))
                return sender, Mint(to=provider, amount=MicroCredits(amount))
            case _:
                amount = random.choice((1, CREDIT, CREDIT, CREDIT, 10**18))
                return self.issuer, Burn(amount=MicroCredits(amount))

    def _attest(self, view: Ledger, provider: PublicKey, *, now: Millis) -> Attest:
        record = view.state().get(key_provider(provider), Provider)
        stated = () if record is None else record.attributes
        said = self.attributes() if self.random.random() < 0.1 else stated[self.random.randrange(2) :]
        return Attest(
            provider=provider,
            attributes=said,
            expires_at=Millis(now + self.random.choice(LIVES_MS)),
            evidence=sha256(b"seen"),
        )
