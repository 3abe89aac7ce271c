"""Answering orders: decide, reserve, sign, publish; and letting go of reservations that came to nothing."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field, replace

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.market import (
    Answer,
    Bid,
    CounterOffer,
    Decline,
    Order,
    Reason,
    SignedBid,
    SignedDecline,
    lease_of_order,
)
from fondaco.protocol.offers import SignedOffer
from fondaco.protocol.records import Lease
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import GroupIndex, LeaseId, Millis, OrderId
from fondaco.protocol.signing import Signer
from fondaco.provider.bidding import BidPlan, DeclinePlan, MarketContext, conclude, prepare
from fondaco.provider.capacity import Allocation, Node
from fondaco.provider.counters import counter_offers
from fondaco.provider.earnings import Sweep
from fondaco.provider.eligibility import Profile
from fondaco.provider.inventory import Inventory, Reservation
from fondaco.provider.offering import offer_of
from fondaco.provider.policy import EVERYBODY, Policy
from fondaco.provider.ports import ChainView, Market, PriceProgram
from fondaco.provider.pricing import LinearScale, Pricing
from fondaco.provider.pricing.program import question
from fondaco.provider.undercut import Standing, Undercut, lower

log = logging.getLogger("fondaco.provider")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """What a provider offers, at what price, and how it goes about it."""

    nodes: tuple[Node, ...]
    pricing: Pricing
    peer: str
    """The peer id that serves the channel."""
    addresses: tuple[str, ...]
    profile: Profile = field(default_factory=lambda: Profile(attributes=()))
    """But for what auditors say, which the ledger knows."""
    bid_life_ms: Millis = Millis(60_000)  # noqa: RUF009 - a NewType is its integer
    """How long a bid binds, in block time; at most `limits.BID_LIFE_MS`."""
    reclamation_window_ms: Millis = Millis(0)  # noqa: RUF009
    """Notice given before taking resources back; 0 promises none."""
    withdraw_interval_ms: Millis = Millis(3_600_000)  # noqa: RUF009
    sweep: Sweep | None = None
    """None: what was earned stays in the provider's account."""
    reservations_per_tenant: int = limits.RESERVATIONS_PER_TENANT
    leases_per_tenant: int = limits.RESERVATIONS
    leases: int = limits.RESERVATIONS
    """In all; so many are kept at most whatever this says."""
    policy: Policy = EVERYBODY
    program: PriceProgram | None = None
    """Asked for each price, where `pricing` leaves it to one."""
    listed: LinearScale | None = None
    """The prices that offers tell; None: they tell none."""
    undercut: Undercut | None = None
    """How it competes; None: its bids stand as they are."""

    def books(self) -> Inventory:
        """Empty ones."""
        return Inventory(
            self.nodes,
            per_tenant=self.reservations_per_tenant,
            leases_per_tenant=self.leases_per_tenant,
            leases=self.leases,
        )


