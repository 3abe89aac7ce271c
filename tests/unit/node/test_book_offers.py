"""Offers in the book: one of each provider, by the ledger's leave, and the same in every neighbour's book."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.chains import offer_by, town_chain
from tests.support.markets import marketplace
from tests.support.streets import Street

from fondaco.node.market.queries import ask
from fondaco.protocol import limits
from fondaco.protocol.book import bounds
from fondaco.protocol.book.digests import item_id
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.offers import SignedOffer
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import Signature


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    with town_chain(tmp_path, "alice", "bob", "paul", "petra") as (town, chain):
        yield Street(town, chain)


def refusal(street: Street, offer: SignedOffer) -> str:
    before = street.book.offers.all()
    with pytest.raises((Refused, PeerFault)) as caught:
        street.book.add_offer(offer)
    assert street.book.offers.all() == before
    return caught.value.code


def test_each_provider_has_one_offer_the_newest(street: Street) -> None:
    now = street.chain.head.time
    told: list[object] = []
    street.book.listeners.append(told.append)
    first = offer_by(street.paul, serial=now - bounds.OFFER_EVERY_MS)
    assert street.book.add_offer(first)
    assert not street.book.add_offer(first)
    assert street.book.add_offer(offer_by(street.petra, serial=now))
    second = offer_by(street.paul, serial=now)
    assert street.book.add_offer(second)
    assert not street.book.add_offer(first), "the older one does not come back"
    assert [one.offer.serial for one in street.book.offers.all()] == [now, now]
    assert len(street.book.offers) == 2
    assert len(told) == 3


def test_digests_follow_and_what_gave_way_is_not_pulled_again(street: Street) -> None:
    now = street.chain.head.time
    index = street.book.holdings.index
    empty = index.root()
    old, new = offer_by(street.paul, serial=now - bounds.OFFER_EVERY_MS), offer_by(street.paul, serial=now)
    items = [item_id(street.book.check(one)) for one in (old, new)]
    assert street.book.admit(street.book.check(old), old, "peer")
    assert street.book.item(items[0]) == old
    assert street.book.add_offer(new)
    assert street.book.item(items[0]) is None
    assert (items[0] in index, items[1] in index) == (False, True)
    assert street.book.over(items[0])
    late = offer_by(street.paul, serial=now - 5)
    assert not street.book.add_offer(late)
    assert street.book.over(item_id(street.book.check(late)))
    street.town.grow(street.chain, at=now + 600_000)
    assert street.book.offers.all() == []
    assert index.root() == empty
    assert street.book.over(items[1])


def test_what_the_ledger_or_the_clock_does_not_allow_is_refused(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = street.chain.head.time
    assert refusal(street, offer_by(street.alice, serial=now)) == "provider.unknown"
    assert refusal(street, offer_by(street.paul, serial=now - 700_000)) == "offer.expired"
    assert refusal(street, offer_by(street.paul, serial=now + limits.CLOCK_SLACK_MS + 1)) == "offer.serial"
    large = tuple(Attribute(key=f"k{n:02}", value="x" * 200) for n in range(60))
    assert refusal(street, offer_by(street.paul, serial=now, attributes=large)) == "offer.size"
    good = offer_by(street.paul, serial=now)
    assert refusal(street, SignedOffer(offer=good.offer, signature=Signature(bytes(64)))) == "signature.bad"
    street.book.add_offer(good)
    assert refusal(street, offer_by(street.paul, serial=now + bounds.OFFER_EVERY_MS - 1)) == "offer.often"
    monkeypatch.setattr(bounds, "OFFERS", 1)
    assert refusal(street, offer_by(street.petra, serial=now)) == "book.full"


def test_the_market_database_holds_the_newest_and_tells_what_is_free(tmp_path: Path) -> None:
    with marketplace(tmp_path, "paul") as market:
        (paul,) = market.town.actors("paul")
        market.grow(paul.registers())
        now = market.chain.head.time
        market.hear(offer_by(paul, serial=now))
        market.hear(offer_by(paul, serial=now - 1))
        market.step()
        row = market.row("SELECT resource, total, free, price_per_hour, serial FROM offers")
        assert row == {"resource": "cpu_milli", "total": 4_000, "free": 2_000, "price_per_hour": 7, "serial": now}
        (free,) = ask(market.index._db.conn, "availability")
        assert (free["total"], free["free"], free["min_price"]) == (4_000, 2_000, 7)
        (capacity,) = [one for one in ask(market.index._db.conn, "capacity") if one["total"]]
        assert capacity["free"] == 2_000
