"""What a tenant's own services and routers may grow to, and what it hears of nodes."""

from __future__ import annotations

from fondaco.protocol.limits import BID_SERIALS, BOOK_ANSWERS_PER_ORDER, CHANNEL_STREAMS_PER_PEER, KIB

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
