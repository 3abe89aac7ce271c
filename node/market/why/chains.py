"""The causal chain of each kind of thing."""

from __future__ import annotations

from collections.abc import Callable

from fondaco.consensus.ledger.state import State
from fondaco.node.market.shown import shown
from fondaco.node.market.why.find import Candidate, find
from fondaco.node.market.why.parts import (
    agreement_of,
    bid_step,
    block_steps,
    decline_step,
    event_step,
    item,
    order_step,
    plain_messages,
    transaction_steps,
)
from fondaco.node.market.why.sources import Row, Sources
from fondaco.node.market.why.steps import Answer, Step
from fondaco.protocol import addresses, limits
from fondaco.protocol.reasons import describe
from fondaco.protocol.records import Account, key_account

Told = tuple[str, list[Step]]
"""How it stands, in a sentence, and the steps."""


def why(sources: Sources, text: str) -> Answer:
    """The causal chain of what `text` stands for. Raises what `find` raises."""
    found = find(sources, text)
    said, steps = _CHAINS[found.kind](sources, found)
    return Answer(kind=found.kind, id=found.id, text=said, steps=tuple(steps))


def _lease(sources: Sources, found: Candidate) -> Told:
    lease = sources.row("SELECT * FROM leases WHERE id = ?", found.id)
    assert lease is not None, "it was found there"
    return _standing(lease), _lease_steps(sources, lease)


def _standing(lease: Row) -> str:
    if lease["tenant"] is None:
        known = "opened before this log begins"
    else:
        known = f"{lease['provider']} serves {lease['tenant']} for {lease['price_per_hour']} ucredit/h"
    end = f": {describe(lease['reason'])}" if lease["reason"] is not None else ""
    return f"{known}; {lease['state']}{end}, {lease['paid']} ucredit paid"


def _lease_steps(sources: Sources, lease: Row) -> list[Step]:
    """Order, bids, transaction and block; then everything that happened to the lease and its escrow."""
    steps = list[Step]()
    found = agreement_of(sources, lease)
    opened_by = None
    if found is not None:
        row, agreement = found
        opened_by = row["id"]
        identity = agreement.order_id.hex()
        heard = sources.row("SELECT * FROM orders WHERE id = ?", identity)
        steps.append(order_step(sources, agreement.order, heard))
        bids = _bids(sources, identity, agreement.bid.group)
        mine = _place(bids, agreement.signed_bid.bid.price_per_hour)
        won = f"{mine}, {agreement.bid.price_per_hour} of at most {agreement.group.max_price_per_hour} ucredit/h"
        taken = [one for one in bids if item(one) == agreement.signed_bid]
        steps += [bid_step(sources, item(one), one, won if one in taken else None) for one in bids]
        if not taken:
            steps.append(bid_step(sources, agreement.signed_bid, None, won))
        steps += _declines(sources, identity, agreement.bid.group)
        steps += transaction_steps(sources, row)
    return steps + _what_happened(sources, lease, opened_by)


def _naming(sources: Sources, identity: str) -> list[Row]:
    """The events that name something, and the refusals of what would have."""
    return sources.rows(
        "SELECT DISTINCT e.* FROM events e JOIN mentions m USING (height, position) WHERE m.id = ?"
        " ORDER BY e.height, e.position",
        identity,
    )


def _place(bids: list[Row], price: int) -> str:
    """Where a price stands among the bids heard."""
    prices = [one["price_per_hour"] for one in bids]
    if price not in prices:
        return "no other bid was heard" if not prices else f"{len(prices)} other bids were heard"
    if price == min(prices):
        return f"the lowest of {len(prices)}"
    return f"number {1 + sum(one < price for one in prices)} of {len(prices)} by price"


def _what_happened(sources: Sources, lease: Row, opened_by: str | None) -> list[Step]:
    """The events of a lease and of its deployment's escrow, each transaction before what came of it."""
    rows = sources.rows(
        "SELECT DISTINCT e.* FROM events e JOIN mentions m USING (height, position)"
        " WHERE m.id = ?1 OR (m.id = ?2 AND e.kind IN ('deposited', 'ran_dry', 'resumed', 'refunded'))"
        " ORDER BY e.height, e.position",
        lease["id"],
        lease["deployment"] or "",
    )
    return _with_causes(sources, rows, {opened_by})


def _with_causes(sources: Sources, rows: list[Row], told: set[str | None]) -> list[Step]:
    """Events in order, each transaction and block that brought them told once, before them."""
    steps, told = list[Step](), {*told, None}
    half = limits.WHY_EVENTS // 2
    for place, row in enumerate(rows):
        if half <= place < len(rows) - half:
            if place == half:
                many = len(rows) - 2 * half
                steps.append(Step(what="left_out", text=f"{many} events are not shown", facts={"events": many}))
            continue
        cause = row["transaction_id"]
        if cause not in told:
            told.add(cause)
            transaction = sources.row("SELECT * FROM transactions WHERE id = ?", cause)
            assert transaction is not None, "an event came of it"
            steps += transaction_steps(sources, transaction)
        if row["kind"] != "transaction_applied":  # the transaction itself is told
            steps.append(event_step(row))
    return steps


def _bids(sources: Sources, order: str, group: int | None = None) -> list[Row]:
    return sources.rows(
        "SELECT * FROM bids WHERE order_id = ?1 AND group_index = coalesce(?2, group_index) ORDER BY seen_at, id",
        order,
        group,
    )


def _declines(sources: Sources, order: str, group: int | None = None) -> list[Step]:
    rows = sources.rows(
        "SELECT * FROM declines WHERE order_id = ?1 AND group_index = coalesce(?2, group_index)"
        " ORDER BY seen_at, id",
        order,
        group,
    )
    return [decline_step(sources, item(row), row) for row in rows]


