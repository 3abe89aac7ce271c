"""A chain in real files, grown by hand: every validator's key is here, so any block can be certified at once.

town = Town("alice", "paul", validators=4)
chain = town.open(tmp_path / "one.db")
town.grow(chain, alice.pays(paul, 5))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.ledger import RICH, Actor, Draft, World, a_group

from fondaco.consensus.ledger.application import Execution
from fondaco.consensus.ledger.genesis import Genesis, GenesisAccount, GenesisValidator
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.validators import ValidatorSet
from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.market import Decline, Reason, SignedDecline, SignedOrder, order_id
from fondaco.protocol.offers import Offer, Offered, OfferLine, SignedOffer
from fondaco.protocol.scalars import (
    GroupIndex,
    Height,
    MicroCredits,
    MicroStake,
    Millis,
    OrderId,
    Power,
    Round,
)
from fondaco.protocol.signing import Signer, sha256

HOUR_MS = 3_600_000


class Town(World):
    """People with money on one chain, and the keys of its validators; nodes open it in files of their own."""

    def __init__(
        self, *names: str, validators: int = 1, name: str = "town", initial_height: int = 1, **params: int
    ) -> None:
        self.keys = {
            signer.public_key: signer
            for signer in (Signer(sha256(f"{name} validator {number}".encode())) for number in range(validators))
        }
        self._actors = {each: Actor(self, each) for each in names}
        self.by_key = {actor.key: actor for actor in self._actors.values()}
        self.genesis = Genesis(
            name=name,
            time=Millis(clock.now() - HOUR_MS),
            initial_height=Height(initial_height),
            params=Params(**params),  # type: ignore[arg-type]
            validators=tuple(GenesisValidator(key=key, power=Power(10)) for key in self.keys),
            accounts=tuple(
                GenesisAccount(owner=actor.key, credits=MicroCredits(RICH), stake=MicroStake(RICH))
                for actor in self._actors.values()
            ),
            auditors=(),
        )
        self.chain = self.genesis.chain
        self._salts = 0
        self._now = self.genesis.time

    @property
    def now(self) -> Millis:
        """Block time of the newest block made."""
        return self._now

    def signers(self) -> list[Signer]:
        return list(self.keys.values())

    def open(self, path: Path, state: Path | None = None) -> Chain:
        return Chain.open(self.genesis, path, state)

    def reborn(self, genesis: Genesis) -> Town:
        """The same people and validators on the chain of another genesis."""
        again: Town = object.__new__(type(self))
        again.keys, again.genesis, again.chain = self.keys, genesis, genesis.chain
        again._actors = {name: Actor(again, name) for name in self._actors}
        again.by_key = {actor.key: actor for actor in again._actors.values()}
        again._salts, again._now = self._salts, genesis.time
        return again

    def propose_on(self, chain: Chain, *drafts: Draft | bytes, at: int | None = None) -> Block:
        time = Millis(chain.head.time + 1_000 if at is None else at)
        proposer = chain.ledger.validators.proposer(Round(0))
        return chain.ledger.prepare_proposal(
            time=time,
            proposer=proposer,
            previous_certificate=chain.certificate(),
            candidates=[one if isinstance(one, bytes) else self.sign(one, at=time) for one in drafts],
        )

    def certified(
        self, block: Block, validators: ValidatorSet, *, signers: int | None = None
    ) -> CommitCertificate:
        """Signed by the first so many validators of the set, or by all."""
        certificate = CommitCertificate(
            height=block.header.height, round=Round(0), value=block.header.hash(), signatures=()
        )
        count = len(validators.members) if signers is None else signers
        vote = certificate.vote()
        places = [self.keys[member.public_key].sign(self.chain, vote) for member in validators.members[:count]]
        return replace(certificate, signatures=(*places, *(None for _ in range(len(validators.members) - count))))

    def grow(self, chain: Chain, *drafts: Draft | bytes, at: int | None = None) -> Execution:
        """Commit a block of these to `chain`; what cannot be included fails the test."""
        block = self.propose_on(chain, *drafts, at=at)
        assert len(block.transactions) == len(drafts), "a transaction was left out of the block"
        execution = chain.commit(block, self.certified(block, chain.ledger.validators))
        self._now = max(self._now, block.header.time)
        return execution

    def copy(self, source: Chain, target: Chain) -> None:
        """Commit to `target` what `source` has more."""
        for number in range(target.head.height + 1, source.head.height + 1):
            block, certificate = stored(source, number)
            target.commit(block, certificate)


def stored(chain: Chain, height: int) -> tuple[Block, CommitCertificate]:
    block, certificate = chain.store.block(Height(height)), chain.store.certificate(Height(height))
    assert block is not None
    assert certificate is not None
    return block, certificate


@contextmanager
def town_chain(path: Path, *names: str, **options: Any) -> Iterator[tuple[Town, Chain]]:
    """A town and one node's chain of it."""
    town = Town(*names, **options)
    chain = town.open(path / "chain.db")
    try:
        yield town, chain
    finally:
        chain.close()


def order_by(
    tenant: Actor, *, price: int = 1_000, deposit: int = 10_000, **other: Any
) -> tuple[OrderId, SignedOrder]:
    """An order of one group that the book takes in."""
    signed = tenant.order(a_group(price=price), deposit=MicroCredits(deposit), **other)
    return order_id(tenant.world.chain, signed.order), signed


def offer_by(provider: Actor, *, serial: int | None = None, **other: Any) -> SignedOffer:
    """That of a provider with four CPUs, two of them free."""
    made = provider.world.now if serial is None else serial
    line = OfferLine(resource=Offered.CPU_MILLI, model="", total=4_000, free=2_000, price_per_hour=MicroCredits(7))
    offer = Offer(
        provider=provider.key,
        lines=(line,),
        attributes=(),
        policy=(),
        serial=made,
        expires_at=Millis(made + 600_000),
    )
    offer = replace(offer, **other)
    return SignedOffer(offer=offer, signature=provider.signer.sign(provider.world.chain, offer))


def decline_by(provider: Actor, order: OrderId, *, group: int = 0, **other: Any) -> SignedDecline:
    decline = Decline(
        order=order,
        group=GroupIndex(group),
        provider=provider.key,
        reasons=(Reason(dimension="cpu", asked="8", available="3"),),
        expires_at=Millis(provider.world.now + 60_000),
    )
    decline = replace(decline, **other)
    return SignedDecline(decline=decline, signature=provider.signer.sign(provider.world.chain, decline))


def stranger(town: Town, name: str = "stranger") -> Actor:
    """Somebody whom the chain does not know."""
    return Actor(town, name)
