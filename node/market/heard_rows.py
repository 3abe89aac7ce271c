"""Rows of what gossip brought: orders, bids and declines, with the moment this node first heard them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, assert_never

from fondaco.node.market.log import Heard
from fondaco.node.market.shown import address, amounts, gpus, shown
from fondaco.protocol.market import Bid, Decline, Order, SignedBid, SignedDecline, SignedOrder
from fondaco.protocol.offers import Offer, SignedOffer
from fondaco.protocol.scalars import ChainId
from fondaco.protocol.signing import message_id

if TYPE_CHECKING:
    from fondaco.node.market.index import Rows


class HeardRows:
    def __init__(self, rows: Rows, chain: ChainId) -> None:
        self._rows = rows
        self._chain = chain

    def take(self, heard: Heard) -> None:
        """What is heard again, after a restart say, keeps the moment it was first heard."""
        seen = {"seen_at": heard.time, "seen_height": heard.height, "message": heard.raw}
        match heard.item:
            case SignedOrder(order=order):
                self._rows.put("orders", id=message_id(self._chain, order).hex(), **_order(order), **seen)
            case SignedBid(bid=bid):
                self._rows.put("bids", id=message_id(self._chain, bid).hex(), **_bid(bid), **seen)
            case SignedDecline(decline=decline):
                self._rows.put("declines", id=message_id(self._chain, decline).hex(), **_decline(decline), **seen)
            case SignedOffer(offer=offer):
                self._offer(offer, heard.time)
            case _:
                assert_never(heard.item)

    def _offer(self, offer: Offer, seen_at: int) -> None:
        """The newest of each provider is kept."""
        provider = address(offer.provider)
        newest = self._rows.one("SELECT max(serial) FROM offers WHERE provider = ?", provider)
        if newest is not None and newest[0] is not None and newest[0] >= offer.serial:
            return
        self._rows.execute("DELETE FROM offers WHERE provider = ?", (provider,))
        for line in offer.lines:
            self._rows.put(
                "offers",
                provider=provider,
                resource=line.resource.name.lower(),
                model=line.model,
                total=line.total,
                free=line.free,
                price_per_hour=line.price_per_hour,
                serial=offer.serial,
                expires_at=offer.expires_at,
                seen_at=seen_at,
            )


def _order(order: Order) -> dict[str, Any]:
    groups = [
        {
            "name": group.name,
            "max_price_per_hour": group.max_price_per_hour,
            "gpus": gpus(group.units),
            "attributes": shown(group.placement.attributes),
        }
        for group in order.groups
    ]
    return {
        "tenant": address(order.tenant),
        "groups": json.dumps(groups),
        "max_price_per_hour": sum(group.max_price_per_hour for group in order.groups),
        **amounts(*(group.units for group in order.groups)),
        "deposit": order.deposit,
        "reclamation_window_ms": order.reclamation_window_ms,
        "expires_at": order.expires_at,
    }


def _bid(bid: Bid) -> dict[str, Any]:
    return {
        "order_id": bid.order.hex(),
        "group_index": bid.group,
        "provider": address(bid.provider),
        "price_per_hour": bid.price_per_hour,
        **amounts(bid.units),
        "gpu_model": ", ".join(gpus(bid.units)),
        "serial": bid.serial,
        "reclamation_window_ms": bid.reclamation_window_ms,
        "expires_at": bid.expires_at,
    }


def _decline(decline: Decline) -> dict[str, Any]:
    return {
        "order_id": decline.order.hex(),
        "group_index": decline.group,
        "provider": address(decline.provider),
        "reasons": json.dumps(shown(decline.reasons)),
        "counter_offers": json.dumps(shown(decline.counter_offers)),
        "expires_at": decline.expires_at,
    }
