"""What an offer must be by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fondaco.protocol import codec, limits
from fondaco.protocol.book import bounds
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.offers import GossipItem, Offer, Offered, OfferLine, SignedOffer, check_offer
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import ChainId, MicroCredits, Millis
from fondaco.protocol.signing import Signer

CHAIN = ChainId("test-0000000000000000")
PROVIDER, OTHER = Signer(bytes(32)), Signer(bytes([1]) * 32)
CPU = OfferLine(resource=Offered.CPU_MILLI, model="", total=4_000, free=1_000, price_per_hour=MicroCredits(9))
GPU = OfferLine(resource=Offered.GPU_UNITS, model="h100", total=8, free=8, price_per_hour=None)
REGION = Attribute(key="region", value="eu")
OFFER = Offer(
    provider=PROVIDER.public_key,
    lines=(CPU, GPU),
    attributes=(REGION,),
    policy=(),
    serial=1_000,
    expires_at=Millis(1_000 + bounds.OFFER_LIFE_MS),
)


def signed(offer: Offer) -> SignedOffer:
    return SignedOffer(offer=offer, signature=PROVIDER.sign(CHAIN, offer))


def test_what_is_right_passes_and_survives_the_wire() -> None:
    check_offer(CHAIN, signed(OFFER))
    assert codec.decode_union(codec.encode(signed(OFFER)), GossipItem) == signed(OFFER)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"lines": ()}, "offer.lines"),
        ({"lines": (CPU, CPU)}, "offer.lines"),
        ({"lines": (replace(CPU, free=4_001),)}, "offer.lines"),
        ({"lines": (CPU,) * (bounds.OFFER_LINES + 1)}, "offer.lines"),
        ({"attributes": (REGION,) * (limits.ATTRIBUTES + 1)}, "offer.attributes"),
        ({"policy": (REGION,) * (limits.ATTRIBUTES + 1)}, "offer.attributes"),
        ({"expires_at": Millis(1_000)}, "offer.expiry"),
        ({"expires_at": Millis(1_001 + bounds.OFFER_LIFE_MS)}, "offer.expiry"),
        ({"provider": OTHER.public_key}, "signature.bad"),
    ],
)
def test_what_is_wrong_has_its_code(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(FondacoError) as error:
        check_offer(CHAIN, signed(replace(OFFER, **changes)))
    assert error.value.code == code
