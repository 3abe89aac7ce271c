"""Orders of the simulated market, and the bids they are taken with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from fondaco.consensus.ledger.params import CREDIT
from fondaco.node.samples import UNIT
from fondaco.node.simulation.identities import Scheme
from fondaco.node.simulation.trust import Trust
from fondaco.protocol import limits, reasons
from fondaco.protocol.market import Bid, Order, Replaced, SignedBid, SignedOrder, order_id
from fondaco.protocol.messages import OpenLease, ReplaceLease
from fondaco.protocol.records import Lease
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import (
    ChainId,
    GroupIndex,
    Hash,
    MicroCredits,
    Millis,
    PublicKey,
    Salt,
    TemplateId,
)
from fondaco.protocol.signing import sha256

PRICES = (CREDIT, 30 * CREDIT)
"""An hour. They divide no hour evenly, so that every settlement has something to round."""
COMMITMENT = sha256(b"a manifest")


class Orders:
    """Draws them; `chain` and `now` are set before each."""

    def __init__(self, random: Random, scheme: Scheme, trust: Trust) -> None:
        self._random = random
        self._scheme = scheme
        self._trust = trust
        self.chain = ChainId("?")
        self.now = Millis(0)

    def opening(
        self,
        tenant: PublicKey,
        providers: Sequence[PublicKey],
        template: TemplateId | None,
        payer: PublicKey | None,
    ) -> OpenLease:
        """An order of one to three groups, the bids for it, and money for some seconds."""
        prices = [self._random.randint(*PRICES) for _ in range(self._random.randint(1, 3))]
        order = self._order(tenant, prices, (COMMITMENT,) * len(prices), template)
        order = replace(order, payer=payer)
        bids = self._bids(order, prices, providers)
        seconds = self._random.choice((1, 2, 4, 8, 30))
        deposit = MicroCredits(sum(prices) * seconds // 3_600 + self._random.randint(-1, 50))
        return OpenLease(order=self._signed(order), bids=bids, deposit=deposit)

    def replacement(
        self, lease: Lease, providers: Sequence[PublicKey], template: TemplateId | None
    ) -> ReplaceLease:
        """Another provider for what `lease` serves."""
        price = self._random.randint(*PRICES)
        replaces = Replaced(deployment=lease.deployment, group=lease.group, generation=lease.generation + 1)
        order = replace(self._order(lease.tenant, [price], (lease.commitment,), template), replaces=replaces)
        (bid,) = self._bids(order, [price], providers)
        return ReplaceLease(
            deployment=lease.deployment,
            group=lease.group,
            order=self._signed(order),
            bid=bid,
            reason=reasons.REPLACED,
        )

    def _order(
        self,
        tenant: PublicKey,
        prices: Sequence[int],
        commitments: tuple[Hash, ...],
        template: TemplateId | None,
    ) -> Order:
        random = self._random
        return Order(
            tenant=tenant,
            groups=tuple(
                Group(
                    name=f"group{place}",
                    units=(UNIT,),
                    placement=self._trust.placement(),
                    max_price_per_hour=MicroCredits(price - (random.random() < 0.03)),
                )
                for place, price in enumerate(prices)
            ),
            commitments=commitments,
            reclamation_window_ms=Millis(random.choice((0, 0, limits.RECLAMATION_WINDOW_MS[0]))),
            deposit=MicroCredits(0),
            reply_peers=(),
            expires_at=Millis(self.now + random.randint(5_000, 60_000)),
            salt=Salt(random.randbytes(16)),
            template=template,
        )

    def _bids(self, order: Order, prices: Sequence[int], providers: Sequence[PublicKey]) -> tuple[SignedBid, ...]:
        identity = order_id(self.chain, order)
        bids = (
            Bid(
                order=identity,
                group=GroupIndex(place),
                provider=self._random.choice(providers),
                price_per_hour=MicroCredits(price),
                units=(UNIT,),
                reclamation_window_ms=order.reclamation_window_ms,
                peer="peer",
                addresses=("/ip4/127.0.0.1/tcp/1",),
                serial=0,
                expires_at=Millis(self.now + limits.BID_LIFE_MS // 2),
            )
            for place, price in enumerate(prices)
        )
        return tuple(
            SignedBid(bid=bid, signature=self._scheme.sign(self.chain, bid.provider, bid)) for bid in bids
        )

    def _signed(self, order: Order) -> SignedOrder:
        return SignedOrder(order=order, signature=self._scheme.sign(self.chain, order.tenant, order))
