"""Nobody is pushed out by who has more."""

from __future__ import annotations

import random

import pytest
from tests.support.book_ids import an_id

from fondaco.protocol.book.digests import ItemId
from fondaco.protocol.book.shares import OWN, Caps, Share, Shares, Weights
from fondaco.protocol.scalars import PublicKey

MANY = 1_000_000


def account(name: str) -> PublicKey:
    return PublicKey(name.encode().ljust(32, b"-"))


class Room:
    """Shares that are told of in words."""

    def __init__(self, **caps: int) -> None:
        wide = {"items": MANY, "size": MANY, "per_account": MANY, "per_source": MANY}
        self.shares = Shares(Caps(**{**wide, **caps}))
        self.names: dict[ItemId, str] = {}

    def comes(self, source: str, name: str, number: int, size: int = 1) -> list[str]:
        """An item of this account; what falls away for it."""
        item = an_id(len(self.names))
        self.names[item] = f"{name}{number}"
        fallen = self.shares.add(item, Share(source=source, account=account(name), size=size))
        assert not any(one in self.shares for one in fallen)
        return [self.names[one] for one in fallen]

    def held(self) -> set[str]:
        return {name for item, name in self.names.items() if item in self.shares}


def test_an_account_beyond_its_quota_loses_its_oldest_whoever_brought_it() -> None:
    room = Room(per_account=2)
    assert room.comes("one", "alice", 1) == []
    assert room.comes("two", "alice", 2) == []
    assert room.comes("two", "bob", 1) == []
    assert room.comes("two", "alice", 3) == ["alice1"]
    assert room.shares.of_account(account("alice")) == 2
    assert room.shares.of_source("one") == 0


def test_a_source_beyond_its_quota_loses_the_oldest_of_its_heaviest_account() -> None:
    room = Room(per_source=3)
    for source, name, number in (("one", "bob", 1), ("one", "alice", 1), ("two", "carl", 1), ("one", "alice", 2)):
        assert room.comes(source, name, number) == []
    assert room.comes("one", "carl", 2) == ["alice1"]
    assert room.held() == {"bob1", "alice2", "carl1", "carl2"}


def test_what_we_brought_ourselves_has_no_quota() -> None:
    room = Room(per_source=1)
    assert [room.comes(OWN, "alice", number) for number in range(3)] == [[], [], []]


def test_in_a_full_book_the_heaviest_source_makes_room_with_its_heaviest_account() -> None:
    room = Room(items=6)
    for source, name, number in (
        ("one", "alice", 1),
        ("one", "bob", 1),
        ("two", "carl", 1),
        ("two", "dora", 1),
        ("two", "dora", 2),
        ("one", "emil", 1),
    ):
        assert room.comes(source, name, number) == []
    assert room.comes("two", "carl", 2) == ["dora1"]
    assert room.comes("three", "fred", 1) == ["carl1"], "of equals who weighed so much first"
    assert room.held() == {"alice1", "bob1", "emil1", "dora2", "carl2", "fred1"}


def test_weight_is_bytes_and_the_newest_may_be_the_one_to_go() -> None:
    room = Room(size=10)
    assert room.comes("one", "alice", 1, size=3) == []
    assert room.comes("one", "bob", 1, size=3) == []
    assert room.comes("two", "carl", 1, size=9) == ["carl1"]
    assert room.shares.size == 6


def test_one_account_cannot_push_the_others_out() -> None:
    room = Room(items=50)
    for number in range(10):
        room.comes("one", f"tenant {number} ", 1)
    for number in range(1_000):
        room.comes("two", "flood", number)
    assert {name for name in room.held() if "flood" not in name} == {f"tenant {n} 1" for n in range(10)}
    assert len(room.shares) == 50


def test_what_went_leaves_no_trace() -> None:
    room = Room()
    room.comes("one", "alice", 1)
    share = room.shares.share(an_id(0))
    assert (share.source, share.account, share.size) == ("one", account("alice"), 1)
    room.shares.remove(an_id(0))
    assert len(room.shares) == room.shares.size == 0
    assert vars(room.shares)["_accounts"] == vars(room.shares)["_source_items"] == {}
    assert vars(room.shares)["_of_account"] == vars(room.shares)["_of_both"] == {}


@pytest.mark.parametrize("seed", range(10))
def test_the_heaviest_is_found_without_a_look_at_all(seed: int) -> None:
    chance, weights, plain = random.Random(seed), Weights[int](), dict[int, int]()
    for _ in range(2_000):
        key = chance.randrange(20)
        by = chance.randrange(1, 9) if chance.random() < 0.55 else -chance.randint(0, plain.get(key, 0))
        plain[key] = plain.get(key, 0) + by
        weights.change(key, by)
        if any(plain.values()):
            assert plain[weights.heaviest()] == max(plain.values())
        assert weights.of(key) == plain[key]
    assert len(weights) == sum(1 for weight in plain.values() if weight)
    assert len(vars(weights)["_heap"]) <= 2 * 20 + 65, "it does not grow with what was ever done"
