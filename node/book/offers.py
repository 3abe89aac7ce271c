"""The offers in the book: one of each provider, the newest, until it expires."""

from __future__ import annotations

from fondaco.node.book.holdings import Holdings
from fondaco.node.chain import Chain
from fondaco.protocol import codec, limits
from fondaco.protocol.book import bounds
from fondaco.protocol.book.digests import ItemId
from fondaco.protocol.errors import Refused
from fondaco.protocol.offers import SignedOffer
from fondaco.protocol.records import Provider, key_provider
from fondaco.protocol.scalars import Millis, PublicKey


class Offers:
    def __init__(self, chain: Chain, holdings: Holdings) -> None:
        self._chain = chain
        self._holdings = holdings
        self._offers: dict[PublicKey, tuple[ItemId, SignedOffer]] = {}
        self._providers: dict[ItemId, PublicKey] = {}

    def __len__(self) -> int:
        return len(self._offers)

    def all(self) -> list[SignedOffer]:
        """By provider."""
        return [self._offers[provider][1] for provider in sorted(self._offers)]

    def item(self, item: ItemId) -> SignedOffer | None:
        provider = self._providers.get(item)
        return None if provider is None else self._offers[provider][1]

    def admit(self, item: ItemId, signed: SignedOffer) -> bool:
        """Take in what was found good by itself; whether it was new. Raises `Refused`."""
        offer, now = signed.offer, self._chain.head.time
        if offer.expires_at <= now:
            raise Refused("offer.expired", "it expired before it came")
        if offer.serial > now + limits.CLOCK_SLACK_MS:
            raise Refused("offer.serial", "it was made later than now")
        if len(codec.encode(signed)) > bounds.OFFER_BYTES:
            raise Refused("offer.size", f"an offer has {bounds.OFFER_BYTES} bytes at most")
        record = self._chain.ledger.state().get(key_provider(offer.provider), Provider)
        if record is None or not record.bond:
            raise Refused("provider.unknown", "the offer's provider is not registered and bonded")
        before = self._offers.get(offer.provider)
        if before is not None:
            last = before[1].offer.serial
            if offer.serial <= last:
                if item != before[0]:
                    self._holdings.ended.remember(item, _until(signed))
                return False
            if offer.serial < last + bounds.OFFER_EVERY_MS:
                raise Refused("offer.often", f"one offer in {bounds.OFFER_EVERY_MS} ms is enough")
            self._forget(offer.provider)
        elif len(self._offers) >= bounds.OFFERS:
            raise Refused("book.full", "there are as many offers as are kept")
        self._offers[offer.provider] = item, signed
        self._providers[item] = offer.provider
        self._holdings.index.add(item)
        return True

    def expire(self, now: Millis) -> None:
        for provider, (_, signed) in list(self._offers.items()):
            if signed.offer.expires_at <= now:
                self._forget(provider)

    def _forget(self, provider: PublicKey) -> None:
        item, signed = self._offers.pop(provider)
        del self._providers[item]
        self._holdings.index.remove(item)
        self._holdings.ended.remember(item, _until(signed))


def _until(signed: SignedOffer) -> Millis:
    return Millis(signed.offer.expires_at + limits.BOOK_REMEMBER_MS)
