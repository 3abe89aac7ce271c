"""The links a causal chain is made of: something signed, the block that has it, the events that came of it."""

from __future__ import annotations

import json
from typing import Any

from fondaco.node.market.agreements import Agreement, agreements
from fondaco.node.market.shown import address, shown
from fondaco.node.market.why.sources import Row, Sources
from fondaco.node.market.why.steps import Step
from fondaco.protocol import codec
from fondaco.protocol.market import Bid, Order, SignedBid, SignedDecline, SignedOrder
from fondaco.protocol.offers import GossipItem
from fondaco.protocol.reasons import describe
from fondaco.protocol.scalars import PublicKey
from fondaco.protocol.signing import message_id


def signature(sources: Sources, key: PublicKey, message: Any, given: Any) -> dict[str, Any]:
    """Who signed, with what, and whether it holds."""
    return {
        "signed_by": address(key),
        "signature": given.hex(),
        "signature_holds": sources.signed(key, message, given),
    }


def order_step(sources: Sources, signed: SignedOrder, heard: Row | None) -> Step:
    order: Order = signed.order
    groups = ", ".join(f"{one.name} for at most {one.max_price_per_hour} ucredit/h" for one in order.groups)
    return Step(
        what="order",
        text=f"{address(order.tenant)} orders {groups}"
        + ("" if heard else " (not heard here; as the block has it)"),
        time_ms=heard["seen_at"] if heard else None,
        height=heard["seen_height"] if heard else None,
        facts={
            "id": message_id(sources.chain, order).hex(),
            "deposit": order.deposit,
            "expires_at": order.expires_at,
            **signature(sources, order.tenant, order, signed.signature),
        },
    )


def bid_step(sources: Sources, signed: SignedBid, heard: Row | None, won: str | None = None) -> Step:
    """`won`: why, if it did."""
    bid: Bid = signed.bid
    outcome = "" if won is None else f"; it won: {won}"
    return Step(
        what="bid",
        text=f"{address(bid.provider)} bids {bid.price_per_hour} ucredit/h for group {bid.group}{outcome}",
        time_ms=heard["seen_at"] if heard else None,
        height=heard["seen_height"] if heard else None,
        facts={
            "id": message_id(sources.chain, bid).hex(),
            "serial": bid.serial,
            "expires_at": bid.expires_at,
            **signature(sources, bid.provider, bid, signed.signature),
        },
    )


def decline_step(sources: Sources, signed: SignedDecline, heard: Row) -> Step:
    decline = signed.decline
    reasons = "; ".join(map(str, decline.reasons))
    instead = "; or ".join(map(str, decline.counter_offers))
    told = f"{address(decline.provider)} declines group {decline.group}: {reasons}"
    return Step(
        what="decline",
        text=f"{told}; it would serve {instead}" if instead else told,
        time_ms=heard["seen_at"],
        height=heard["seen_height"],
        facts={
            "id": message_id(sources.chain, decline).hex(),
            **signature(sources, decline.provider, decline, signed.signature),
        },
    )


def item(row: Row) -> Any:
    """The signed message of a row of orders, bids or declines."""
    return codec.decode_union(row["message"], GossipItem)


def transaction_steps(sources: Sources, row: Row) -> list[Step]:
    """A transaction as it was signed, and the block it is in."""
    signed = sources.transaction(row)
    kinds = row["messages"].replace(",", ", ")
    outcome = f", refused: {row['message'] or row['code']} [{row['code']}]" if row["code"] else ""
    facts: dict[str, Any] = {"id": row["id"], "fee": row["fee"], "tip": row["tip"]}
    if signed is not None:
        transaction = signed.transaction
        facts |= signature(sources, transaction.sender, transaction, signed.signature)
    step = Step(
        what="transaction",
        text=f"{row['sender']} sends {kinds}{outcome}",
        time_ms=row["time_ms"],
        height=row["height"],
        facts=facts,
    )
    return [step, *block_steps(sources, row["height"])]


def block_steps(sources: Sources, height: int) -> list[Step]:
    """A block: who made it, and by whose votes it is final."""
    row = sources.row("SELECT * FROM blocks WHERE height = ?", height)
    if row is None:
        return []
    facts: dict[str, Any] = {
        "hash": row["hash"],
        "proposer": row["proposer"],
        "round": row["round"],
        "signed_power": row["signed_power"],
        "total_power": row["total_power"],
    }
    happened = sources.block(height)
    if happened is not None:
        verdict = sources.judge(happened.certificate)
        facts["certificate_holds"] = verdict.holds
        facts["signatures"] = {address(key): given.hex() for key, given in verdict.signers}
    power = f"{row['signed_power']} of {row['total_power']}"
    text = f"block {height} is final in round {row['round']}, signed by power {power}"
    return [Step(what="block", text=text, time_ms=row["time_ms"], height=height, facts=facts)]


def event_step(row: Row) -> Step:
    data = json.loads(row["data"])
    return Step(
        what="event",
        text=_told(row["kind"], data),
        time_ms=row["time_ms"],
        height=row["height"],
        facts={"event": row["kind"], "position": row["position"], **data},
    )


def _told(kind: str, data: dict[str, Any]) -> str:
    """An event in a sentence; one that has none of its own is told by its name."""
    sentences = {
        "lease_opened": "the lease is opened at {price_per_hour} ucredit/h with {provider}",
        "deposited": "{depositor} deposits {amount} ucredit",
        "lease_activated": "the workload is handed over: the lease is active",
        "paid": "{provider} is paid {amount} ucredit",
        "royalty_paid": "{amount} ucredit of that go to {author}, an author of its template",
        "ran_dry": "the escrow is dry, {debt} ucredit are owed",
        "resumed": "the escrow is filled again: the lease goes on",
        "lease_closed": "the lease is closed after {paid} ucredit paid: {reason}",
        "refunded": "{depositor} gets {amount} ucredit back",
        "handoff_lapsed": "the lease ends without a hand-off: {fee} ucredit go to the community",
        "lease_replaced": "another lease takes its place: {by}",
        "manifest_updated": "its tenant wants version {version} of the manifest to run",
        "lease_reclaimed": "its provider wants it back, and the lease ends at {at}: {reason}",
        "transferred": "{sender} pays {to} {amount} ucredit",
        "minted": "{to} gets {credits} ucredit and {stake} ustake, newly made",
        "provider_registered": "{provider} is a provider, {bond} ustake behind it",
    }
    sentence = sentences.get(kind)
    if sentence is None:
        return kind.replace("_", " ") + ": " + ", ".join(f"{name} {value}" for name, value in data.items())
    return sentence.format(**{**data, "reason": describe(data["reason"]) if "reason" in data else ""})


def agreement_of(sources: Sources, lease: Row) -> tuple[Row, Agreement] | None:
    """The transaction that opened a lease, and order and bid as it has them; None from before the log's start."""
    row = sources.row("SELECT * FROM transactions WHERE id = ?", lease["transaction_id"])
    signed = None if row is None else sources.transaction(row)
    if row is None or signed is None:
        return None
    place = (lease["order_id"], lease["order_group"])
    found = agreements(sources.chain, signed.transaction)
    return row, next(one for one in found if (one.order_id.hex(), one.bid.group) == place)


def plain_messages(sources: Sources, row: Row) -> list[Any]:
    """The messages of a transaction as JSON values."""
    signed = sources.transaction(row)
    return [] if signed is None else [shown(one) for one in signed.transaction.messages]
