"""A mempool over a real chain, and four people with money who send it transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.chains import Town, town_chain
from tests.support.ledger import Actor, Draft

from fondaco.consensus.ledger.envelope import Envelopes
from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.node.mempool import Mempool, Outcome
from fondaco.node.verifying import Verifier
from fondaco.protocol import codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import PublicKey, Signature
from fondaco.protocol.signing import verify
from fondaco.protocol.transactions import SignedTransaction


class Counting(Verifier):
    """Counts the signatures it is asked about."""

    def __init__(self, envelopes: Envelopes) -> None:
        self.asked = 0
        super().__init__(envelopes, self._counted)

    def _counted(self, key: PublicKey, data: bytes, signature: Signature) -> bool:
        self.asked += 1
        return verify(key, data, signature)


class Pool:
    """What the tests of the mempool do, in a word each."""

    def __init__(self, town: Town, chain: Chain) -> None:
        self.town = town
        self.chain = chain
        self.verifier = Counting(chain.envelopes)
        self.mempool = Mempool(chain, self.verifier)
        self.alice, self.bob, self.carol, self.dave = town.actors("alice", "bob", "carol", "dave")

    def sign(self, draft: Draft, **other: object) -> bytes:
        """For a block made now."""
        return self.town.sign(draft, at=clock.now(), **other)

    def pays(self, sender: Actor, amount: int = 1, *, tip: int = 0) -> bytes:
        """A payment to dave."""
        return self.sign(replace(sender.pays(self.dave, amount), tip=tip))

    def forged(self) -> bytes:
        signed = codec.decode(self.sign(self.alice.pays(self.bob, 1)), SignedTransaction)
        return codec.encode(replace(signed, signature=Signature(bytes(64))))

    def offered(self) -> list[bytes]:
        return list(self.mempool.candidates())

    def refuses(self, raw: bytes) -> str:
        """The code with which it stays out."""
        before = self.offered()
        with pytest.raises(Refused) as refusal:
            self.mempool.add(raw)
        assert self.offered() == before
        return refusal.value.code

    def deployments(self) -> list[bytes]:
        found = self.chain.ledger.state().scan(b"deployment/", 10)
        return [key.removeprefix(b"deployment/") for key, _ in found]

    async def hears(self, *raws: bytes) -> list[Outcome]:
        return await self.mempool.add_many(raws, from_peer=True)

    def block(self, *raws: bytes, at: int | None = None) -> None:
        self.town.grow(self.chain, *raws, at=clock.now() if at is None else at)


@contextmanager
def open_pool(path: Path) -> Iterator[Pool]:
    with town_chain(path, "alice", "bob", "carol", "dave") as (town, chain):
        yield Pool(town, chain)


def codes(outcomes: list[Outcome]) -> list[str]:
    """Of refusals; "in" for what was taken."""
    return ["in" if isinstance(one, bytes) else one.code for one in outcomes]
