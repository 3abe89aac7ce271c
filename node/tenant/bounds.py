"""What a tenant's own services, routers, orders and measurements may grow to, and what it hears of nodes."""

from __future__ import annotations

from fondaco.protocol.limits import (
    BID_SERIALS,
    BOOK_ANSWERS_PER_ORDER,
    CHANNEL_STREAMS_PER_PEER,
    KIB,
    MIB,
    PROVIDERS_LISTED,
    RESERVATIONS_PER_TENANT,
)

SERVICE_REPLICAS = 32
"""Deployments under one name."""
ROUTE_CONNECTIONS = 512
"""A router carries at once; further ones wait to be accepted."""
ROUTE_STREAMS_PER_REPLICA = CHANNEL_STREAMS_PER_PEER - 16
"""Some are left for looks at how it is."""
ROUTE_IDLE_PER_REPLICA = 8
"""Connections to a workload that are kept for the next request."""
ROUTE_REPLAY_BYTES = 256 * KIB
"""The longest body of a request that is kept to be sent again."""
BUDGET_ENTRIES = 4_096
"""Outgoing sums of a week that are told apart."""
OPEN_ORDERS = 64
"""Orders made by hand that are remembered at once."""
SERVES_WITHIN_MS = 5_000
"""From its activation on, how long a workload is tried in vain until its lease is closed as not serving."""

WITHHELD_GRACE_S = 3.0
"""So long after others told of an answer a node may still have it to come: books compare within seconds."""
ANSWERS_PER_NODE = BOOK_ANSWERS_PER_ORDER * (BID_SERIALS + 1)
"""That one node tells of one order: as many as a book holds, each improved as often as it may be."""
STRANGERS_PER_NODE = 8
"""Answers, that one node tells of one order, of who is proven to be no provider: it may be a block ahead."""
CLAIMS_PROVEN = 4
"""Providers that one node alone names, of which it has to prove that the ledger holds them."""

DAY_MS = 86_400_000
LATENCY_PROBES = 20
"""Of one measurement, unless more are asked for; fewer are not enough to go by."""
LATENCY_SAMPLES = 100
"""Of one provider from one vantage: those of one measurement, and the newest kept."""
LATENCY_PROVIDERS = PROVIDERS_LISTED
"""Of one vantage; those measured last are kept."""
LATENCY_VANTAGES = 16
"""Kept in one home, and looked from at a time."""
LATENCY_FILE_BYTES = 6 * MIB
LATENCY_KEPT_MS = 7 * DAY_MS
"""What is older is forgotten, and not taken from a file either."""
LATENCY_FRESH_MS = 3_600_000
"""Who was measured so lately is not measured again for an order."""
LATENCY_AHEAD_MS = 600_000
"""So far another machine's clock may be before ours."""
LATENCY_AT_ONCE = 16
"""Providers measured at a time; more would wait for our own processor, and seem slow."""
LATENCY_BIDDERS = BOOK_ANSWERS_PER_ORDER
"""Measured for one order."""
LATENCY_PATIENCE_MS = 4_000
"""For what is still being measured when the bids are in; who is not done by then is not known."""
LATENCY_DIALS = 3
"""Addresses of one provider that are tried."""
LATENCY_LINGER_MS = 60_000
"""So long a connection that was made to measure a bidder is left, since whoever is chosen is called next."""

ORDERS_AT_ONCE = RESERVATIONS_PER_TENANT // 2
"""Of one tenant's deployments, so many have no lease yet; another half is left to its other programs."""
