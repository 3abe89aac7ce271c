"""A header that several nodes must show before a node builds on it, and on the signatures and sets beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.chains import HOUR_MS, Town, town_chain
from tests.support.light import Full, asking

from fondaco.consensus.light import TRUSTING_PERIOD_MS
from fondaco.consensus.proof import HeaderId
from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.protocol import codec
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.light import LightBlock
from fondaco.protocol.scalars import Hash, Height, Millis, Signature

HEIGHT = 2
Lie = Callable[[LightBlock], LightBlock]


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with town_chain(tmp_path, "alice", validators=4) as (town, chain):
        for _ in range(HEIGHT + 1):
            town.grow(chain, at=max(chain.head.time, clock.now() - 60_000) + 1_000)
        yield chain


def shown(chain: Chain, height: int) -> LightBlock:
    return Full(chain).service._light_block(Height(height))


def lying(chain: Chain, lie: Lie) -> dict[str, Any]:
    """A node that shows the header as it is, and something else beside it."""

    async def block(peer: str, params: Any) -> bytes:
        return codec.encode(lie(shown(chain, params[0])))

    return Full(chain).methods(block=block)


def _certified(block: LightBlock, **changes: Any) -> LightBlock:
    return replace(block, signed=replace(block.signed, certificate=replace(block.signed.certificate, **changes)))


def another_value(block: LightBlock) -> LightBlock:
    return _certified(block, value=Hash(bytes(32)))


def another_round(block: LightBlock) -> LightBlock:
    return _certified(block, round=block.signed.certificate.round + 1)


def no_signatures(block: LightBlock) -> LightBlock:
    return _certified(block, signatures=(None,) * len(block.validators))


def made_up_signatures(block: LightBlock) -> LightBlock:
    return _certified(block, signatures=(Signature(bytes(64)),) * len(block.validators))


def fewer_validators(block: LightBlock) -> LightBlock:
    return replace(block, validators=block.validators[:1])


def fewer_next_validators(block: LightBlock) -> LightBlock:
    return replace(block, next_validators=block.next_validators[:1])


LIES = [
    (another_value, "light.certificate"),
    (another_round, "signature.bad"),
    (no_signatures, "light.weak"),
    (made_up_signatures, "signature.bad"),
    (fewer_validators, "light.validators"),
    (fewer_next_validators, "light.validators"),
]


@pytest.mark.parametrize(("lie", "code"), LIES, ids=[lie.__name__ for lie, _ in LIES])
async def test_a_header_that_is_vouched_for_does_not_vouch_for_what_is_shown_with_it(
    chain: Chain, lie: Lie, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever builds on it stores the certificate and the validators too."""
    honest = shown(chain, HEIGHT)
    nodes = [Full(chain).methods(), lying(chain, lie), Full(chain).methods()]
    async with asking(chain, *nodes) as asked:
        asked.client._anchor_at(honest)
        assert await asked.client.confirmed(HEIGHT, nodes=2) == honest
        assert asked.left_out() == [1]
    assert code in caplog.text


async def test_one_that_shows_another_height_is_left_out_and_does_not_count(chain: Chain) -> None:
    """Its header holds; taken for the one asked for, it would speak against all who are honest."""
    other = lying(chain, lambda _: shown(chain, HEIGHT + 1))
    async with asking(chain, other, Full(chain).methods(), other) as asked:
        with pytest.raises(Unreachable, match=r"light\.no_witness"):
            await asked.client.confirmed(HEIGHT, nodes=2)
        assert asked.left_out() == [0, 2]
        assert await asked.client.confirmed(HEIGHT, nodes=1) == shown(chain, HEIGHT)


async def test_what_is_too_old_to_trust_is_said_and_not_taken_for_silence(tmp_path: Path) -> None:
    town = Town("alice", validators=4)
    old = town.reborn(replace(town.genesis, time=Millis(clock.now() - TRUSTING_PERIOD_MS - HOUR_MS)))
    chain = old.open(tmp_path / "chain.db")
    try:
        old.grow(chain, at=clock.now())
        async with asking(chain, Full(chain).methods(), Full(chain).methods()) as asked:
            with pytest.raises(Refused, match=r"light\.expired"):
                await asked.client.confirmed(1, nodes=2)
            header = shown(chain, 1).signed.header
            await asked.client.anchor_at(HeaderId(height=Height(1), hash=header.hash()))
            assert await asked.client.confirmed(1, nodes=2) == shown(chain, 1)
    finally:
        chain.close()
