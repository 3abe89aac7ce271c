from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.consensus.ledger.memo import Memo, Records
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Malformed
from fondaco.protocol.records import Account, Supply
from fondaco.protocol.scalars import MicroCredits, MicroStake

ITEM = limits.MEMO_ITEM_OVERHEAD_BYTES


@given(
    sizes=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 200))),
    limit_bytes=st.integers(ITEM, 6 * ITEM),
)
def test_what_is_remembered_is_bounded_in_bytes_and_the_newest_stay(
    sizes: list[tuple[int, int]], limit_bytes: int
) -> None:
    memo, kept = Memo[int, str](limit_bytes), dict[int, int]()
    for key, size in sizes:
        memo.put(key, str(key), size)
        if key not in kept and size + ITEM <= limit_bytes:
            kept[key] = size + ITEM
        while sum(kept.values()) > limit_bytes:
            del kept[next(iter(kept))]
        assert [memo.get(one) for one in range(31)] == [str(one) if one in kept else None for one in range(31)]


def test_bytes_known_as_one_record_are_not_taken_for_another() -> None:
    records = Records()
    account = Account(credits=MicroCredits(1), stake=MicroStake(2))
    raw = records.encode(account)
    assert raw == codec.encode(account)
    assert records.decode(raw, Account) is account
    with pytest.raises(Malformed):
        records.decode(raw, Supply)


def test_bytes_that_are_no_record_are_judged_each_time() -> None:
    records = Records()
    for _ in range(2):
        with pytest.raises(Malformed):
            records.decode(b"\xc1", Supply)
