"""Signed gossip: what tenants ask and providers answer. Free, in milliseconds, never in a block.

Tags 1-9. The id of each is the hash of its signed bytes, so it does not depend on the signature. Stateless
faults are judged here (`check_order`, `check_bid`); what depends on the ledger is judged by the book.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.resources import Group, ResourceUnit, check_group
from fondaco.protocol.scalars import (
    ChainId,
    DeploymentId,
    GroupIndex,
    Hash,
    LeaseId,
    MicroCredits,
    Millis,
    OrderId,
    PublicKey,
    Salt,
    Signature,
    TemplateId,
)
from fondaco.protocol.signing import Verify, message_id, require, sha256, signing_bytes, verify


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """The group of a running deployment that an order seeks another provider for."""

    deployment: DeploymentId
    group: GroupIndex
    generation: int
    """Of the lease that will serve it then: one more than that of the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a tenant needs and the most it will pay."""

    TAG: ClassVar[int] = 1
    tenant: PublicKey
    groups: tuple[Group, ...]
    commitments: tuple[Hash, ...]
    """One a group, over its salted manifest: what runs stays private until the lease exists."""
    reclamation_window_ms: Millis
    """The shortest notice of reclamation the tenant accepts; 0 asks for none."""
    deposit: MicroCredits
    """What the tenant is ready to put in escrow."""
    reply_peers: tuple[str, ...]
    """Peers that bids are also sent to directly."""
    expires_at: Millis
    salt: Salt
    template: TemplateId | None = None
    """What it runs was made of this template: its authors get a share of what the leases pay."""
    replaces: Replaced | None = None
    """It has one group then, the same manifest is run, and the deployment's escrow pays; `deposit` is 0."""
    payer: PublicKey | None = None
    """Whose spending grant pays the deposit; None: the tenant's own account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedOrder:
    TAG: ClassVar[int] = 2
    order: Order
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Bid:
    """A provider's offer to serve one group of an order; it binds until it expires."""

    TAG: ClassVar[int] = 3
    order: OrderId
    group: GroupIndex
    provider: PublicKey
    price_per_hour: MicroCredits
    """For the whole group; always positive."""
    units: tuple[ResourceUnit, ...]
    """What is offered: never smaller than what was asked, possibly better."""
    reclamation_window_ms: Millis
    peer: str
    """Where the channel is opened: the provider's peer id."""
    addresses: tuple[str, ...]
    serial: int
    """A higher one replaces a lower one, and may only improve it."""
    expires_at: Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBid:
    TAG: ClassVar[int] = 4
    bid: Bid
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a provider declines: the dimension that failed, and its numbers."""

    dimension: str
    """`cpu`, `gpu h200`, `price`, `attribute region`, ..."""
    asked: str
    available: str

    def __str__(self) -> str:
        return f"{self.dimension}: asked {self.asked}, available {self.available}"


class Change(enum.IntEnum):
    """The one thing about a group that a counter-offer changes."""

    PRICE = 1
    """The highest price, to at least so many micro-credits an hour."""
    REPLICAS = 2
    """The replicas of a unit."""
    VOLUME = 3
    """The bytes of a unit's volume, named by `subject`."""
    WINDOW = 4
    """The shortest notice of reclamation, to at most so many milliseconds; 0: none."""
    GPU_MODEL = 5
    """The GPUs of a unit, to those that `subject` names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterOffer:
    """What the provider would bid on: the group as asked, but for one change.

    It binds nobody and nothing is reserved for it: the tenant orders anew.
    """

    change: Change
    unit: int
    """Whose id it is; 0 where the whole group is meant."""
    subject: str
    """A volume's name, or GPUs as `vendor/nvidia/model/h100`; empty for the others."""
    value: int
    """In the unit of the change; of GPUs, how many a replica has."""
    price_per_hour: MicroCredits
    """For the whole group as changed."""

    def __str__(self) -> str:
        of = f"unit {self.unit}"
        match self.change:
            case Change.PRICE:
                what = "as asked"
            case Change.REPLICAS:
                what = f"{of} with {self.value} replicas"
            case Change.VOLUME:
                what = f"{of} with {self.value >> 20} MiB of {self.subject}"
            case Change.WINDOW:
                what = f"with {self.value // 60_000} minutes of notice" if self.value else "without notice"
            case _:  # GPU_MODEL
                what = f"{of} on {self.subject}"
        return f"{what}, at {self.price_per_hour} ucredit/h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline:
    """A provider's signed "no", with every dimension that failed."""

    TAG: ClassVar[int] = 5
    order: OrderId
    group: GroupIndex
    provider: PublicKey
    reasons: tuple[Reason, ...]
    expires_at: Millis
    counter_offers: tuple[CounterOffer, ...] = ()
    """Where one change would have made it a bid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedDecline:
    TAG: ClassVar[int] = 6
    decline: Decline
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The tenant's word that it handed this manifest over; the provider activates the lease with it."""

    TAG: ClassVar[int] = 8
    lease: LeaseId
    version: int
    commitment: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReceipt:
    TAG: ClassVar[int] = 9
    receipt: Receipt
    signature: Signature


