"""What waits in the mempool and lies in the book, what there was no room for, and what was refused."""

from __future__ import annotations

from collections.abc import Iterator

from fondaco.node.app import Node
from fondaco.node.metrics.model import Reading, counter, gauge, histogram
from fondaco.protocol import limits

TRANSACTIONS = gauge("mempool_transactions", "Transactions that wait for a block.")
TRANSACTION_BYTES = gauge("mempool_bytes", "Their bytes.")
TRANSACTIONS_LIMIT = gauge("mempool_limit_transactions", "So many may wait.")
BYTES_LIMIT = gauge("mempool_limit_bytes", "So many bytes may wait.")
LATER = gauge("mempool_later_transactions", "Refused by our state, and tried once more after a block.")
REFUSED = counter("mempool_refused", "Transactions that were not taken in.", "code")
REPEATED = counter("mempool_repeated", "Transactions not looked at again, for what is wrong with them was known.")
EVICTED = counter("mempool_evicted", "Transactions that made room for others which pay more.")
DROPPED = counter("mempool_dropped", "Transactions that a block made impossible, or whose time was over.")
RECHECKED = counter("mempool_rechecked", "Looks at a waiting transaction again.")
VERIFY_WAIT = histogram("verify_wait", "How long signatures waited for a thread to check them.")
ITEMS = gauge("book_items", "Items in the book; `early` answers wait for their order.", "kind")
ITEM_BYTES = gauge("book_bytes", "Their bytes, with what is counted around each.", "kind")
ITEMS_LIMIT = gauge("book_limit_items", "So many may be there.", "kind")
ITEM_BYTES_LIMIT = gauge("book_limit_bytes", "So many bytes may be there.", "kind")
SHED = counter("book_shed", "Items put out for want of room.", "kind")
BOOK_REFUSED = counter("book_refused", "Items that were not taken in.", "code")
RECONCILE = counter("book_reconcile", "Rounds with neighbours' books, and what they brought.", "event")
RECONCILE_BYTES = counter("book_reconcile_bytes", "Bytes of answers, to us and to others.", "direction")
MARKET_HEIGHT = gauge("market_height", "Newest block in the market database, where there is one.")
MARKET_SHED = counter("market_shed", "Gossip that the market database had no room for, where there is one.")

METRICS = (
    *(
        TRANSACTIONS,
        TRANSACTION_BYTES,
        TRANSACTIONS_LIMIT,
        BYTES_LIMIT,
        LATER,
        REFUSED,
        REPEATED,
        EVICTED,
        DROPPED,
    ),
    *(RECHECKED, VERIFY_WAIT, ITEMS, ITEM_BYTES, ITEMS_LIMIT, ITEM_BYTES_LIMIT, SHED, BOOK_REFUSED),
    *(RECONCILE, RECONCILE_BYTES, MARKET_HEIGHT, MARKET_SHED),
)


def read(node: Node) -> Iterator[Reading]:
    yield from _mempool(node)
    yield from _book(node)
    if node.market is not None:
        yield MARKET_HEIGHT.at(node.market.height or 0)
        yield MARKET_SHED.at(node.market.shed)


def _mempool(node: Node) -> Iterator[Reading]:
    mempool = node.mempool
    yield TRANSACTIONS.at(len(mempool))
    yield TRANSACTION_BYTES.at(mempool.size)
    yield TRANSACTIONS_LIMIT.at(limits.MEMPOOL_TRANSACTIONS)
    yield BYTES_LIMIT.at(limits.MEMPOOL_BYTES)
    yield LATER.at(len(mempool.later))
    yield from REFUSED.by_code(mempool.refusals)
    yield REPEATED.at(mempool.known.repeated)
    yield EVICTED.at(mempool.evicted)
    yield DROPPED.at(mempool.refused)
    yield RECHECKED.at(mempool.rechecked)
    yield VERIFY_WAIT.at(mempool.verifier.waited)


def _book(node: Node) -> Iterator[Reading]:
    held = node.book.holdings
    for kind, shares in (("order", held.orders), ("answer", held.answers), ("early", held.early)):
        yield ITEMS.at(len(shares), kind)
        yield ITEM_BYTES.at(shares.size, kind)
        yield ITEMS_LIMIT.at(shares.caps.items, kind)
        yield ITEM_BYTES_LIMIT.at(shares.caps.size, kind)
    yield SHED.at(held.counters.shed_orders, "order")
    yield SHED.at(held.counters.shed_answers, "answer")
    yield from BOOK_REFUSED.by_code(node.book.refusals)
    counters = node.reconciler.counters
    for event in ("rounds", "rounds_failed", "pulled", "refused", "served", "served_refused"):
        yield RECONCILE.at(getattr(counters, event), event)
    yield RECONCILE_BYTES.at(counters.bytes_in, "in")
    yield RECONCILE_BYTES.at(counters.bytes_out, "out")
