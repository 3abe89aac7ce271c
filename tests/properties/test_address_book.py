"""Whatever comes, no share of the address book is exceeded, and peers that answered lately stay."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.discovery import OWN, address, peer, signer

from fondaco.node.network import address_book
from fondaco.node.network import discovery_bounds as bounds
from fondaco.node.network.address_book import AddressBook
from fondaco.node.network.known_peers import Source
from fondaco.node.network.localities import Reach
from fondaco.protocol import multiaddr
from fondaco.protocol.peer_record import PeerRecord

CAPS = {
    "new": 12,
    "new source": 8,
    "new region": 6,
    "new block": 3,
    "tried": 6,
    "tried region": 4,
    "tried block": 2,
}
PEERS = st.integers(1, 30)
IPS = st.builds(
    "{}.1.{}.{}".format, st.sampled_from([8, 9, 11]), st.integers(1, 3), st.integers(1, 5)
) | st.sampled_from(["127.0.0.1", "10.0.0.1"])
FROM = zip((1, 2, 3), ("8.8.8.8", "9.9.9.9", ""), strict=True)
SOURCES = st.sampled_from([Source.local("test"), *(Source.peer(peer(number), ip) for number, ip in FROM)])


def news(peers: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.one_of(
        st.tuples(st.just("record"), peers, st.lists(IPS, min_size=1, max_size=3), st.integers(0, 3), SOURCES),
        st.tuples(st.just("address"), peers, IPS, SOURCES),
    )


STEPS = news(PEERS) | st.one_of(
    st.tuples(st.just("succeeded"), PEERS, st.sets(PEERS, max_size=2)),
    st.tuples(st.just("failed"), PEERS, st.booleans()),
    st.tuples(st.just("forget"), PEERS),
    st.tuples(st.just("later"), st.sampled_from([1_000, 3_600_000, 40 * 86_400_000])),
)


def perform(book: AddressBook, step: tuple[object, ...], now: int) -> int:
    match step:
        case ("record", int() as number, list() as ips, int() as seq, Source() as source):
            addresses = tuple(multiaddr.encode(f"/ip4/{ip}/tcp/4001") for ip in ips)
            known = PeerRecord(public_key=signer(number).public_key, seq=seq, addresses=addresses)
            book.learn_record(b"%d %d" % (number, seq), known, source, now)
        case ("address", int() as number, str() as ip, Source() as source):
            book.learn_address(address(number, ip), source, now)
        case ("succeeded", int() as number, set() as connected):
            entry = book.get(peer(number))
            if entry is not None:
                book.succeeded(entry.peer, entry.addresses[-1], now, {peer(one) for one in connected})
        case ("failed", int() as number, bool() as counts):
            book.failed(peer(number), now, counts=counts)
        case ("forget", int() as number):
            book.forget(peer(number))
        case ("later", int() as more):
            book.expire(now + more)
            return now + more
    return now


def check(book: AddressBook) -> None:
    counted: Counter[tuple[str, str]] = Counter()
    for entry in book:
        word = "tried" if entry.tried else "new"
        counted[word, ""] += 1
        if not entry.tried:
            counted["new source", entry.share] += 1
        if entry.region:
            counted[f"{word} region", entry.region] += 1
            counted[f"{word} block", entry.block] += 1
        assert 1 <= len(entry.addresses) <= bounds.PEER_ADDRESSES
    assert {name: len(members) for name, members in book._classes.items()} == counted
    assert all(count <= CAPS[kind] for (kind, _), count in counted.items())
    assert not book.changed.keys() & book.gone.keys()
    assert book.changed.keys() <= {entry.peer for entry in book}
    assert book.get(OWN) is None


@given(steps=st.lists(STEPS, max_size=80))
def test_no_share_is_exceeded(steps: list[tuple[object, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(address_book, "CAPS", CAPS)
        book, now = AddressBook(OWN, seed=1), 1_000
        for step in steps:
            now = perform(book, step, now)
            check(book)
        everybody = [entry.peer for entry in book]
        drawn = book.candidates(5, now + 10**12, exclude=())
        assert len({entry.peer for entry in drawn}) == len(drawn) == min(5, len(book))
        assert book.candidates(5, now + 10**12, exclude=everybody) == []
        told = book.sample(4, Reach.HERE)
        assert len(set(told)) == len(told) <= 4


@given(flood=st.lists(news(st.integers(7, 30)), max_size=60))
def test_peers_that_answered_lately_outlive_any_flood_of_news(flood: list[tuple[object, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(address_book, "CAPS", CAPS)
        book = AddressBook(OWN, seed=1)
        honest = {number: address(number, f"{20 + number}.1.1.1") for number in range(1, 5)}
        for number, where in honest.items():
            book.learn_address(where, Source.local("test"), 1_000)
            book.succeeded(peer(number), where, 1_000)
        for step in flood:
            perform(book, step, 2_000)
            entry = book.get(peer(int(str(step[1]))))
            if entry is not None:
                book.succeeded(entry.peer, entry.addresses[0], 2_000)
        assert all(book.get(peer(number)) for number in honest)
        assert {entry.peer for entry in book if entry.tried} >= {peer(number) for number in honest}
