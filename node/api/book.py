"""Routes over what is open now: providers that are registered, orders in the book and what was answered."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query

from fondaco.consensus.ledger.state import RECORD
from fondaco.consensus.ledger.trust import attestations_of
from fondaco.node.api.ledger import Address, Hex32
from fondaco.node.api.models import Page, model_of, plain
from fondaco.node.api.problems import not_found
from fondaco.node.app import Node
from fondaco.node.book import said
from fondaco.node.facts import facts_of
from fondaco.protocol import addresses, codec, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import Bid, Decline, Order
from fondaco.protocol.offers import Offer
from fondaco.protocol.query import OFFERS, compiled, parse
from fondaco.protocol.query import PROVIDERS as PROVIDER_FIELDS
from fondaco.protocol.query.bounds import QUERY_CHARACTERS
from fondaco.protocol.query.evaluate import Test
from fondaco.protocol.records import Provider, key_provider
from fondaco.protocol.scalars import OrderId
from fondaco.protocol.selection import ProviderFacts, ProviderSubject
from fondaco.protocol.selection.stock import rows

Limit = Annotated[int, Query(ge=1, le=limits.PROVIDERS_LISTED)]
OrderCursor = Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="`next` of the page before")]
ProviderCursor = Annotated[str | None, Query(max_length=100, description="`next` of the page before")]
Where = Annotated[str, Query(max_length=QUERY_CHARACTERS, description="a query: `region = eu-* and audited`")]
ProviderModel = model_of(Provider, address=str)
OrderModel = model_of(Order, id=str)
OfferModel = model_of(Offer, address=str)


BidAnswer = model_of(Bid, "BidAnswer", kind=Literal["bid"])
DeclineAnswer = model_of(Decline, "DeclineAnswer", kind=Literal["decline"])
PROVIDERS = RECORD + b"provider/"
AFTER_PROVIDERS = RECORD + b"provider0"


def serve_book(app: FastAPI, node: Node) -> None:
    @app.get("/providers", response_model=Page[ProviderModel])  # type: ignore[valid-type]
    async def providers(limit: Limit = 100, cursor: ProviderCursor = None, where: Where = "") -> Any:
        """Registered providers, by key."""
        query = parse(where, PROVIDER_FIELDS) if where else None
        start = PROVIDERS if cursor is None else RECORD + key_provider(addresses.decode(cursor)) + b"\0"
        most = limit + 1 if query is None else limits.PROVIDERS_LISTED
        records = (codec.decode(raw, Provider) for _, raw in node.chain.store.scan(start, AFTER_PROVIDERS, most))
        if query is not None:
            holds = compiled(query)
            records = (one for one in records if holds(ProviderSubject(one.key, _facts(node, one))))
        found = [_provider(one) for one in islice(records, limit + 1)]
        return {"items": found[:limit], "next": found[limit - 1]["address"] if len(found) > limit else None}

    @app.get("/providers/{address}", response_model=ProviderModel)
    async def provider(address: Address) -> Any:
        """One registered provider."""
        record = node.chain.ledger.state().get(key_provider(addresses.decode(address)), Provider)
        if record is None:
            raise not_found("provider")
        return _provider(record)

    @app.get("/offers", response_model=Page[OfferModel])  # type: ignore[valid-type]
    async def offers(limit: Limit = 100, cursor: ProviderCursor = None, where: Where = "") -> Any:
        """What providers say they have, and what of it is free: the newest of each, by key."""
        query = parse(where, OFFERS) if where else None
        after = b"" if cursor is None else addresses.decode(cursor)
        found = [signed.offer for signed in node.book.offers.all() if signed.offer.provider > after]
        if query is not None:
            holds = compiled(query)
            found = [one for one in found if _offers(node, one, holds)]
        items = [{"address": addresses.encode(one.provider), **plain(one)} for one in found[:limit]]
        return {"items": items, "next": items[-1]["address"] if len(found) > limit else None}

    @app.get("/orders", response_model=Page[OrderModel])  # type: ignore[valid-type]
    async def orders(limit: Limit = 100, cursor: OrderCursor = None) -> Any:
        """Orders in the book, in the order they came."""
        entries = node.book.open_orders()
        start = 0
        if cursor is not None:
            places = [place for place, (key, _) in enumerate(entries) if key.hex() == cursor]
            if not places:
                raise Refused("api.cursor", "the order that the last page ended with has left the book")
            start = places[0] + 1
        found = [{"id": key.hex(), **plain(signed.order)} for key, signed in entries[start : start + limit]]
        return {"items": found, "next": found[-1]["id"] if start + limit < len(entries) else None}

    @app.get("/orders/{identity}/answers", response_model=list[BidAnswer | DeclineAnswer])  # type: ignore[valid-type]
    async def answers(identity: Hex32) -> Any:
        """Bids and declines in the book on an order; none for an order that is not there."""
        found = map(said, node.book.answers(OrderId(bytes.fromhex(identity))))
        return [{"kind": type(one).__name__.lower(), **plain(one)} for one in found]


def _facts(node: Node, record: Provider) -> ProviderFacts:
    said = attestations_of(node.chain.ledger.state(), record.key)
    return facts_of(record, said, names=dict(node.chain.genesis.auditors), now=node.chain.head.time)


def _offers(node: Node, offer: Offer, holds: Test) -> bool:
    """Whether a query holds of the processors in an offer, or of a model of GPU in it."""
    record = node.chain.ledger.state().get(key_provider(offer.provider), Provider)
    return record is not None and any(holds(row) for row in rows(offer, _facts(node, record)))


def _provider(record: Provider) -> dict[str, Any]:
    return {"address": addresses.encode(record.key), **plain(record)}