class Bidder:
    """Answers orders, and keeps the books that bids and leases draw on."""

    def __init__(
        self, config: AgentConfig, signer: Signer, chain: ChainView, market: Market, inventory: Inventory
    ) -> None:
        self._config = config
        self._signer = signer
        self._chain = chain
        self._market = market
        self.inventory = inventory
        self._standing: dict[tuple[OrderId, GroupIndex], tuple[bytes, Standing]] = {}
        """Bids of ours that may be made lower, with their reservations."""
        self.bids = 0
        """Made since the start, lower ones included."""
        self.declines = Counter[str]()
        """Since the start, by the kind of reason; one may have several."""

    async def answer(self, order_id: OrderId, order: Order) -> None:
        """Bid on or decline each group of an order that has not been answered yet."""
        for index in range(len(order.groups)):
            group = GroupIndex(index)
            name = lease_of_order(order_id, order, group)  # so that the lease leads back to its reservation
            if self.inventory.get(name) is not None or self._chain.lease(name) is not None:
                continue
            answer = await self._decide(name, order_id, order, group)
            try:
                await self._market.publish(answer)
            except (Refused, Unreachable) as error:
                log.warning("answer not published", extra={"order": order_id.hex(), "code": error.code})
                if isinstance(answer, SignedBid):
                    self.inventory.release(name)
                continue
            if isinstance(answer, SignedBid) and self._config.undercut is not None:
                standing = Standing(
                    bid=answer.bid,
                    group=order.groups[group],
                    tenant=order.tenant,
                    order_expires_at=order.expires_at,
                    min_window_ms=order.reclamation_window_ms,
                )
                self._standing[order_id, group] = name, standing
                for rival in self._market.bids_on(order_id):  # that were quicker
                    await self.compete(rival)

    async def compete(self, rival: Bid) -> None:
        """Make our own bid on the same group lower than this one, where the operator's rule allows it."""
        rule, place = self._config.undercut, (rival.order, rival.group)
        if rule is None or place not in self._standing or rival.provider == self._signer.public_key:
            return
        name, standing = self._standing[place]
        now = self._chain.now()
        price = lower(rule, standing, rival, now=now)
        reservation = self.inventory.get(name)
        if price is None or reservation is None or reservation.lease is not None:
            return
        life = min(self._config.bid_life_ms, limits.BID_LIFE_MS)
        until = Millis(max(standing.bid.expires_at, min(now + life, standing.order_expires_at)))
        bid = replace(standing.bid, price_per_hour=price, serial=standing.bid.serial + 1, expires_at=until)
        self._standing[place] = name, replace(standing, bid=bid)  # before others are let run
        self.inventory.extend(name, until)
        try:
            await self._market.publish(self._signed(bid))
        except (Refused, Unreachable) as error:
            log.warning("lower bid not published", extra={"order": rival.order.hex(), "code": error.code})

    async def _decide(self, name: bytes, order_id: OrderId, order: Order, group: GroupIndex) -> Answer:
        asked, context = order.groups[group], self._context(order)
        draft = prepare(asked, context)
        if isinstance(draft, DeclinePlan):
            return self._decline(order_id, group, draft, counter_offers(asked, context, draft))
        until = Millis(min(context.now + context.bid_life_ms, order.expires_at))
        try:  # before the price, which may take a program its time
            self.inventory.reserve(name, tenant=order.tenant, allocation=draft, expires_at=until)
        except Refused as error:
            reason = Reason(dimension="reservation", asked="one more", available=error.message)
            return self._decline(order_id, group, DeclinePlan(reasons=(reason,)))
        plan = await self._price(asked, replace(context, reserved=True), draft)
        if isinstance(plan, BidPlan):
            return self._bid(order_id, group, plan)
        self.inventory.release(name)
        return self._decline(order_id, group, plan, counter_offers(asked, context, plan))

    async def _price(self, asked: Group, context: MarketContext, draft: Allocation) -> BidPlan | DeclinePlan:
        if self._config.program is None:
            return conclude(asked, context, draft)
        try:
            said = await self._config.program.ask(question(draft.units, asked.max_price_per_hour), context.tenant)
        except Refused as error:
            reason = Reason(dimension="price", asked="one by the pricing program", available=error.message)
            return DeclinePlan(reasons=(reason,))
        return conclude(asked, context, draft, said)

    def _context(self, order: Order) -> MarketContext:
        config = self._config
        return MarketContext(
            provider=self._signer.public_key,
            tenant=order.tenant,
            now=self._chain.now(),
            order_expires_at=order.expires_at,
            profile=replace(config.profile, attested=self._chain.attested(self._signer.public_key)),
            pricing=config.pricing,
            inventory=self.inventory,
            reclamation_window_ms=order.reclamation_window_ms,
            offered_reclamation_ms=config.reclamation_window_ms,
            bid_life_ms=Millis(min(config.bid_life_ms, limits.BID_LIFE_MS)),
            retiring=self._chain.retiring(self._signer.public_key),
            policy=config.policy,
            deposit=None if order.replaces is not None else order.deposit,
            max_rate=sum(group.max_price_per_hour for group in order.groups),
        )

    def _bid(self, order: OrderId, group: GroupIndex, plan: BidPlan) -> SignedBid:
        bid = Bid(
            order=order,
            group=group,
            provider=self._signer.public_key,
            price_per_hour=plan.price_per_hour,
            units=plan.units,
            reclamation_window_ms=plan.reclamation_window_ms,
            peer=self._config.peer,
            addresses=self._config.addresses[: limits.BID_ADDRESSES],
            serial=0,
            expires_at=plan.expires_at,
        )
        return self._signed(bid)

    def _signed(self, bid: Bid) -> SignedBid:
        self.bids += 1
        told = {"order": bid.order.hex(), "group": bid.group, "price_per_hour": bid.price_per_hour}
        log.info("bid", extra={**told, "serial": bid.serial})
        return SignedBid(bid=bid, signature=self._signer.sign(self._chain.id, bid))

    def _decline(
        self, order: OrderId, group: GroupIndex, plan: DeclinePlan, instead: tuple[CounterOffer, ...] = ()
    ) -> SignedDecline:
        decline = Decline(
            order=order,
            group=group,
            provider=self._signer.public_key,
            reasons=plan.reasons,
            expires_at=Millis(self._chain.now() + limits.BID_LIFE_MS),
            counter_offers=instead,
        )
        self.declines.update({reason.dimension.partition(" ")[0] for reason in plan.reasons})
        told = "; ".join(map(str, plan.reasons))
        log.info("declined", extra={"order": order.hex(), "group": group, "reasons": told})
        return SignedDecline(decline=decline, signature=self._signer.sign(self._chain.id, decline))

    def offer(self) -> SignedOffer:
        """What we have and what of it is free."""
        config = self._config
        offer = offer_of(
            self._signer.public_key,
            self.inventory,
            profile=config.profile,
            policy=config.policy,
            listed=config.listed,
            now=self._chain.now(),
        )
        return SignedOffer(offer=offer, signature=self._signer.sign(self._chain.id, offer))

    # --- The books

    def won(self, lease: Lease) -> None:
        """Keep resources for a lease of ours, as reserved, or found anew where the reservation is gone."""
        if self.inventory.get(lease.id) is None:
            # What a tenant may reserve does not matter to what it has leased: plan as for nobody's reservation.
            allocation = self.inventory.plan(lease.units, lease.provider)
            if isinstance(allocation, Allocation):
                entry = Reservation(
                    id=lease.id,
                    tenant=lease.tenant,
                    allocation=allocation,
                    expires_at=lease.opened_at,
                    lease=lease.id,
                )
                if not self.inventory.restore((entry,)):
                    return
            # Paid for all the same: it is served, and the books stay short until something is released.
            log.error("no room in the books for a lease of ours", extra={"lease": lease.id.hex()})
            return
        self.inventory.commit(lease.id, lease.id)

    def over(self, lease: Lease) -> None:
        """Give back what a lease held; after its teardown, not before."""
        self.inventory.release(lease.id)

    def let_go(self) -> None:
        """Drop reservations whose bid has expired by block time, or lost to another provider's."""
        self.inventory.expire(self._chain.now())
        for reservation in self.inventory.reservations:
            if reservation.lease is not None:
                continue
            lease = self._chain.lease(LeaseId(reservation.id))
            if lease is not None and lease.provider != self._signer.public_key:
                self.inventory.release(reservation.id)
        for place, (name, _) in list(self._standing.items()):
            held = self.inventory.get(name)
            if held is None or held.lease is not None:
                del self._standing[place]
