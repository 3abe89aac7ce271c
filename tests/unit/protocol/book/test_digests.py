"""Digests follow what is held, whatever way it came and went."""

from __future__ import annotations

import pytest
from tests.support.book_ids import an_id

from fondaco.protocol.book.digests import BUCKETS, DIGEST_BYTES, Index, ItemId, differing, item_id
from fondaco.protocol.scalars import Hash


def test_the_same_items_have_the_same_digests_in_whatever_order_they_came() -> None:
    ids = [an_id(number) for number in range(500)]
    one, two = Index(ids), Index(reversed(ids))
    assert one.digests() == two.digests()
    assert one.root() == two.root()
    assert len(one) == len(two) == 500


def test_an_item_changes_the_digest_of_its_bucket_and_no_other() -> None:
    index = Index(an_id(number) for number in range(500))
    before, root = index.digests(), index.root()
    newest = an_id(500)
    assert newest not in index
    index.add(newest)
    assert newest in index
    assert differing(before, index.digests()) == [newest[0]]
    assert index.root() != root
    index.remove(newest)
    assert index.digests() == before
    assert index.root() == root


def test_what_is_there_cannot_come_and_what_is_not_cannot_go() -> None:
    index = Index([an_id(1)])
    with pytest.raises(AssertionError):
        index.add(an_id(1))
    with pytest.raises(KeyError):
        index.remove(an_id(2))


def test_ids_that_cancel_out_under_xor_do_not_here() -> None:
    ids = [ItemId(bytes([0] * 15 + [low])) for low in (1, 2, 3)]
    assert ids[0][15] ^ ids[1][15] ^ ids[2][15] == 0
    assert Index(ids).digests() != Index().digests()


def test_a_bucket_is_listed_from_a_point_round_to_before_it() -> None:
    ids = [ItemId(bytes([7] + [0] * 14 + [low])) for low in range(5)]
    index = Index([*ids, an_id(1, bucket=8)])
    assert index.listed(7, ids[0], 9) == ids
    assert index.listed(7, ids[3], 3) == [ids[3], ids[4], ids[0]]
    assert index.listed(7, ItemId(b"\xff" * 16), 9) == ids
    assert index.listed(9, ids[0], 9) == []


def test_an_empty_book_has_digests_too() -> None:
    assert len(Index().digests()) == BUCKETS * DIGEST_BYTES


def test_an_id_is_the_beginning_of_a_hash() -> None:
    assert item_id(Hash(bytes(range(32)))) == bytes(range(16))