Answer = SignedBid | SignedDecline
"""What providers say to an order."""
OrderItem = SignedOrder | SignedBid | SignedDecline
"""What is about an order."""


def order_id(chain: ChainId, order: Order) -> OrderId:
    return OrderId(message_id(chain, order))


def deployment_id(order: OrderId) -> DeploymentId:
    """A deployment carries the id of the order that made it."""
    return DeploymentId(order)


def lease_id(deployment: DeploymentId, group: GroupIndex, generation: int = 0) -> LeaseId:
    """Derived, so that both sides know it before the block: `generation` counts replacements."""
    return LeaseId(sha256(b"fondaco/lease" + deployment + bytes((group, generation))))


def lease_of_order(identity: OrderId, order: Order, group: GroupIndex) -> LeaseId:
    """The lease that a group of an order becomes."""
    replaces = order.replaces
    if replaces is None:
        return lease_id(deployment_id(identity), group)
    return lease_id(replaces.deployment, replaces.group, replaces.generation)


def check_order(chain: ChainId, signed: SignedOrder, *, check: Verify = verify) -> OrderId:
    """Judge an order by itself; its id. Raises `Refused` or, for a bad signature, `PeerFault`."""
    order = signed.order
    if not 1 <= len(order.groups) <= limits.GROUPS:
        raise Refused("order.groups", f"{len(order.groups)} groups, allowed 1..{limits.GROUPS}")
    if len(order.commitments) != len(order.groups):
        raise Refused("order.commitments", "an order carries one commitment for each of its groups")
    if len(order.reply_peers) > limits.REPLY_PEERS:
        raise Refused("order.reply_peers", f"at most {limits.REPLY_PEERS} reply peers")
    if len({group.name for group in order.groups}) != len(order.groups):
        raise Refused("order.groups", "two groups share a name")
    if order.replaces is not None:
        if len(order.groups) != 1 or order.deposit or order.payer is not None:
            raise Refused("order.replaces", "a replacement has one group and no deposit: the escrow is there")
        if order.replaces.group >= limits.GROUPS or order.replaces.generation not in limits.LEASE_GENERATIONS:
            raise Refused("order.replaces", "there is no such group, or it has changed its provider too often")
    low, high = limits.RECLAMATION_WINDOW_MS
    if order.reclamation_window_ms and not low <= order.reclamation_window_ms <= high:
        raise Refused("order.reclamation", f"a reclamation window is none, or {low}..{high} ms")
    for group in order.groups:
        check_group(group)
    data = signing_bytes(chain, order)
    if not check(order.tenant, data, signed.signature):
        raise PeerFault("signature.bad", "the signature on this Order does not hold")
    return OrderId(sha256(data))  # as `order_id` has it


def check_bid(chain: ChainId, signed: SignedBid, *, check: Verify = verify) -> None:
    """Judge a bid by itself. Raises `Refused` or, for a bad signature, `PeerFault`."""
    bid = signed.bid
    if bid.price_per_hour <= 0:
        raise Refused("price.too_small", "a bid's price is always positive")
    if not 1 <= len(bid.units) <= limits.UNITS_PER_GROUP:
        raise Refused("bid.units", f"{len(bid.units)} units, allowed 1..{limits.UNITS_PER_GROUP}")
    if not 1 <= len(bid.addresses) <= limits.BID_ADDRESSES:
        raise Refused("bid.addresses", f"a bid names 1..{limits.BID_ADDRESSES} addresses of its provider")
    require(chain, bid, bid.provider, signed.signature, check=check)


def check_decline(chain: ChainId, signed: SignedDecline, *, check: Verify = verify) -> None:
    """Judge a decline by itself. Raises `Refused` or, for a bad signature, `PeerFault`."""
    if not 1 <= len(signed.decline.reasons) <= limits.DECLINE_REASONS:
        raise Refused("decline.reasons", f"a decline gives 1..{limits.DECLINE_REASONS} reasons")
    if len(signed.decline.counter_offers) > limits.DECLINE_COUNTER_OFFERS:
        raise Refused("decline.counter_offers", f"at most {limits.DECLINE_COUNTER_OFFERS} counter-offers")
    for one in signed.decline.counter_offers:
        if one.price_per_hour <= 0:
            raise Refused("price.too_small", "a counter-offer's price is always positive")
    require(chain, signed.decline, signed.decline.provider, signed.signature, check=check)
