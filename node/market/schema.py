"""The tables of `market.db`: their columns, keys and meanings, from which SQL, API models and metadata are made.

Ledger tables are a function of the blocks alone: two nodes that began at the same height have the same rows.
Gossip tables say what this node heard, and when. Accounts are addresses, ids hexadecimal, moments milliseconds
since the Unix epoch, money ucredit. What happened before the start of the log (`meta`, `start_height`) is NULL
where it is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

VERSION = "3"
"""Of these tables; a database of another one is built anew."""
LEDGER, GOSSIP = "ledger", "gossip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str
    kind: str
    """INTEGER, TEXT, BLOB, or JSON, which is text to SQLite."""
    meaning: str
    nullable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    name: str
    source: str
    """`ledger` or `gossip`."""
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    indexes: tuple[tuple[str, ...], ...]

    def create(self) -> Iterator[str]:
        """The statements that make it."""
        columns = [
            f"{one.name} {'TEXT' if one.kind == 'JSON' else one.kind}{'' if one.nullable else ' NOT NULL'}"
            for one in self.columns
        ]
        yield f"CREATE TABLE {self.name} ({', '.join(columns)}, PRIMARY KEY ({', '.join(self.key)}))"
        for index in self.indexes:
            yield f"CREATE INDEX {self.name}_{'_'.join(index)} ON {self.name} ({', '.join(index)})"


def _table(
    name: str, source: str, meaning: str, key: str, columns: str, indexes: tuple[tuple[str, ...], ...] = ()
) -> Table:
    """`columns`: a line each, `name KIND[?] meaning`; `?` marks what may be NULL."""
    found = []
    for line in columns.strip().splitlines():
        column, kind, said = line.split(maxsplit=2)
        found.append(Column(name=column, kind=kind.removesuffix("?"), meaning=said, nullable=kind.endswith("?")))
    return Table(
        name=name,
        source=source,
        meaning=meaning,
        key=tuple(key.split()),
        columns=tuple(found),
        indexes=indexes,
    )


AMOUNTS = """
cpu_milli INTEGER? milli-CPUs, over all replicas
memory_bytes INTEGER? bytes of memory, over all replicas
gpu_units INTEGER? GPUs, over all replicas
storage_bytes INTEGER? bytes of storage, over all replicas
""".strip()

_META = _table(
    "meta",
    LEDGER,
    "What this database is, and how far it goes.",
    "key",
    """
    key TEXT chain, schema, start_height, start_ms, height, time_ms, number
    value TEXT its value
    """,
)
_BLOCKS = _table(
    "blocks",
    LEDGER,
    "One row a block, with who made it and how much power signed it.",
    "height",
    """
    height INTEGER its place in the chain
    time_ms INTEGER block time
    hash TEXT of its header
    proposer TEXT who made it
    round INTEGER in which it was decided, from 0
    signatures INTEGER validators that signed
    validators INTEGER validators that might have
    signed_power INTEGER voting power that signed
    total_power INTEGER voting power there was
    transactions INTEGER how many are in it
    events INTEGER how many came of it
    bytes INTEGER length of the whole block
    """,
    (("hash",), ("time_ms",)),
)
_TRANSACTIONS = _table(
    "transactions",
    LEDGER,
    "Every transaction that is in a block, refused ones too.",
    "id",
    """
    id TEXT hash of its signed bytes
    height INTEGER of its block
    position INTEGER in that block, from 0
    time_ms INTEGER block time
    sender TEXT who signed and paid it
    fee INTEGER ucredit taken
    tip INTEGER ucredit given to the proposer on top
    code TEXT why its messages were refused; empty where they took effect
    message TEXT the refusal in words, as this node puts it
    messages TEXT kinds of its messages, with commas
    bytes INTEGER its length
    """,
    (("height", "position"), ("sender", "time_ms"), ("time_ms",)),
)
_EVENTS = _table(
    "events",
    LEDGER,
    "Everything the ledger says happened, in its order.",
    "height position",
    """
    height INTEGER of the block
    position INTEGER among the events of the block, from 0
    time_ms INTEGER block time; what fell due is handled with the next block
    kind TEXT which event
    transaction_id TEXT? the transaction it came of; none for what came by itself
    data JSON its fields
    """,
    (("kind", "time_ms"), ("time_ms",), ("transaction_id",)),
)
_MENTIONS = _table(
    "mentions",
    LEDGER,
    "Which accounts, leases and deployments an event names; a refusal, those of what was refused.",
    "id height position role",
    """
    id TEXT an address, or an id in hexadecimal
    height INTEGER of the event
    position INTEGER of the event
    role TEXT the event's field that names it, or `refused`
    """,
)
_DEPLOYMENTS = _table(
    "deployments",
    LEDGER,
    "Orders that became leases, with what went through their escrow.",
    "id",
    """
    id TEXT the order's id
    tenant TEXT? who ordered
    state TEXT open, grace or closed
    opened_height INTEGER? of the block that opened it
    opened_at INTEGER? block time then
    deposited INTEGER ucredit put in, by anybody
    paid INTEGER ucredit paid to providers
    fees INTEGER ucredit taken for hand-offs that lapsed
    refunded INTEGER ucredit given back
    dry_at INTEGER? block time at which the escrow was found dry; only in grace
    closed_at INTEGER? block time at which its last lease ended
    """,
    (("tenant", "opened_at"), ("opened_at",)),
)
_LEASES = _table(
    "leases",
    LEDGER,
    "Every group that a provider serves or served.",
    "id",
    f"""
    id TEXT the lease
    deployment TEXT? the deployment it belongs to
    order_id TEXT? the order it came of
    order_group INTEGER? which group of that order
    group_index INTEGER? which group of the deployment
    group_name TEXT? what the tenant calls the group
    tenant TEXT? who pays
    provider TEXT? who serves
    price_per_hour INTEGER? ucredit an hour for the whole group
    max_price_per_hour INTEGER? what the order would have paid
    {AMOUNTS}
    gpu_model TEXT? the models leased, with commas; empty for none
    state TEXT awaiting, active or closed
    opened_height INTEGER? of the block that opened it
    opened_at INTEGER? block time then
    activated_at INTEGER? block time at which it was handed over
    closed_at INTEGER? block time at which it was found ended
    reason INTEGER? why it ended
    paid INTEGER ucredit paid to the provider so far
    transaction_id TEXT? the transaction that opened it
    replaced_by TEXT? the lease that took its place
    """,
    (
        ("deployment",),
        ("order_id",),
        ("provider", "opened_at"),
        ("tenant", "opened_at"),
        ("opened_at",),
        ("state", "opened_at"),
    ),
)
_LEASE_GPUS = _table(
    "lease_gpus",
    LEDGER,
    "The GPUs of a lease by model.",
    "lease model",
    """
    lease TEXT the lease
    model TEXT `h100`, or `h100 80Gi sxm`; several with ` or ` where the provider named several
    units INTEGER GPUs, over all replicas
    """,
    (("model",),),
)
_PAYMENTS = _table(
    "payments",
    LEDGER,
    "Money into, out of and back from escrow.",
    "height position",
    """
    height INTEGER of the block
    position INTEGER of the event
    time_ms INTEGER block time
    kind TEXT deposit, payment, refund or handoff_fee
    deployment TEXT? whose escrow
    lease TEXT? for which lease; none for deposits and refunds
    account TEXT? who put it in or got it; none where it went to the community
    amount INTEGER ucredit
    """,
    (("lease",), ("deployment",), ("account", "time_ms"), ("kind", "time_ms")),
)
_PROVIDERS = _table(
    "providers",
    LEDGER,
    "Who offers compute, and what it says of itself.",
    "address",
    """
    address TEXT its account
    registered_at INTEGER? block time of its first registration here
    updated_height INTEGER of its newest registration
    bond INTEGER ustake behind it
    attributes JSON what it says of itself
    peer TEXT peer id that serves its channel
    endpoints JSON where to dial it
    """,
)
_ATTESTATIONS = _table(
    "attestations",
    LEDGER,
    "What auditors say of providers.",
    "provider auditor",
    """
    provider TEXT of whom
    auditor TEXT who says it
    attributes JSON what is attested
    expires_at INTEGER? until when
    evidence TEXT? hash of what it rests on
    height INTEGER of the block
    time_ms INTEGER block time
    """,
)
_UTILISATION = _table(
    "utilisation",
    LEDGER,
    "What is leased from a provider after each change: a step function of block time.",
    "height position",
    """
    height INTEGER of the block
    position INTEGER of the event that changed it
    time_ms INTEGER block time
    provider TEXT whose
    leases INTEGER open ones
    cpu_milli INTEGER leased milli-CPUs
    memory_bytes INTEGER leased memory
    gpu_units INTEGER leased GPUs
    storage_bytes INTEGER leased storage
    """,
    (("provider", "height", "position"),),
)
SEEN = """
seen_at INTEGER this node's clock when it came
seen_height INTEGER the newest block then
message BLOB the signed message as it came
""".strip()
_ORDERS = _table(
    "orders",
    GOSSIP,
    "Orders this node took into its book.",
    "id",
    f"""
    id TEXT hash of its signed bytes
    tenant TEXT who asks
    groups JSON name, highest price and models of each group
    max_price_per_hour INTEGER ucredit, over all groups
    {AMOUNTS}
    deposit INTEGER ucredit the tenant is ready to put in escrow
    reclamation_window_ms INTEGER shortest notice it accepts; 0 for none
    expires_at INTEGER block time until which it stands
    {SEEN}
    """,
    (("tenant", "seen_at"), ("seen_at",)),
)
_BIDS = _table(
    "bids",
    GOSSIP,
    "Bids this node took into its book.",
    "id",
    f"""
    id TEXT hash of its signed bytes
    order_id TEXT the order
    group_index INTEGER which group of it
    provider TEXT who bids
    price_per_hour INTEGER ucredit for the whole group
    {AMOUNTS}
    gpu_model TEXT the models offered, with commas; empty for none
    serial INTEGER a higher one replaces a lower one
    reclamation_window_ms INTEGER notice it promises; 0 for none
    expires_at INTEGER block time until which it binds
    {SEEN}
    """,
    (("order_id", "seen_at"), ("provider", "seen_at"), ("seen_at",)),
)
_DECLINES = _table(
    "declines",
    GOSSIP,
    "Signed refusals this node took into its book.",
    "id",
    f"""
    id TEXT hash of its signed bytes
    order_id TEXT the order
    group_index INTEGER which group of it
    provider TEXT who declines
    reasons JSON every dimension that failed with its numbers
    counter_offers JSON what it would bid on instead: one change each, and the price for it
    expires_at INTEGER block time until which it stands
    {SEEN}
    """,
    (("order_id", "seen_at"), ("provider", "seen_at"), ("seen_at",)),
)
_OFFERS = _table(
    "offers",
    GOSSIP,
    "What providers say they have, and what of it is free.",
    "provider resource model",
    """
    provider TEXT who offers
    resource TEXT cpu_milli, memory_bytes, storage_bytes or gpu_units
    model TEXT the GPU's model or the storage's class; empty for what has none
    total INTEGER all there is
    free INTEGER what is not leased
    price_per_hour INTEGER? indicative, ucredit for a CPU, a GiB or a GPU
    serial INTEGER of the offer
    expires_at INTEGER block time until which it stands
    seen_at INTEGER this node's clock when it came
    """,
)
TABLES = {
    table.name: table
    for table in (
        _META,
        _BLOCKS,
        _TRANSACTIONS,
        _EVENTS,
        _MENTIONS,
        _DEPLOYMENTS,
        _LEASES,
        _LEASE_GPUS,
        _PAYMENTS,
        _PROVIDERS,
        _ATTESTATIONS,
        _UTILISATION,
        _ORDERS,
        _BIDS,
        _DECLINES,
        _OFFERS,
    )
}
