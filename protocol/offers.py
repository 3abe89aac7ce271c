"""Offers: what a provider says it has, what of it is free, what it costs and whom it serves. Signed gossip.

Tags 7 and 23. One stands for each provider, for some minutes. Nothing binds: what an order gets is said by bids.
Faults that show by themselves are judged here (`check_offer`); what depends on the ledger, or on the offer before,
by the book.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol import limits
from fondaco.protocol.book import bounds
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import OrderItem
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import ChainId, MicroCredits, Millis, PublicKey, Signature
from fondaco.protocol.signing import Verify, require, verify


class Offered(enum.IntEnum):
    """What a line of an offer is about, and its unit."""

    CPU_MILLI = 1
    MEMORY_BYTES = 2
    STORAGE_BYTES = 3
    GPU_UNITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferLine:
    resource: Offered
    model: str
    """The GPU, `h100 80Gi sxm`, or the class of storage; empty for what has none."""
    total: int
    free: int
    price_per_hour: MicroCredits | None
    """Indicative: for a CPU, a GiB or a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    TAG: ClassVar[int] = 7
    provider: PublicKey
    lines: tuple[OfferLine, ...]
    attributes: tuple[Attribute, ...]
    """Its own: region and the like."""
    policy: tuple[Attribute, ...]
    """The gist of whom it serves, a rule and its value."""
    serial: int
    """Block time at which it was made; a higher one takes the place of a lower one."""
    expires_at: Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedOffer:
    TAG: ClassVar[int] = 23
    offer: Offer
    signature: Signature


GossipItem = OrderItem | SignedOffer
"""All that a book holds."""


def check_offer(chain: ChainId, signed: SignedOffer, *, check: Verify = verify) -> None:
    """Judge an offer by itself. Raises `Refused` or, for a bad signature, `PeerFault`."""
    offer = signed.offer
    if not 1 <= len(offer.lines) <= bounds.OFFER_LINES:
        raise Refused("offer.lines", f"an offer has 1..{bounds.OFFER_LINES} lines")
    places = {(line.resource, line.model) for line in offer.lines}
    if len(places) != len(offer.lines) or any(line.free > line.total for line in offer.lines):
        raise Refused("offer.lines", "each thing is offered once, and no more of it than there is")
    if max(len(offer.attributes), len(offer.policy)) > limits.ATTRIBUTES:
        raise Refused("offer.attributes", f"at most {limits.ATTRIBUTES} attributes and rules")
    if not offer.serial < offer.expires_at <= offer.serial + bounds.OFFER_LIFE_MS:
        raise Refused("offer.expiry", f"an offer stands for {bounds.OFFER_LIFE_MS} ms at most")
    require(chain, offer, offer.provider, signed.signature, check=check)
