"""What a provider's bid engine would make of an order, without a node: by its configuration and its books."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

from fondaco.node.config import NodeConfig
from fondaco.node.market.log import view
from fondaco.node.market.service import DATABASE
from fondaco.node.provider_settings import Settings, settings_of
from fondaco.protocol import codec, limits, sdl
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.market import CounterOffer, Reason, SignedOrder
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey
from fondaco.provider import snapshot
from fondaco.provider.bidding import BidPlan, DeclinePlan, MarketContext, conclude, prepare
from fondaco.provider.counters import counter_offers
from fondaco.provider.inventory import Inventory
from fondaco.provider.pricing.program import question

NOBODY = PublicKey(bytes(32))
"""The tenant of an order that is only imagined; its deposit is taken for enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be judged."""

    groups: tuple[Group, ...]
    reclamation_ms: Millis
    tenant: PublicKey = NOBODY
    deposit: MicroCredits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    group: Group
    plan: BidPlan | DeclinePlan
    counter_offers: tuple[CounterOffer, ...]


def settings(config: NodeConfig) -> Settings:
    """Of the provider in a home. Raises `Refused` `provider.none` or `config.field`."""
    if config.provider is None:
        raise Refused("provider.none", f"{config.home} is no provider's", hint="is --home right?")
    return settings_of(config.provider, name=config.name, database=config.market_home / DATABASE)


def books(config: NodeConfig, told: Settings) -> Inventory:
    """What is promised and let, as the node last wrote it down.

    Raises `Refused` `provider.books` if that cannot be read.
    """
    inventory = told.agent.books()
    path = config.provider_home / "reservations"
    try:
        inventory.restore(snapshot.from_plain(codec.unpack(path.read_bytes())))
    except FileNotFoundError:
        pass
    except (Malformed, OSError) as error:
        raise Refused("provider.books", f"{path}: {error}") from None
    return inventory


def read_wish(text: str, config: NodeConfig, aliases: dict[str, PublicKey]) -> Wish:
    """An SDL file, a file with a signed order's bytes, or (the start of) the id of an order that the node heard.

    Raises `SdlError`, or `Refused` `order.unknown` or `market.none`.
    """
    path = Path(text)
    if not path.is_file():
        return _of_order(_heard(text, config))
    data = path.read_bytes()[: limits.SDL_BYTES + 1]
    try:
        return _of_order(codec.decode(data, SignedOrder))
    except Malformed:
        stack = sdl.parse(data)
    return Wish(groups=stack.groups(aliases), reclamation_ms=stack.reclamation_ms)


def _of_order(signed: SignedOrder) -> Wish:
    order = signed.order
    deposit = None if order.replaces is not None else order.deposit
    return Wish(
        groups=order.groups, reclamation_ms=order.reclamation_window_ms, tenant=order.tenant, deposit=deposit
    )


def _heard(text: str, config: NodeConfig) -> SignedOrder:
    if not text or set(text) - set("0123456789abcdef"):
        raise Refused("order.unknown", f"{text!r} is neither a file nor the id of an order")
    connection = view(config.market_home / DATABASE)
    try:
        found = connection.execute("SELECT message FROM orders WHERE id LIKE ? LIMIT 2", (f"{text}%",)).fetchall()
    except sqlite3.Error as error:
        raise Refused("market.unreadable", str(error)) from None
    finally:
        connection.close()
    if len(found) != 1:
        raise Refused("order.unknown", f"{len(found) or 'no'} orders heard have an id that begins with {text}")
    return codec.decode(found[0][0], SignedOrder)


async def judge(wish: Wish, told: Settings, inventory: Inventory) -> tuple[Verdict, ...]:
    """Each group by itself. Auditors are not asked: without a node nobody is known to have attested anything."""
    if told.history is not None:
        told.history.refresh()
    agent, rate = told.agent, sum(group.max_price_per_hour for group in wish.groups)
    context = MarketContext(
        provider=PublicKey(b"\x01" * 32),
        tenant=wish.tenant,
        now=Millis(0),
        order_expires_at=Millis(limits.ORDER_LIFE_MS),
        profile=agent.profile,
        pricing=agent.pricing,
        inventory=inventory,
        reclamation_window_ms=wish.reclamation_ms,
        offered_reclamation_ms=agent.reclamation_window_ms,
        bid_life_ms=agent.bid_life_ms,
        policy=replace(agent.policy, allow=frozenset()) if wish.tenant == NOBODY else agent.policy,
        deposit=wish.deposit,
        max_rate=rate,
    )
    verdicts = []
    for group in wish.groups:
        plan = await _decide(group, context, told)
        instead = counter_offers(group, context, plan) if isinstance(plan, DeclinePlan) else ()
        verdicts.append(Verdict(group=group, plan=plan, counter_offers=instead))
    return tuple(verdicts)


async def _decide(group: Group, context: MarketContext, told: Settings) -> BidPlan | DeclinePlan:
    draft = prepare(group, context)
    if isinstance(draft, DeclinePlan):
        return draft
    said = None
    if told.agent.program is not None:
        try:
            said = await told.agent.program.ask(question(draft.units, group.max_price_per_hour), context.tenant)
        except Refused as refusal:
            reason = Reason(dimension="price", asked="one by the pricing program", available=refusal.message)
            return DeclinePlan(reasons=(reason,))
    return conclude(group, context, draft, said)
