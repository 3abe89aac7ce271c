from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.agreement import CHAIN, FOUR, START, block, commit_certificate, value
from tests.support.counting import GENESIS

from fondaco.consensus.certificates import SignatureCache
from fondaco.consensus.light import (
    Bisection,
    FondacoBlock,
    NotEnoughTrust,
    TrustedState,
    trust,
    trust_genesis,
    verify,
)
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.simulation import identities
from fondaco.protocol.agreement import SignedHeader
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.scalars import ChainId, Hash, Height, Millis, Power

HOLDS = SignatureCache(CHAIN, identities.verify).holds
PERIOD_MS = 1_000_000
KEYS = sorted(identities.key_of(index) for index in range(40))


def _set(first: int, count: int = 4) -> ValidatorSet:
    return ValidatorSet.of((key, Power(1)) for key in KEYS[first : first + count])


def light(
    height: int, of: ValidatorSet = FOUR, following: ValidatorSet = FOUR, *, signers: int = 3, **changes: object
) -> FondacoBlock:
    header = replace(
        block(of=of).header,
        **{  # type: ignore[arg-type]
            "height": Height(height),
            "time": Millis(START + 1_000 * height),
            "validators": of.hash,
            "next_validators": following.hash,
            **changes,
        },
    )
    certificate = commit_certificate(header.hash(), *range(signers), height=height, of=of)
    return FondacoBlock(
        signed=SignedHeader(header=header, certificate=certificate),
        validators=of,
        next_validators=following,
        holds=HOLDS,
    )


def _step(trusted: TrustedState[ValidatorSet], block: FondacoBlock, *, now: int = START + 100_000) -> int:
    return verify(trusted, block, now=now, trusting_period=PERIOD_MS).height


ANCHOR = trust(light(1))


def test_adjacent_and_skipping_headers_are_accepted() -> None:
    assert _step(ANCHOR, light(2)) == 2
    assert _step(ANCHOR, light(50)) == 50


def test_the_first_block_follows_from_the_genesis() -> None:
    genesis = trust_genesis(chain=CHAIN, height=Height(0), time=Millis(START), hash=GENESIS, validators=FOUR)
    assert _step(genesis, light(1)) == 1


def test_an_expired_anchor_proves_nothing() -> None:
    with pytest.raises(Refused) as caught:
        _step(ANCHOR, light(2), now=ANCHOR.time + PERIOD_MS)
    assert caught.value.code == "light.expired"
    assert caught.value.hint


def _with_header(good: FondacoBlock, **changes: object) -> FondacoBlock:
    header = replace(good.signed.header, **changes)  # type: ignore[arg-type]
    return replace(good, signed=replace(good.signed, header=header))


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (_with_header(light(2), state_root=value("x")), "light.certificate"),
        (replace(light(2), validators=_set(9)), "light.validators"),
        (replace(light(2), next_validators=_set(9)), "light.validators"),
        (light(2, time=Millis(START + 110_000)), "light.future"),
        (light(2, time=Millis(ANCHOR.time)), "light.time"),
        (light(2, chain=ChainId("another")), "light.chain"),
        (light(1, time=Millis(START + 2_000)), "light.height"),
        (light(2, _set(9)), "light.validators"),
        (light(2, signers=2), "light.weak"),
        (light(9, signers=2), "light.weak"),
    ],
)
def test_what_no_honest_peer_hands_out_is_refused(bad: FondacoBlock, code: str) -> None:
    with pytest.raises(PeerFault) as caught:
        _step(ANCHOR, bad)
    assert caught.value.code == code


def test_a_skip_needs_more_than_a_third_of_the_trusted_set() -> None:
    with pytest.raises(NotEnoughTrust):
        _step(ANCHOR, light(9, _set(9), _set(9)))


def test_bisection_goes_by_way_of_the_middle_where_sets_change() -> None:
    """Every ten heights one of four validators is replaced: no skip of forty can be trusted at once."""

    def at(height: int) -> FondacoBlock:
        return light(height, _set(height // 10), _set((height + 1) // 10), signers=4, time=Millis(START + height))

    search = Bisection(trust(at(1)), 41, trusting_period=PERIOD_MS)
    asked = []
    while (height := search.needs) is not None:
        asked.append(height)
        search.feed(at(height), now=START + 1_000)
    assert asked[0] == 41
    assert search.trusted.height == 41
    assert search.trusted.hash == at(41).hash
    assert 2 <= len(asked) < 8
    assert search.steps > len(asked)


def test_bisection_refuses_another_height_than_it_asked_for() -> None:
    search = Bisection(ANCHOR, 9, trusting_period=PERIOD_MS)
    with pytest.raises(PeerFault):
        search.feed(light(8), now=START)


def test_a_target_already_trusted_needs_nothing() -> None:
    assert Bisection(ANCHOR, 1, trusting_period=PERIOD_MS).needs is None


def test_hashes_are_those_of_the_header() -> None:
    assert light(3).hash == Hash(light(3).signed.header.hash())
