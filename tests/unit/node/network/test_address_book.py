"""The address book: who is believed, who makes room for whom, and who is drawn."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.support.discovery import FAR, OWN, address, book, learn, peer, record

from fondaco.node.network import discovery_bounds as bounds
from fondaco.node.network.address_book import CAPS, AddressBook
from fondaco.node.network.known_peers import Entry, Source
from fondaco.node.network.localities import Reach
from fondaco.protocol.peer_record import open_record

HOUR = 3_600_000
DAY = 24 * HOUR


def entry(made: AddressBook, number: int) -> Entry:
    found = made.get(peer(number))
    assert found is not None
    return found


# What is believed


def test_a_record_of_a_higher_seq_replaces_a_lower_one_and_never_the_reverse() -> None:
    made = book()
    assert learn(made, 1, "8.8.8.8", seq=5)
    assert not learn(made, 1, "8.8.8.9", seq=4)
    assert not learn(made, 1, "8.8.8.9", seq=5)
    assert entry(made, 1).addresses == (address(1, "8.8.8.8"),)
    assert learn(made, 1, "8.8.8.9", seq=6)
    assert entry(made, 1).addresses == (address(1, "8.8.8.9"),)


def test_an_address_that_worked_stays_in_front_while_the_peer_names_it() -> None:
    made = book()
    learn(made, 1, "8.8.8.8", "8.9.9.9")
    made.succeeded(peer(1), address(1, "8.9.9.9"), 2_000)
    assert entry(made, 1).region == "8.9.0.0/16"
    learn(made, 1, "8.8.8.8", "8.7.7.7", "8.9.9.9", seq=2)
    assert entry(made, 1).addresses[0] == address(1, "8.9.9.9")
    assert entry(made, 1).tried
    learn(made, 1, "8.7.7.7", seq=3)
    assert entry(made, 1).addresses == (address(1, "8.7.7.7"),)
    assert not entry(made, 1).tried, "nobody has reached it there"
    assert entry(made, 1).success_ms == 2_000


def test_only_the_peer_itself_keeps_its_record_alive_by_repeating_it() -> None:
    made = book([(1, "8.8.8.8")])
    learn(made, 1, "8.8.8.8", now=5_000)
    assert entry(made, 1).heard_ms == 1_000
    learn(made, 1, "8.8.8.8", now=5_000, source=Source.peer(peer(1), "8.8.8.8"))
    assert entry(made, 1).heard_ms == 5_000


def test_strangers_cannot_send_us_into_our_own_network() -> None:
    made = book()
    assert not learn(made, 1, "10.0.0.1", "127.0.0.1", "0.0.0.0")
    assert learn(made, 1, "10.0.0.1", "8.8.8.8")
    assert entry(made, 1).addresses == (address(1, "8.8.8.8"),)
    assert learn(made, 2, "127.0.0.1", source=Source.local("mdns"))
    assert learn(made, 3, "10.0.0.1", source=Source.peer(peer(9), "10.0.0.2"))
    assert not learn(made, 4, "127.0.0.1", source=Source.peer(peer(9), ""))


def test_we_are_not_in_our_own_book() -> None:
    made = book()
    assert not learn(made, 0, "8.8.8.8")
    assert not made.learn_address(address(0, "8.8.8.8"), FAR, 0)
    assert not made.restore(Entry(peer=OWN, addresses=(address(0, "8.8.8.8"),)))


def test_hearsay_counts_less_than_a_signature_and_than_what_worked() -> None:
    made = book()
    assert made.learn_address(address(1, "8.8.8.8"), FAR, 1_000)
    assert not made.learn_address(address(1, "8.8.8.9"), FAR, 1_000), "not tested yet"
    made.failed(peer(1), 2_000)
    assert made.learn_address(address(1, "8.8.8.9"), FAR, 3_000)
    assert learn(made, 1, "8.8.8.7")
    made.failed(peer(1), 4_000)
    assert not made.learn_address(address(1, "8.8.8.9"), FAR, 5_000)
    assert not made.learn_address(address(2, "10.0.0.1"), FAR, 5_000)


def test_a_record_without_an_address_that_we_could_dial_is_not_kept() -> None:
    made = book()
    data = record(1)
    assert not made.learn_record(data, open_record(data), FAR, 0)
    assert not made.learn_address(address(1, "8.8.8.8", port=0), FAR, 0)
    assert len(made) == 0


# How it went


def test_a_new_peer_that_never_answers_is_forgotten_and_a_tried_one_is_given_a_week() -> None:
    made = book([(1, "8.8.8.8"), (2, "8.9.8.8")])
    made.succeeded(peer(2), address(2, "8.9.8.8"), 2_000)
    for _ in range(bounds.NEW_FAILURES):
        made.failed(peer(1), 3_000)
    assert made.get(peer(1)) is None
    for _ in range(20):
        made.failed(peer(2), 3_000)
    assert entry(made, 2).failures == 20
    made.failed(peer(2), 8 * DAY)
    assert made.get(peer(2)) is None
    made.failed(peer(2), 8 * DAY)
    made.succeeded(peer(2), address(2, "8.9.8.8"), 8 * DAY)
    made.forget(peer(2))


def test_a_failure_while_we_reach_nobody_is_ours() -> None:
    made = book([(1, "8.8.8.8")])
    for _ in range(10):
        made.failed(peer(1), 3_000, counts=False)
    assert entry(made, 1).failures == 0
    assert entry(made, 1).retry_ms > 3_000


def test_pauses_between_attempts_double_up_to_an_hour() -> None:
    made = book([(1, "8.8.8.8")])
    made.succeeded(peer(1), address(1, "8.8.8.8"), 1_000)
    pauses = []
    for _ in range(15):
        made.failed(peer(1), 0)
        pauses.append(entry(made, 1).retry_ms)
    assert 3_750 <= pauses[0] <= 6_250
    assert all(2_700_000 <= pause <= 4_500_000 for pause in pauses[12:])
    assert made.candidates(1, 0, exclude=()) == []
    assert made.candidates(1, pauses[-1], exclude=()) == [entry(made, 1)]


def test_the_addresses_of_a_peer_are_tried_in_turn() -> None:
    made = book()
    learn(made, 1, "8.8.8.8", "8.9.9.9")
    made.failed(peer(1), 0)
    assert entry(made, 1).addresses == (address(1, "8.9.9.9"), address(1, "8.8.8.8"))
    assert entry(made, 1).region == "8.9.0.0/16"


def test_what_nobody_speaks_of_any_more_goes() -> None:
    made = book([(1, "8.8.8.8"), (2, "8.9.8.8")])
    made.succeeded(peer(2), address(2, "8.9.8.8"), 2_000)
    made.expire(31 * DAY)
    assert [one.peer for one in made] == [peer(2)]
    made.expire(91 * DAY)
    assert len(made) == 0


def test_a_forgotten_peer_is_to_be_deleted_and_one_that_came_back_is_not() -> None:
    made = book([(1, "8.8.8.8")])
    made.forget(peer(1))
    made.forget(peer(2))
    assert (list(made.changed), list(made.gone)) == ([], [peer(1)])
    learn(made, 1, "8.8.8.8")
    assert (list(made.changed), list(made.gone)) == ([peer(1)], [])


# Room


def test_one_source_with_thousands_of_addresses_leaves_the_honest_ones() -> None:
    made = book((number, f"{20 + number}.1.1.1") for number in range(1, 50))
    for number in range(1, 4):
        made.succeeded(peer(number), address(number, f"{20 + number}.1.1.1"), 2_000)
    liar = Source.peer(peer(9_999), "66.6.6.6")
    for number in range(3_000):
        learn(made, 10_000 + number, f"21.1.{number % 256}.{number // 256 + 2}", source=liar, now=5_000)
    assert all(made.get(peer(number)) for number in range(1, 50))
    flooded = [one for one in made if one.share == liar.share]
    assert len(flooded) <= bounds.NEW_PER_REGION
    drawn = Counter(made.candidates(1, 9_000, exclude=())[0].region for _ in range(500))
    assert drawn["21.1.0.0/16"] < 175, "one lot among forty-nine, and among the tried ones one of three"


def test_many_sources_of_one_region_share_one_share_and_near_ones_have_their_own() -> None:
    assert Source.peer(peer(1), "8.8.1.1").share == Source.peer(peer(2), "8.8.2.2").share
    assert Source.peer(peer(1), "127.0.0.1").share == peer(1)
    assert Source.peer(peer(1), "").share == peer(1)


def test_a_full_source_gives_up_only_what_failed() -> None:
    made = book()
    for number in range(bounds.NEW_PER_SOURCE + 5):
        learn(made, number + 1, f"{20 + number % 100}.{number // 100}.1.1")
    assert len(made) == bounds.NEW_PER_SOURCE
    made.failed(peer(7), 2_000)
    assert learn(made, 999, "150.1.1.1")
    assert made.get(peer(7)) is None
    assert len(made) == bounds.NEW_PER_SOURCE
    assert not learn(made, 998, "151.1.1.1")


def test_a_full_network_makes_room_for_another_source_until_their_shares_are_equal() -> None:
    made = book((number, f"8.8.8.{number}") for number in range(1, bounds.NEW_PER_BLOCK + 1))
    other = Source.peer(peer(9_999), "66.6.6.6")
    taken = [learn(made, 100 + number, f"8.8.8.{100 + number}", source=other) for number in range(8)]
    assert taken == [True] * 4 + [False] * 4
    assert not learn(made, 200, "8.8.8.200")


def test_a_full_book_takes_from_its_largest_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CAPS, "new", 20)
    made = book((number, f"{20 + number}.1.1.1") for number in range(1, 19))
    other = Source.peer(peer(9_999), "66.6.6.6")
    for number in range(30, 40):
        assert learn(made, number, f"{20 + number}.1.1.1", source=other, now=2_000)
    assert len(made) == 20
    assert sum(one.share == other.share for one in made) == 10


def test_tried_peers_of_one_block_are_few_and_who_answered_lately_stays() -> None:
    made = book((number, f"8.8.8.{number}") for number in range(1, 6))
    for number in range(1, 5):
        made.succeeded(peer(number), address(number, f"8.8.8.{number}"), number)
    made.succeeded(peer(5), address(5, "8.8.8.5"), HOUR)
    assert not entry(made, 5).tried
    made.succeeded(peer(5), address(5, "8.8.8.5"), 5 * HOUR, connected=[peer(1)])
    assert entry(made, 5).tried
    assert [entry(made, number).tried for number in range(1, 5)] == [True, False, True, True]
    made.succeeded(peer(2), address(2, "8.8.8.2"), 5 * HOUR, connected=[peer(number) for number in range(6)])
    assert not entry(made, 2).tried


def test_a_full_book_of_tried_peers_takes_from_its_largest_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CAPS, "tried", 3)
    made = book([(1, "8.1.1.1"), (2, "8.1.2.1"), (3, "9.1.1.1"), (5, "11.1.1.1")])
    for number, ip in ((1, "8.1.1.1"), (2, "8.1.2.1"), (3, "9.1.1.1")):
        made.succeeded(peer(number), address(number, ip), number)
    made.succeeded(peer(5), address(5, "11.1.1.1"), DAY)
    assert [one.peer for one in made if one.tried] == [peer(2), peer(3), peer(5)]


def test_a_tried_peer_that_is_written_down_twice_over_its_room_is_new_again() -> None:
    made = book()
    for number in range(1, 6):
        restored = Entry(peer=peer(number), addresses=(address(number, f"8.8.8.{number}"),), tried=True)
        assert made.restore(restored)
        assert not made.restore(restored)
    assert sum(one.tried for one in made) == bounds.TRIED_PER_BLOCK


def test_a_peer_that_moves_to_where_there_is_no_room_stays_what_it_was() -> None:
    made = book((number, f"8.8.8.{number}") for number in range(1, bounds.NEW_PER_BLOCK + 1))
    learn(made, 100, "9.9.9.1")
    assert not learn(made, 100, "8.8.8.100", seq=2)
    assert entry(made, 100).addresses == (address(100, "9.9.9.1"),)


# Drawing


def test_peers_are_drawn_from_regions_that_are_not_taken_while_there_are_any() -> None:
    made = book([(1, "8.8.1.1"), (2, "8.8.2.1"), (3, "9.9.1.1")])
    for _ in range(20):
        drawn = made.candidates(3, 9_000, exclude=(), regions={"8.8.0.0/16"})
        assert drawn[0].peer == peer(3)
        assert len({one.peer for one in drawn}) == 3
        assert {one.region for one in made.candidates(2, 9_000, exclude=())} == {"8.8.0.0/16", "9.9.0.0/16"}
    assert made.candidates(9, 9_000, exclude=[peer(1), peer(2), peer(3)]) == []


def test_tried_peers_are_preferred_and_a_feeler_takes_only_new_ones() -> None:
    made = book([(1, "8.8.1.1"), (2, "9.9.1.1")])
    made.succeeded(peer(1), address(1, "8.8.1.1"), 2_000)
    drawn = Counter(made.candidates(1, 9_000, exclude=())[0].peer for _ in range(400))
    assert 250 < drawn[peer(1)] < 350
    assert [one.peer for one in made.candidates(5, 9_000, exclude=(), new=True)] == [peer(2)]


def test_a_sample_has_one_of_each_region_before_a_second_of_any() -> None:
    made = book([*((number, f"8.8.{number}.1") for number in range(1, 60)), (100, "9.9.9.9"), (101, "10.9.9.9")])
    made.learn_address(address(102, "12.1.1.1"), FAR, 0)
    for number in (103, 104):
        learn(made, number, "127.0.0.1", source=Source.local("test"))
    told = made.sample(32, Reach.EVERYWHERE, exclude=[peer(1)])
    assert len(told) == len(set(told)) == 32
    assert record(100, "9.9.9.9") in told
    assert record(1, "8.8.1.1") not in told
    assert record(103, "127.0.0.1") not in told
    assert {record(103, "127.0.0.1"), record(104, "127.0.0.1")} <= set(made.sample(99, Reach.HERE))
    made.failed(peer(100), 2_000)
    assert record(100, "9.9.9.9") not in made.sample(99, Reach.HERE)
