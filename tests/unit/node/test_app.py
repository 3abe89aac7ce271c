"""How a node judges what gossip brings: what goes on, what is ignored, and what condemns its sender."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.chains import Town, decline_by, offer_by, order_by, town_chain

from fondaco.node.app import _admit_answer, _admit_offer, _admit_order, _judge, _prune, _sign_state, _verdict
from fondaco.node.book import Book
from fondaco.node.config import NodeConfig
from fondaco.node.market.service import Market
from fondaco.node.snapshots import Snapshots
from fondaco.protocol import codec
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.gossip.router import Verdict
from fondaco.protocol.scalars import Height, Signature, TxId

NEIGHBOUR = "neighbour"


@pytest.fixture
def street(tmp_path: Path) -> Iterator[tuple[Town, Book]]:
    with town_chain(tmp_path, "alice", "paul") as (town, chain):
        book = Book(chain)
        town.grow(chain, town.actors("paul")[0].registers())
        yield town, book


def test_a_batch_goes_on_if_any_item_of_it_was_admitted() -> None:
    assert _judge(iter([False, True, False])) is Verdict.ACCEPT
    assert _judge(iter([False])) is Verdict.IGNORE
    assert _judge(iter([])) is Verdict.IGNORE


def test_every_item_is_looked_at_and_one_that_no_honest_peer_makes_condemns_the_batch() -> None:
    looked: list[int] = []

    def items(bad: int) -> Iterator[bool]:
        for number in range(3):
            looked.append(number)
            if number == bad:
                raise PeerFault("signature.bad", "forged")
            yield True

    assert _judge(items(bad=9)) is Verdict.ACCEPT
    assert looked == [0, 1, 2]
    assert _judge(items(bad=2)) is Verdict.REJECT


def test_transactions_are_judged_by_what_became_of_each() -> None:
    taken, refused, fault = TxId(bytes(32)), Refused("tx.fee", "poor"), PeerFault("signature.bad", "forged")
    assert _verdict([refused, taken]) is Verdict.ACCEPT
    assert _verdict([refused]) is Verdict.IGNORE
    assert _verdict([]) is Verdict.IGNORE
    assert _verdict([taken, fault]) is Verdict.REJECT


def test_orders_from_gossip_enter_the_book_or_are_ignored(street: tuple[Town, Book]) -> None:
    town, book = street
    (alice,) = town.actors("alice")
    _, signed = order_by(alice)
    assert _admit_order(book, codec.encode(signed), NEIGHBOUR)
    _, poor = order_by(alice, deposit=10**12)
    assert not _admit_order(book, codec.encode(poor), NEIGHBOUR), "peers lag: no blame"
    with pytest.raises(Malformed):
        _admit_order(book, b"garbage", NEIGHBOUR)
    _, other = order_by(alice)
    with pytest.raises(PeerFault):
        _admit_order(book, codec.encode(replace(other, signature=Signature(bytes(64)))), NEIGHBOUR)


def test_answers_from_gossip_enter_the_book_or_are_ignored(street: tuple[Town, Book]) -> None:
    town, book = street
    alice, paul = town.actors("alice", "paul")
    identity, signed = order_by(alice)
    book.add_order(signed)
    raw = codec.encode(paul.bid(signed, 900))
    assert _admit_answer(book, raw, NEIGHBOUR)
    assert not _admit_answer(book, raw, NEIGHBOUR), "nothing new: it is not passed on again"
    assert not _admit_answer(book, codec.encode(decline_by(alice, identity)), NEIGHBOUR), "no provider"
    with pytest.raises(Malformed):
        _admit_answer(book, codec.encode(signed), NEIGHBOUR)


def test_a_validators_sign_state_is_made_with_its_chain_and_never_again(tmp_path: Path) -> None:
    settings = NodeConfig(home=tmp_path, name="n", listen="", validator=True)
    settings.data.mkdir()
    assert _sign_state(settings).last is None
    assert _sign_state(settings).last is None
    (settings.data / "sign-state").unlink()
    (settings.data / "chain.db").touch()
    with pytest.raises(Refused) as refusal:
        _sign_state(settings)
    assert refusal.value.code == "sign.missing"


def test_old_blocks_stay_until_the_market_has_them(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice") as (town, chain):
        settings = NodeConfig(home=tmp_path, name="n", listen="", keep_blocks=2)
        snapshots = Snapshots.open(tmp_path / "snapshots")
        market = Market(chain, Book(chain), tmp_path / "market", 0)
        node: Any = SimpleNamespace(config=settings, chain=chain, snapshots=snapshots, market=market)
        executions = [town.grow(chain) for _ in range(6)]
        _prune(node, executions[-1])
        assert chain.store.first_height() == 1, "it has none of them yet"
        market.height = Height(2)
        _prune(node, executions[-1])
        assert chain.store.first_height() == 3
        market.height = Height(6)
        _prune(node, executions[-1])
        assert chain.store.first_height() == 5


def test_offers_are_judged_like_answers(street: tuple[Town, Book]) -> None:
    town, book = street
    alice, paul = town.actors("alice", "paul")
    offer = offer_by(paul, serial=book._chain.head.time)
    assert _judge([_admit_offer(book, codec.encode(offer), NEIGHBOUR)]) is Verdict.ACCEPT
    assert _judge([_admit_offer(book, codec.encode(offer), NEIGHBOUR)]) is Verdict.IGNORE
    stranger = offer_by(alice, serial=offer.offer.serial)
    assert not _admit_offer(book, codec.encode(stranger), NEIGHBOUR), "who is not registered is ignored"
    forged = replace(offer, signature=Signature(bytes(64)))
    wrong = offer_by(paul, serial=offer.offer.serial, lines=())
    for bad in (forged, wrong):
        with pytest.raises(PeerFault):
            _admit_offer(book, codec.encode(bad), NEIGHBOUR)
    with pytest.raises(Malformed):
        _admit_offer(book, b"\x90", NEIGHBOUR)
