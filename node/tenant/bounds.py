"""What a tenant's own services and routers may grow to."""

from __future__ import annotations

from fondaco.protocol.limits import CHANNEL_STREAMS_PER_PEER, KIB

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
