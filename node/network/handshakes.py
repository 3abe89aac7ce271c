"""How many handshakes a network may ask of us: each costs 20 ms of processor time, and asking costs nothing.

Counted by the /24, or /48, that an address is in: a burst of as many as one address may have sockets, then so
many a second. A socket beyond is closed before a byte of it is read, and whoever is honest comes again.
"""

from __future__ import annotations

from fondaco.node.network.bans import network_of
from fondaco.node.network.budgets import Budgets
from fondaco.protocol import limits

BURST = limits.CONNECTIONS_PER_ADDRESS
PER_S = 10
"""A fifth of a processor for one network."""
NETWORKS = 4_096
"""Networks remembered; of the one that asked longest ago it is forgotten what it has left."""


class HandshakeBudget:
    """What every network has left; times are seconds of the caller's clock."""

    def __init__(self, *, burst: float = BURST, per_s: float = PER_S, networks: int = NETWORKS) -> None:
        self._budgets = Budgets(burst, per_s, kept=networks)

    def spend(self, ip: str, now_s: float) -> bool:
        """Whether the network of `ip` may have one more handshake; it is counted then."""
        return self._budgets.spend(network_of(ip), now_s)
