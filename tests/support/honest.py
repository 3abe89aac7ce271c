"""A chain of four validators, and the honest node that a light client asks among liars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.chains import Town
from tests.support.light import Full, Method

from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.protocol import codec
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.light import ProvenRecord
from fondaco.protocol.records import key_account
from fondaco.protocol.scalars import Height, PublicKey

NOBODY = PublicKey(bytes(32))


class Scene:
    """A chain of four validators that has just made a few blocks, and the honest node that holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.town = Town("alice", "bob", "paul", validators=4)
        self.alice, self.bob, self.paul = self.town.actors("alice", "bob", "paul")
        self.chain = self.town.open(path / "honest.db")
        self.town.grow(self.chain, self.paul.registers(), at=clock.now() - 3_000)
        for amount in range(1, 4):
            self.town.grow(self.chain, self.alice.pays(self.bob, amount), at=clock.now() - 3_000 + amount)
        self.full = Full(self.chain)
        self.key = key_account(self.bob.key)

    @property
    def honest(self) -> dict[str, Method]:
        return self.full.methods()

    def lying(self, lie: Callable[[ProvenRecord], Any]) -> dict[str, Method]:
        """A node whose records are what `lie` makes of the true ones."""

        async def record(peer: str, params: Any) -> Any:
            return bent(await self.full.service.record(peer, params))

        async def watch_record(peer: str, params: Any) -> Any:
            async for raw in self.full.service.watch_record(peer, params):
                yield bent(raw)

        def bent(raw: bytes) -> Any:
            told = lie(codec.decode(raw, ProvenRecord))
            return codec.encode(told) if isinstance(told, ProvenRecord) else told

        return self.full.methods(record=record, watch_record=watch_record)


@contextmanager
def refused(code: str, says: str = "") -> Iterator[None]:
    with pytest.raises((Refused, Unreachable)) as error:
        yield
    assert error.value.code == code, error.value
    assert says in error.value.message


def behind(scene: Scene, blocks: int) -> Chain:
    """A copy of the chain that stopped early."""
    chain = scene.town.open(scene.path / "behind.db")
    for number in range(1, blocks + 1):
        block = scene.chain.store.block(Height(number))
        certificate = scene.chain.store.certificate(Height(number))
        assert block is not None
        assert certificate is not None
        chain.commit(block, certificate)
    return chain