def _order(sources: Sources, found: Candidate) -> Told:
    heard = sources.row("SELECT * FROM orders WHERE id = ?", found.id)
    leases = sources.rows(
        "SELECT * FROM leases WHERE deployment = ?1 OR order_id = ?1 ORDER BY group_index, opened_height, id",
        found.id,
    )
    if leases:
        steps = list[Step]()
        for lease in leases:
            steps += [step for step in _lease_steps(sources, lease) if step not in steps]
        return f"became {len(leases)} leases: {', '.join(lease['id'] for lease in leases)}", steps
    if heard is None:
        steps = _with_causes(sources, _naming(sources, found.id), set())
        return "a deployment opened before this log begins", steps
    bids = _bids(sources, found.id)
    steps = [order_step(sources, item(heard), heard), *(bid_step(sources, item(one), one) for one in bids)]
    steps += _declines(sources, found.id)
    steps += _with_causes(sources, _naming(sources, found.id), set())
    now = sources.row("SELECT CAST(value AS INTEGER) AS now FROM meta WHERE key = 'time_ms'")
    over = now is not None and now["now"] > heard["expires_at"]
    return f"{'expired' if over else 'stands'} without a lease, {len(bids)} bids were heard", steps


def _of_order(sources: Sources, answer: Row, step: Step, said: str) -> Told:
    """What is told of an answer to an order: the order, the answer, and what became of its group."""
    heard = sources.row("SELECT * FROM orders WHERE id = ?", answer["order_id"])
    steps = [] if heard is None else [order_step(sources, item(heard), heard)]
    lease = sources.row(
        "SELECT * FROM leases WHERE order_id = ? AND order_group = ?", answer["order_id"], answer["group_index"]
    )
    steps.append(step)
    if lease is None:
        return f"{said}; no lease came of the order", steps
    steps.append(
        Step(
            what="outcome",
            text=f"the group went to {lease['provider']} for {lease['price_per_hour']} ucredit/h",
            time_ms=lease["opened_at"],
            height=lease["opened_height"],
            facts={"lease": lease["id"]},
        )
    )
    return f"{said}; lease {lease['id']} went to {lease['provider']}", steps


def _bid(sources: Sources, found: Candidate) -> Told:
    row = sources.row("SELECT * FROM bids WHERE id = ?", found.id)
    assert row is not None, "it was found there"
    lease = sources.row(
        "SELECT * FROM leases WHERE order_id = ? AND order_group = ?", row["order_id"], row["group_index"]
    )
    agreed = None if lease is None else agreement_of(sources, lease)
    if lease is not None and agreed is not None and agreed[1].signed_bid == item(row):
        return f"it won: lease {lease['id']}", _lease_steps(sources, lease)
    place = _place(_bids(sources, row["order_id"], row["group_index"]), row["price_per_hour"])
    return _of_order(sources, row, bid_step(sources, item(row), row), f"it did not win, {place}")


def _decline(sources: Sources, found: Candidate) -> Told:
    row = sources.row("SELECT * FROM declines WHERE id = ?", found.id)
    assert row is not None, "it was found there"
    return _of_order(sources, row, decline_step(sources, item(row), row), "a signed refusal")


def _transaction(sources: Sources, found: Candidate) -> Told:
    row = sources.row("SELECT * FROM transactions WHERE id = ?", found.id)
    assert row is not None, "it was found there"
    first, *rest = transaction_steps(sources, row)
    first.facts["messages"] = plain_messages(sources, row)
    events = sources.rows(
        "SELECT * FROM events WHERE transaction_id = ? AND kind != 'transaction_applied' ORDER BY position",
        found.id,
    )
    said = f"refused: {row['code']}" if row["code"] else "it took effect"
    return f"in block {row['height']}; {said}", [first, *rest, *_with_causes(sources, events, {found.id})]


def _block(sources: Sources, found: Candidate) -> Told:
    height = int(found.id)
    events = sources.rows(
        "SELECT *, NULL AS transaction_id FROM events WHERE height = ? ORDER BY position", height
    )
    steps = block_steps(sources, height)
    row = sources.row("SELECT transactions, proposer FROM blocks WHERE height = ?", height)
    assert row is not None, "it was found there"
    happened = sources.block(height)
    if happened is not None:
        header = shown(happened.block.header)
        steps[0].facts["header"] = header
    text = f"made by {row['proposer']}, {row['transactions']} transactions, {len(events)} events"
    return text, [*steps, *_with_causes(sources, events, set())]


def _account(sources: Sources, found: Candidate) -> Told:
    """What came and went: events that name it, and transactions it sent."""
    rows = sources.rows(
        "SELECT e.* FROM events e JOIN mentions m USING (height, position) WHERE m.id = ?1"
        " UNION SELECT e.* FROM events e JOIN transactions t ON t.id = e.transaction_id"
        " WHERE t.sender = ?1 AND e.kind = 'transaction_applied' ORDER BY 1, 2",
        found.id,
    )
    account = State(sources.store).get(key_account(addresses.decode(found.id)), Account)
    if account is None:
        text = "it has no account in the newest state"
    else:
        text = f"{account.credits} ucredit and {account.stake} ustake"
    return text, _with_causes(sources, rows, set())


_CHAINS: dict[str, Callable[[Sources, Candidate], Told]] = {
    "account": _account,
    "order": _order,
    "bid": _bid,
    "decline": _decline,
    "lease": _lease,
    "transaction": _transaction,
    "block": _block,
}
