"""Downwards by hashes, and where two chains part."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.proofs import GENESIS_TIME, Line, at

from fondaco.consensus.light import Backwards, Bisection, FondacoBlock, find_divergence
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import Millis
from fondaco.protocol.signing import sha256

LINE = Line()
FORKED = Line()


def down(height: int, target: int) -> Backwards:
    return Backwards(height=height, hash=LINE.header(height).hash(), target=target)


def test_headers_below_are_taken_by_the_hashes_above_them() -> None:
    way, fed = down(9, 6), []
    while (height := way.needs) is not None:
        way.feed(LINE.header(height))
        fed.append(height)
    assert fed == [9, 8, 7, 6]


def test_the_trusted_header_itself_is_known_once_its_hash_agrees() -> None:
    way = down(9, 9)
    way.feed(LINE.header(9))
    assert way.needs is None


def test_a_header_that_nothing_above_names_is_refused() -> None:
    way = down(9, 6)
    way.feed(LINE.header(9))
    with pytest.raises(PeerFault) as caught:
        way.feed(replace(LINE.header(8), time=Millis(GENESIS_TIME)))
    assert caught.value.code == "light.hash"
    with pytest.raises(PeerFault) as caught:
        way.feed(LINE.header(7))
    assert caught.value.code == "light.height"


def forked(height: int) -> FondacoBlock:
    return LINE.block(height, header=replace(LINE.header(height), state_root=sha256(b"another")))


def test_the_first_height_at_which_two_verified_chains_differ_is_named() -> None:
    primary = [LINE.block(height) for height in (3, 5, 8, 9)]
    witness = [LINE.block(3), LINE.block(5), forked(7), forked(8), forked(9)]
    found = find_divergence(1, primary, witness)
    assert found is not None
    assert (found.common_height, found.primary.height) == (5, 8)
    assert found.primary.hash != found.witness.hash


def test_where_no_height_is_contradicted_there_is_no_divergence() -> None:
    primary = [LINE.block(height) for height in (3, 5)]
    assert find_divergence(1, primary, [LINE.block(5), forked(7)]) is None
    assert find_divergence(1, primary, [LINE.block(4)]) is None


def test_the_way_of_a_bisection_can_be_followed_again() -> None:
    line = Line(every=10)
    search = Bisection(line.genesis(), 40, trusting_period=1_000_000)
    while (height := search.needs) is not None:
        search.feed(line.block(height), now=at(40))
    heights = [block.height for block in search.path]
    assert heights == sorted(heights)
    assert heights[-1] == 40
    assert len(heights) > 1
