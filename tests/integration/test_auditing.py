"""What auditors say, read through nodes that are not trusted; and said through them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.chains import Town
from tests.support.light import Asked, Full, asking

from fondaco.node import clock
from fondaco.node.tenant import auditing
from fondaco.node.tenant.auditing import attestation, audit_all, standing
from fondaco.node.tenant.wallet import Wallet
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import PublicKey

EU = (("host", "akash"), ("region", "eu"))
DAY_MS = 86_400_000


class Scene:
    """A provider of whom Ann has spoken, and a light client at some nodes."""

    def __init__(self, town: Town, asked: Asked, full: Full) -> None:
        self.town, self.asked, self.full = town, asked, full
        self.light = asked.client
        self.paul, self.ann, self.bea = town.actors("paul", "ann", "bea")

    async def said(self, *auditors: PublicKey) -> list[PublicKey]:
        found = await standing(self.light, self.paul.key, auditors=auditors)
        return [one.auditor for one in found.said]

    async def mine(self) -> None:
        """Put into blocks what waits, as validators would."""
        while True:
            raws = list(self.full.mempool.candidates())
            if raws:
                chain = self.full.chain
                self.town.grow(chain, *raws, at=max(clock.now(), chain.head.time + 1))
            await trio.sleep(0.005)


@asynccontextmanager
async def scene(path: Path, **changed: Any) -> AsyncIterator[Scene]:
    town = Town("paul", "ann", "bea")
    chain = town.open(path / "chain.db")
    paul, ann = town.actors("paul", "ann")
    town.grow(chain, paul.registers(attributes=EU), at=clock.now() - 3_000)
    town.grow(chain, ann.attests(paul, EU, for_ms=DAY_MS), at=clock.now() - 2_000)
    full = Full(chain)
    async with asking(chain, full.methods(**changed)) as asked:
        yield Scene(town, asked, full)
    chain.close()


def always(answer: Any) -> Any:
    async def method(peer: str, params: Any) -> Any:
        return answer

    return method


async def test_who_has_spoken_is_found_and_each_word_proven(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        found = await standing(here.light, here.paul.key)
        (said,) = found.said
        assert said.auditor == here.ann.key
        assert found.holds(said)
        assert [(one.key, one.value) for one in said.attributes] == list(EU)
        assert await here.light.auditors(here.bea.key) == []


async def test_a_node_may_hide_an_auditor_but_not_from_whom_names_him(tmp_path: Path) -> None:
    async with scene(tmp_path, auditors=always([])) as here:
        assert await here.said() == []
        assert await here.said(here.ann.key) == [here.ann.key]


async def test_an_auditor_that_a_node_made_up_has_said_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path, auditors=always([bytes(32)] * 1_000)) as here:
        assert await here.said() == []


@pytest.mark.parametrize("answer", [None, 5, [5], [b"short"]])
async def test_a_node_that_answers_nonsense_is_left_out(tmp_path: Path, answer: Any) -> None:
    async with scene(tmp_path, auditors=always(answer)) as here:
        assert await here.light.auditors(here.paul.key) == []
        assert here.asked.left_out() == [0]


async def test_a_key_that_is_none_is_refused_by_an_honest_node(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        with pytest.raises(Refused, match=r"named by its key"):
            await here.full.service.auditors("peer", [b"short"])


async def test_who_is_no_provider_is_told_so(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        with pytest.raises(Refused, match="no registered provider"):
            await standing(here.light, here.bea.key)
        with pytest.raises(Refused, match="no registered provider"):
            await attestation(here.light, here.bea.key, attributes={}, life_ms=1, evidence=None)


async def test_a_life_too_long_is_made_as_long_as_it_may_be(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        made = await attestation(here.light, here.paul.key, attributes={}, life_ms=10**15, evidence=None)
        assert 0 < limits.ATTESTATION_LIFE_MS - (made.expires_at - here.light.trusted_time) <= 60_000
        assert [(one.key, one.value) for one in made.attributes] == list(EU)


async def test_a_network_audits_only_whom_it_has_to(tmp_path: Path) -> None:
    async with scene(tmp_path) as here, trio.open_nursery() as nursery:
        nursery.start_soon(here.mine)
        wallet, providers = Wallet(here.light, here.bea.signer), [here.paul.key]
        assert await audit_all(wallet, providers, life_ms=DAY_MS) == 1
        assert await here.said() == sorted([here.ann.key, here.bea.key])
        assert await audit_all(wallet, providers, life_ms=DAY_MS) == 0
        assert await audit_all(wallet, providers, life_ms=3 * DAY_MS) == 1, "half of its life is over"
        await auditing.revoke(wallet, here.paul.key, here.bea.key)
        assert await here.said() == [here.ann.key]
        nursery.cancel_scope.cancel()
