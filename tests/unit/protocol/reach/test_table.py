"""Who is kept in the table, what is kept of what they say, and how a search goes about it."""

import random

import pytest

from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.kad import KadPeer
from fondaco.protocol.reach.lookup import Lookup
from fondaco.protocol.reach.table import RoutingTable, Sayings, nearest, position

OWN = b"own"
HOURS = bounds.KAD_SAYING_MS / 1000


def peer(number: int) -> KadPeer:
    return KadPeer(id=number.to_bytes(4, "big"), addresses=(b"there",))


def test_the_nearest_are_those_whose_hashes_differ_least() -> None:
    peers = [peer(number) for number in range(100)]
    first, *rest = nearest(peers, b"key", 100)
    assert all(position(first.id) ^ position(b"key") < position(one.id) ^ position(b"key") for one in rest)


def test_a_table_keeps_few_of_those_far_away_and_all_that_are_near() -> None:
    table = RoutingTable(OWN)
    peers = [peer(number) for number in range(2_000)]
    for one in peers:
        table.answered(one, "")
    assert len(table) < 9 * bounds.KAD_BUCKET
    assert [one.id for one in table.closest(OWN, 5)] == [one.id for one in nearest(peers, OWN, 5)]
    assert not table.answered(KadPeer(id=OWN), "")
    assert not table.has(OWN)


def test_who_was_there_first_stays_until_it_fails() -> None:
    table = RoutingTable(OWN)
    kept = [one for one in (peer(number) for number in range(200)) if table.answered(one, "")]
    far = [one for one in kept if (position(one.id) ^ position(OWN)).bit_length() == 256]
    assert len(far) == bounds.KAD_BUCKET
    newcomer = next(
        one
        for one in (peer(number) for number in range(5_000, 6_000))
        if (position(one.id) ^ position(OWN)).bit_length() == 256
    )
    assert not table.answered(newcomer, "")
    table.failed(far[0].id)
    table.failed(b"nobody")
    assert table.answered(newcomer, "")
    assert table.has(newcomer.id)
    assert not table.has(far[0].id)


def test_one_network_has_but_a_share_of_a_bucket() -> None:
    table = RoutingTable(OWN)
    far = [
        one
        for one in (peer(number) for number in range(200))
        if (position(one.id) ^ position(OWN)).bit_length() == 256
    ]
    kept = [one for one in far if table.answered(one, "203.0.113.0/24")]
    assert len(kept) == bounds.KAD_BUCKET_PER_NETWORK
    assert table.answered(kept[0], "203.0.113.0/24")


def test_a_peer_without_addresses_keeps_those_that_it_had() -> None:
    table = RoutingTable(OWN)
    table.answered(peer(1), "")
    table.answered(KadPeer(id=peer(1).id), "")
    assert table.peers() == [peer(1)]


def test_a_saying_is_kept_for_its_time_and_the_last_one_counts() -> None:
    sayings = Sayings(OWN)
    assert sayings.say(b"a", (b"1",), "", 0.0)
    assert sayings.say(b"a", (b"2",), "", 1.0)
    assert sayings.of(b"a", 2.0) == (b"2",)
    assert sayings.of(b"a", HOURS + 1) == ()
    assert sayings.of(b"b", 0.0) == ()
    assert len(sayings) == 1


def test_a_network_has_but_a_share_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "KAD_SAYINGS_PER_NETWORK", 2)
    sayings = Sayings(OWN)
    assert sayings.say(b"a", (), "n", 0.0)
    assert sayings.say(b"b", (), "n", 0.0)
    assert not sayings.say(b"c", (), "n", 0.0)
    assert sayings.say(b"b", (), "n", 1.0)
    assert sayings.say(b"c", (), "", 0.0)
    assert sayings.say(b"d", (), "n", HOURS)
    assert len(sayings) == 2, "the first, and the one that is counted with none, are past their time"


def test_a_full_store_keeps_what_is_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "KAD_SAYINGS", 10)
    sayings = Sayings(OWN)
    names = [bytes([number]) for number in range(100)]
    for name in names:
        sayings.say(name, (b"x",), "", 0.0)
    names.sort(key=lambda name: position(name) ^ position(OWN))
    assert {name for name in names if sayings.of(name, 0.0)} == set(names[:10])
    assert sayings.say(b"late", (b"x",), "", HOURS)
    assert len(sayings) == 1


def search(network: dict[bytes, list[KadPeer]], lookup: Lookup, *, dead: set[bytes]) -> int:
    """Run a search over peers that know each other so; questions asked."""
    asked = 0
    while chosen := lookup.next():
        for one in chosen:
            asked += 1
            if one.id in dead:
                lookup.failed(one)
            else:
                lookup.answered(one, network[one.id])
    return asked


def test_a_search_finds_the_nearest_of_a_thousand_by_a_few_questions_though_some_are_dead() -> None:
    rng = random.Random(7)
    peers = [peer(number) for number in range(1_000)]
    tables: dict[bytes, RoutingTable] = {}
    for one in peers:
        tables[one.id] = table = RoutingTable(one.id)
        for other in rng.sample(peers, 400):
            table.answered(other, "")
        for other in nearest(peers, one.id, bounds.KAD_BUCKET):
            table.answered(other, "")
    dead = {one.id for one in rng.sample(peers, 100)}
    for key in (b"k1", b"k2", b"k3"):
        network = {one.id: tables[one.id].closest(key) for one in peers}
        seeds = rng.sample([one for one in peers if one.id not in dead], 3)
        lookup = Lookup(OWN, key, seeds)
        assert search(network, lookup, dead=dead) <= bounds.KAD_QUERIES
        alive = [one for one in peers if one.id not in dead]
        assert [one.id for one in lookup.closest()[:8]] == [one.id for one in nearest(alive, key, 8)]


def test_a_search_ends_though_every_answer_names_ever_new_peers() -> None:
    lookup = Lookup(OWN, b"key", [peer(0)])
    asked = 0
    while chosen := lookup.next():
        assert len(chosen) <= bounds.KAD_PARALLEL
        for one in chosen:
            asked += 1
            lookup.answered(one, [peer(asked * 1_000 + number) for number in range(500)])
    assert asked <= bounds.KAD_QUERIES
    assert len(lookup._peers) <= bounds.KAD_HEARD


def test_a_search_never_asks_oneself_and_hears_of_every_address() -> None:
    lookup = Lookup(OWN, b"key", [KadPeer(id=OWN), KadPeer(id=b"a", addresses=(b"lie",))])
    (first,) = lookup.next()
    lookup.answered(first, [KadPeer(id=b"b", addresses=(b"lie",)), KadPeer(id=b"b", addresses=(b"truth", b"lie"))])
    (second,) = lookup.next()
    assert second == KadPeer(id=b"b", addresses=(b"lie", b"truth"))
    assert lookup.next() == []
    assert [one.id for one in lookup.closest()] == [b"a"]
