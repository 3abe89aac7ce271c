"""A town whose validators signed two chains, and light clients that are shown them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.chains import HOUR_MS, Town
from tests.support.light import Asked, Full

from fondaco.consensus.proof import HeaderId
from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.node.tenant import headers
from fondaco.node.tenant.light import LightClient
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.light import LightBlock
from fondaco.protocol.records import key_account
from fondaco.protocol.scalars import Height


class Scene:
    """One town whose validators signed two chains, alike up to height 2."""

    def __init__(self, path: Path) -> None:
        self.town = Town("alice", "bob", validators=4)
        self.alice, self.bob = self.town.actors("alice", "bob")
        self.key = key_account(self.bob.key)
        self.began = clock.now() - 6_000
        self.chain = self.town.open(path / "one.db")
        self.forked = self.town.open(path / "two.db")
        self.grow(self.chain, 1, 2)
        self.town.copy(self.chain, self.forked)
        self.grow(self.chain, 3, 4)
        self.grow(self.forked, 30, 40)

    def grow(self, chain: Chain, *amounts: int) -> None:
        for amount in amounts:
            at = max(self.began, chain.head.time) + 1_000 if chain.head.height else self.began
            self.town.grow(chain, self.alice.pays(self.bob, amount), at=at)

    def nodes(self, *chains: Chain) -> list[dict[str, Any]]:
        return [Full(chain).methods() for chain in chains]

    def block(self, chain: Chain, height: int) -> LightBlock:
        return Full(chain).service._light_block(Height(height))

    def id(self, height: int, chain: Chain | None = None) -> HeaderId:
        header = self.block(chain or self.chain, height).signed.header
        return HeaderId(height=header.height, hash=header.hash())


@contextmanager
def refused(code: str, says: str = "") -> Iterator[Refused | Unreachable]:
    with pytest.raises((Refused, Unreachable)) as error:
        yield  # type: ignore[misc]
    assert error.value.code == code, error.value
    assert says in str(error.value)


def anchored(asked: Asked, scene: Scene, height: int, chain: Chain | None = None) -> LightClient:
    """A client at the same nodes that goes on from this height."""
    client = asked.client
    return LightClient(client.genesis, client.host, client.peers, anchor=scene.block(chain or scene.chain, height))


@contextmanager
def genesis_expired(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Genesis is an hour older than the first block."""
    with monkeypatch.context() as patch:
        patch.setattr(headers, "TRUSTING_PERIOD_MS", HOUR_MS // 2)
        yield
